"""The documentation as a site: ``python -m sphinx -W --keep-going docs build/site``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from bbrl_exp import __version__

project = "bbrl_exp"
author = "the contributors of bbrl_exp"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "docstrings",
    "generated_tables",
    "repository_files",
    "without_other_hosts",
]
exclude_patterns = ["extensions"]
nitpicky = True
# Names of other packages, whose documentation needs a network to be linked; private names; names of unions.
nitpick_ignore_regex = [
    ("py:.*", r"(torch|numpy|gymnasium|omegaconf|os|abc|collections|pathlib)\..*"),
    ("py:.*", r"(.*\.)?_\w+"),
    ("py:.*", r"Acting|Which|NotCompilableError|.*\.(BuiltLater|Recording|Experience|Drawn|Compiler|CompiledUpdates)"),
]

# Markdown
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True

# Docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
napoleon_use_ivar = True

# Pages
html_theme = "furo"
html_math_renderer = "mathml"
html_title = "bbrl_exp"
html_static_path = ["style"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = "$ "
