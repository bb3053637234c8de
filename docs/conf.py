"""How Sphinx makes pages of this folder: ``make docs``."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from importlinter import api
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

import td_transform

ROOT = Path(__file__).parents[1]


def layers(package: str) -> str:
    """The layers of a package's import contract, each module with the first line of its docstring."""
    contracts = api.read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    (found,) = (c["layers"] for c in contracts if c["name"] == f"{package}: layers")
    lines = [f"| from top to bottom: `{package}` | |", "| --- | --- |"]
    for modules in found:
        for i, module in enumerate(modules.split(" | ")):
            lines.append(f"| {'beside it: ' * (i > 0)}`{module}` | {_first_line(module)} |")
    return "\n".join(lines)


def _first_line(module: str) -> str:
    path = ROOT / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n")[0]


project = "td_transform"
author = "The td_transform authors"
copyright = "2026, the td_transform authors"
version = release = td_transform.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
myst_enable_extensions = ["dollarmath", "substitution"]
myst_substitutions = {
    "layers_of_td_transform": layers("td_transform"),
    "layers_of_benchmarks": layers("benchmarks"),
}
myst_heading_anchors = 4
# docstrings write `name` for code and for what can be linked
default_role = "py:obj"
# docs/claims.md, which the benchmarks write, has no level between its title and its claims
suppress_warnings = ["myst.header"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
# parameters are said in the docstring once, where the fields of a dataclass would say them again
autodoc_default_options = {"undoc-members": False}
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"td_transform {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
# the page of all results, with the tables that it links to
html_extra_path = ["../benchmarks/results/report"]
html_show_sphinx = False
html_math_renderer = "mathml"


def setup(app: Sphinx) -> None:
    """Formulas as MathML, which browsers draw without a script from elsewhere."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("source-read", _link_results)


def _link_results(app: Sphinx, page: str, source: list[str]) -> None:
    """In the repository the page of results lies elsewhere than on the site."""
    found = r"\[([^]]*)\]\(\.\./benchmarks/results/report/(report\.html)\)"
    source[0] = re.sub(found, r'<a href="\2">\1</a>', source[0])


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode
