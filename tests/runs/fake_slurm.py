"""Slurm's commands as far as submitit uses them, as scripts in a folder: what is submitted really runs, here.

``sbatch`` starts each task of the array in the background, with Slurm's variables; ``srun`` becomes the command;
``sacct`` knows of nothing.
"""

import sys
from pathlib import Path

_SBATCH = """#!{python}
import os, re, shutil, subprocess, sys

spooled = sys.argv[0] + ".spooled"
shutil.copy(sys.argv[1], spooled)
n_tasks = 1 + int(re.search(r"^#SBATCH --array=0-([0-9]+)", open(spooled).read(), re.MULTILINE)[1])
for task in range(n_tasks):
    variables = dict(JOB_ID=700 + task, ARRAY_JOB_ID=700, ARRAY_TASK_ID=task, JOB_NUM_NODES=1, NTASKS=1)
    variables |= dict(NODEID=0, PROCID=0, LOCALID=0)
    environment = os.environ | {{"SLURM_" + name: str(value) for name, value in variables.items()}}
    nothing = subprocess.DEVNULL
    subprocess.Popen(["bash", spooled], env=environment, stdin=nothing, stdout=nothing, stderr=nothing)
print("Submitted batch job 700")
"""
_SRUN = """#!{python}
import os, sys

rest, options = sys.argv[1:], {{}}
while rest[0].startswith("--"):
    name = rest.pop(0)
    options[name] = None if name == "--unbuffered" else rest.pop(0)
for name, descriptor in (("--output", 1), ("--error", 2)):
    path = options[name].replace("%A", "700").replace("%a", os.environ["SLURM_ARRAY_TASK_ID"]).replace("%t", "0")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
os.execvp(rest[0], rest)
"""
_SACCT = """#!{python}
print("JobID|State|NodeList")
"""


def install(folder: Path) -> None:
    """Writes the commands into a new folder, which is to stand on the path."""
    folder.mkdir()
    for name, text in (("sbatch", _SBATCH), ("srun", _SRUN), ("sacct", _SACCT)):
        script = folder / name
        script.write_text(text.format(python=sys.executable))
        script.chmod(0o755)
