"""One self-contained HTML page on a model and its top-down network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup
from torch import nn

from td_transform.cost import cost_table, measure
from td_transform.draw import draw
from td_transform.emit import TopDownNetwork
from td_transform.errors import TopDownError
from td_transform.fields import compare, receptive_field
from td_transform.layers import name_of
from td_transform.options import Options, as_keywords
from td_transform.plan import Plan
from td_transform.report.pictures import inline_svg
from td_transform.table import Table


@dataclass(frozen=True)
class Fields:
    """The receptive fields of both networks.

    Args:
        plot: their sizes over depth.
        comparison: where in depth each reaches which field, and which fields meet at which depth.
        bottom_up, top_down: a row per tensor.
    """

    plot: Markup
    comparison: tuple[Table, Table]
    bottom_up: Table
    top_down: Table


def write_report(
    model: nn.Module, td: TopDownNetwork, path: str | Path, *, title: str | None = None
) -> Path:
    """Write one page: the plan, a drawing of both networks, their costs, their receptive fields.

    The page needs no other file and no network, and the same networks give the same page.

    Args:
        model: the bottom-up model that `td` was made from; it is only read.
        td: what `to_topdown` returned.
        path: the HTML file to write.
        title: what the page calls the model; by default its class.

    Returns:
        The path that was written.

    Raises:
        TopDownError: `td` was made from another model.

    Example:
        >>> import tempfile
        >>> from td_transform import to_topdown
        >>> bu = nn.Sequential(
        ...     nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        ...     nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        ...     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
        ... )
        >>> td = to_topdown(bu, input_size=(1, 28, 28))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report(bu, td, Path(folder) / "report.html").stat().st_size > 10_000
        True
    """
    path, plan = Path(path), td.plan
    title = title or plan.model
    page = _template().render(
        title=title,
        facts=_facts(plan),
        call=_call(plan.options),
        plan=plan,
        costs=cost_table(measure(model, plan.input_size), measure(td, plan.input_size)),
        drawing=inline_svg(
            lambda file: draw(model, td, file, title=f"{title}, {_by(plan.input_size)}"),
            name="networks",
            label="The bottom-up model and the top-down network side by side, a box per stage; "
            "the table of levels says the same in numbers.",
        ),
        fields=_fields(model, td, title),
    )
    path.write_text(page, encoding="utf-8")
    return path


def _facts(plan: Plan) -> list[tuple[str, str]]:
    options = plan.options
    return [
        ("model", plan.model),
        ("input", _by(plan.input_size)),
        ("arrangement", options.arrangement),
        ("output stride", f"{options.output_stride} input pixels per step of the last map"),
        ("merge", name_of(options.merge)),
        ("upsampling", name_of(options.upsample)),
        ("pyramid", name_of(options.pyramid)),
        ("weights", options.weights),
    ]


def _call(options: Options) -> str:
    """The line of Python that makes the network."""
    default = Options()
    given = as_keywords(options)
    changed = (
        f"{name}={name_of(value).rpartition(':')[2] if callable(value) else repr(value)}"
        for name, value in given.items()
        if value != getattr(default, name)
    )
    return f"td = to_topdown({', '.join(['model', *changed])})"


def _fields(model: nn.Module, td: TopDownNetwork, title: str) -> Fields | TopDownError:
    """An operator whose reach has no rule costs the page this section alone."""
    try:
        bottom_up, top_down = receptive_field(model, td.plan.input_size), receptive_field(td)
    except TopDownError as error:
        return error
    plot = inline_svg(
        lambda file: bottom_up.plot(file, versus=top_down, title=title),
        name="fields",
        label="Sizes of receptive fields over depth, bottom-up and top-down; the two tables below "
        "say the same in numbers.",
    )
    return Fields(plot, compare(bottom_up, top_down).tables, bottom_up.table, top_down.table)


def _numeric(table: Table) -> list[bool]:
    """Per column: does it hold plain numbers alone?"""
    columns = zip(*table.rows, strict=True)
    return [all(re.fullmatch(r"[\d,.]*", cell) for cell in column) for column in columns]


def _by(sides: tuple[int, ...]) -> str:
    return "×".join(map(str, sides))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["numeric"] = _numeric
    environment.tests["failed"] = lambda found: isinstance(found, TopDownError)
    return environment.get_template("page.html.j2")
