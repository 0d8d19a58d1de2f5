"""How Sphinx builds the site: `make docs`."""

from __future__ import annotations

from sphinx.application import Sphinx

from pytest_serve_chaos import __version__

project = "pytest-serve-chaos"
author = "The pytest-serve-chaos authors"
project_copyright = author
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]

# Anchors as GitHub makes them, so that a link works on both.
myst_heading_anchors = 3
copybutton_prompt_text = r"\$ |# "
copybutton_prompt_is_regexp = True

# Only programs in processes of their own import Ray, and the site needs none of it.
autodoc_mock_imports = ["ray", "starlette"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"pytest-serve-chaos {release}"
html_show_sourcelink = False


def setup(app: Sphinx) -> None:
    """Leaves out the docstrings of modules: the page says itself what it lists."""
    app.connect("autodoc-process-docstring", _without_modules)


def _without_modules(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    if what == "module":
        lines.clear()
