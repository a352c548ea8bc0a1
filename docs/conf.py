"""How Sphinx builds the site: ``make docs``. Everything it shows works offline."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generate

import shiftkit

project = "shiftkit"
author = "the shiftkit developers"
project_copyright = "the shiftkit developers"
version = release = shiftkit.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]
root_doc = "index"
exclude_patterns = ["gallery/README.md"]
html_theme = "furo"
html_title = f"shiftkit {version}"
html_show_sourcelink = False
pygments_style = "friendly"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Notebooks lie there without outputs; each is run by the build, and an error in one is an error of the build.
nb_execution_mode = "force"
# With SHIFTKIT_DOCS_QUICK set, those that render a phantom, minutes of processor time, are shown without outputs.
nb_execution_excludepatterns = ["main_job*", "own_network*"] if os.environ.get("SHIFTKIT_DOCS_QUICK") else []
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

autodoc_typehints = "none"  # the docstrings say types, and in the words of their readers
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False

generate.pages(Path(__file__).parent)
