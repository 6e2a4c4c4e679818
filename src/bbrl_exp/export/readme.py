"""The model card of a policy: ``README.md`` of a folder that is ready for the Hugging Face hub."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]

from bbrl_exp.export.onnx_file import SUFFIX
from bbrl_exp.export.step import START
from bbrl_exp.records.metrics import ACTIONS_IN_WORDS
from bbrl_exp.text import markdown_table

_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
_REWARD = "env/reward"
_MEANING = {START: ", true where an episode begins", _REWARD: ", of the step before, 0 where an episode begins"}
_TASK = "reinforcement-learning"


def readme_of(card: Mapping[str, Any], files: Mapping[str, str], animation: str | None) -> str:
    """The text of the page.

    Args:
        card: of the policy; ``onnx`` is what the comparison of the ONNX model has found, if there is one.
        files: of the folder: name → what it is.
        animation: name of the animation, None if there is none.
    """
    return f"---\n{yaml.safe_dump(_front_matter(card), sort_keys=False)}---\n\n{_body(card, files, animation)}"


def _front_matter(card: Mapping[str, Any]) -> dict[str, Any]:
    run = card["run"]
    metrics = []
    for evaluation in _evaluations(card):
        how = ACTIONS_IN_WORDS[evaluation["actions"]]
        returns = f"{evaluation['return_mean']:.2f} +/- {evaluation['return_std']:.2f}"
        metrics.append(_metric("mean_reward", how, returns))
        if "success_rate" in evaluation:
            metrics.append(_metric("success_rate", how, evaluation["success_rate"]))
    dataset = {"name": run["env_id"], "type": run["env_id"]}
    result = {"task": {"type": _TASK, "name": _TASK}, "dataset": dataset, "metrics": metrics}
    return {
        "library_name": "bbrl_exp",
        "pipeline_tag": _TASK,
        "tags": [run["env_id"], run["agent"], _TASK, "deep-reinforcement-learning", "bbrl_exp"],
        "model-index": [{"name": run["agent"], "results": [result]}],
    }


def _metric(kind: str, how: str, value: object) -> dict[str, Any]:
    return {"type": kind, "value": value, "name": f"{kind}, {how}", "verified": False}


def _evaluations(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """That by which the run is judged, and that of the ONNX model where it acts in another way."""
    found = [card["evaluation"]]
    if "onnx" in card and (compared := card["onnx"]["compared"]["evaluation"])["actions"] != found[0]["actions"]:
        found.append(compared)
    return found


def _body(card: Mapping[str, Any], files: Mapping[str, str], animation: str | None) -> str:
    run, evaluation = card["run"], card["evaluation"]
    parts = [
        f"# {run['agent']} in {run['env_id']}",
        f"A policy of the agent `{run['agent']}` for `{run['env_id']}`, trained by bbrl_exp for {run['env_steps']:,} "
        "environment steps.",
    ]
    if animation is not None and animation.endswith(".gif"):
        parts.append(f"![the policy in its environment]({animation})")
    elif animation is not None:
        parts.append(f'<video src="{animation}" controls autoplay loop muted></video>')
    rows = [row for each in _evaluations(card) for row in _results(each)]
    rows += [
        ["episodes", f"{evaluation['episodes']}"],
        ["seed of the episodes", f"{evaluation['seed']}"],
        ["seed of the training", f"{run['seed']}"],
        ["policy", f"{run['policy']}, after {run['env_steps']:,} environment steps"],
        ["run", f"{run['status']} when the policy was exported"],
        ["commit", f"{run['git_commit'] or 'not known'}"],
        ["configuration", f"`config.yaml`, hash {run['config_hash']}"],
        ["versions", ", ".join(f"{name} {version}" for name, version in (run["versions"] or {}).items())],
    ]
    parts += ["## Evaluation", markdown_table(["", "value"], rows)]
    parts += ["## Files", markdown_table(["file", "what it is"], [[f"`{name}`", what] for name, what in files.items()])]
    parts += ["## Use it", _use(card)]
    if "onnx" in card:
        parts += [f"Without bbrl_exp, by onnxruntime ({ACTIONS_IN_WORDS['mode']}):", _program(card)]
    parts += ["## Train it again", f"```sh\n{_command(run)}\n```"]
    return "\n\n".join(parts) + "\n"


_USE = """With `pip install "bbrl_exp[export]"`:

```python
from bbrl_exp import load_policy

policy = load_policy("policy.safetensors")
action, state = policy.act(observation, state)  # state=None begins an episode
```"""


def _use(card: Mapping[str, Any]) -> str:
    more = [] if card["evaluation"]["actions"] == "mode" else ["sample=True"]
    if _REWARD in card.get("onnx", {}).get("inputs", {}):
        more.append(f'variables={{"{_REWARD}": reward}}')
    return _USE.replace("(observation, state)", f"({', '.join(['observation, state', *more])})")


def _results(evaluation: Mapping[str, Any]) -> list[list[str]]:
    """Rows of the table, which say how the actions were chosen."""
    how = ACTIONS_IN_WORDS[evaluation["actions"]]
    rows = [[f"mean return, {how}", f"{evaluation['return_mean']:.6g} ± {evaluation['return_std']:.4g}"]]
    if "success_rate" in evaluation:
        rows.append([f"success rate, {how}", f"{evaluation['success_rate']:.4g}"])
    if evaluation.get("cut"):
        rows.append([f"episodes cut, {how}", f"{evaluation['cut']}; the environment sets no limit"])
    return rows


def _program(card: Mapping[str, Any]) -> str:
    """The lines that run the ONNX model, with its own inputs and outputs."""
    inputs, outputs = card["onnx"]["inputs"], card["onnx"]["outputs"]
    memory = [name for name in inputs if f"next_{name}" in outputs]
    found = [_variable(name.removeprefix("next_")) for name in outputs]
    lines = [
        "import numpy as np",
        "import onnxruntime",
        "",
        f'policy = onnxruntime.InferenceSession("policy{SUFFIX}")',
        *(f"# {_variable(name)}: {_in_words(*inputs[name])}{_MEANING.get(name, '')}" for name in inputs),
        *(f"{_variable(name)} = np.zeros({_zeros(*inputs[name])})  # when the program starts" for name in memory),
        f"{', '.join(found)}{',' * (len(found) == 1)} = policy.run(None, {{",
        *(f'    "{name}": {_variable(name)},' for name in inputs),
        "})",
    ]
    return "\n".join(["```python", *lines, "```"])


def _in_words(kind: str, shape: list[Any]) -> str:
    """``float32 [batch, 3]``."""
    return f"{_DTYPES.get(kind, kind[7:-1])} [{', '.join(map(str, shape))}]"


def _zeros(kind: str, shape: list[Any]) -> str:
    sizes = ", ".join(map(str, (1, *shape[1:])))
    return f'({sizes}{"," * (len(shape) == 1)}), "{_DTYPES.get(kind, kind[7:-1])}"'


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _command(run: Mapping[str, Any]) -> str:
    return shlex.join(["bbrl-exp", "run", *(text for text in run["overrides"] or () if not text.startswith("name="))])
