"""Whatever users import says what it is: every public name, its methods, and each of its arguments."""

from __future__ import annotations

import doctest
import inspect
import re

import pytest

import td_transform
from td_transform.cost import measure
from td_transform.draw import draw
from td_transform.operators import registry
from td_transform.report import write_report
from td_transform.torchvision_cpu import import_torchvision

PUBLIC = {name: getattr(td_transform, name) for name in td_transform.__all__}
METHODS = {
    f"{owner}.{name}": member
    for owner, found in PUBLIC.items()
    if inspect.isclass(found)
    for name, member in vars(found).items()
    if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
}
FUNCTIONS = {name: found for name, found in PUBLIC.items() if inspect.isfunction(found)} | {
    "draw.draw": draw,
    "report.write_report": write_report,
    "cost.measure": measure,
    "torchvision_cpu.import_torchvision": import_torchvision,
}


@pytest.mark.parametrize("name", [*PUBLIC, *METHODS])
def test_has_a_docstring(name: str) -> None:
    found = {**PUBLIC, **METHODS}[name]
    assert inspect.getdoc(found), name
    # a dataclass without one gets its signature
    assert not (found.__doc__ or "").startswith(f"{name}("), name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_its_arguments_are_and_shows_one_use(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # an example may register an operator
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    doc = inspect.getdoc(FUNCTIONS[name]) or ""
    _, _, arguments = doc.partition("Args:\n")
    described = {
        each.strip()
        for line in re.findall(r"^    ([\w*, ]+):", arguments, re.MULTILINE)
        for each in line.split(",")
    }
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    wanted = {p.name for p in parameters}
    assert wanted <= described, wanted - described
    assert ">>> " in doc
    globs = dict(vars(inspect.getmodule(FUNCTIONS[name])))
    (example,) = doctest.DocTestFinder(recurse=False).find(FUNCTIONS[name], name, globs=globs)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0
