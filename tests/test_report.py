"""The page on one model: what it says, and how a real browser shows it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from torch import Tensor, nn

from td_transform import TopDownError, TopDownNetwork, receptive_field, to_topdown
from td_transform.report import write_report
from tests.browser import visit
from tests.transform.test_transitions import PooledQueries

SIZE = (3, 24, 32)

# what a script in the page finds, once it is loaded
CHECK = """
<script>
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(one => { one.open = true; });
  const root = document.documentElement;
  const seen = getComputedStyle(document.body);
  const found = {
    width: root.scrollWidth, window: innerWidth, colours: [seen.color, seen.backgroundColor],
    pictures: [...document.querySelectorAll("svg")].map(s => s.getBoundingClientRect().width),
    captions: [...document.querySelectorAll("caption span")].map(c => c.getBoundingClientRect().right),
    scrolled: [...document.querySelectorAll(".scroll")].map(s => s.tabIndex),
    fetched: performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:")),
  };
  parent.postMessage(JSON.stringify(found), "*");
});
</script>
"""

# a browser's own window has a least width, a frame in it has none
FRAME = """<!DOCTYPE html><link rel="icon" href="data:,"><style>iframe {{ border: 0 }}</style>
<script>
addEventListener("message", event => {{
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = event.data;
  document.body.append(out);
}});
</script>
<iframe src="checked.html" width="{width}" height="900"></iframe>
"""


class Net(nn.Module):
    """Two stages; no rule knows `diag_embed`."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.mix = nn.Conv2d(8, 8, 3, padding=1)
        self.coarse = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fine(x)
        x = x + self.mix(x.diag_embed().sum(-1))
        return self.head(self.coarse(x).mean((2, 3)))


class Outline(HTMLParser):
    """The elements of a page that its readers move by, and whether all are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def bu() -> Net:
    return Net()


@pytest.fixture(scope="module")
def td(bu: Net) -> TopDownNetwork:
    return to_topdown(bu, input_size=SIZE, merge="concat")


@pytest.fixture(scope="module")
def page(bu: Net, td: TopDownNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(bu, td, tmp_path_factory.mktemp("page") / "report.html", title="a <b> net")


def cells(page: str, name: str) -> list[list[str]]:
    """The body of the table with that caption."""
    table = page[page.index(f'<span id="{name}"') :].partition("</table>")[0]
    rows = table.partition("<tbody>")[2].split("</tr>")[:-1]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def test_the_tables_are_those_of_the_plan_the_costs_and_the_fields(
    page: Path, bu: Net, td: TopDownNetwork
) -> None:
    text = page.read_text()
    assert cells(text, "plan-table") == td.plan.table.rows
    parameters = [f"{sum(p.numel() for p in net.parameters()):,}" for net in (bu, td)]
    assert cells(text, "cost-table")[0][1:3] == parameters
    for name, net in (("bottom-up-table", bu), ("top-down-table", td)):
        assert [row[0] for row in cells(text, name)] == list(receptive_field(net, SIZE))


def test_what_the_user_said_and_what_no_rule_knew_is_there(page: Path) -> None:
    text = page.read_text()
    assert "<h1>a &lt;b&gt; net, upside down</h1>" in text
    assert "to_topdown(model, input_size=(3, 24, 32), merge=&#39;concat&#39;)" in text
    assert re.search(r"<h3>Opaque operators</h3>.*?<li>[^<]*diag_embed", text, re.DOTALL)


def test_what_was_replaced_and_what_keeps_its_resolution_is_there(tmp_path: Path) -> None:
    """As `print(plan)` says it, line by line."""
    model = PooledQueries()
    td = to_topdown(model, input_size=(3, 32, 32), output_stride=2)
    plan = td.plan = replace(td.plan, bound=("T1 < T2: a table",))
    text = write_report(model, td, tmp_path / "report.html").read_text()
    assert len(plan.replaced) == 1
    for note in (*plan.replaced, *plan.bound):
        assert f"<li>{note}</li>" in unescape(text)


def test_the_drawing_says_what_the_plan_says(page: Path) -> None:
    text = page.read_text()
    for told in ("T1 from S2", "T2 from S1", "stride 2, 12×16 map", "top-down: largest path"):
        assert f">{told}<" in text


def test_keyboards_and_screen_readers_find_their_way(page: Path) -> None:
    outline = Outline(page.read_text())
    assert outline.open == []
    levels = [int(tag[1]) for tag, _ in outline.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert len(outline.all("caption")) == len(outline.all("table")) == 6
    assert all(heading.get("scope") for heading in outline.all("th"))
    assert [svg["role"] for svg in outline.all("svg")] == ["img", "img"]
    assert all(svg["aria-label"] for svg in outline.all("svg"))
    ids = [one["id"] for _, one in outline.found if one.get("id")]
    assert len(ids) == len(set(ids))
    links = [link["href"] or "" for link in outline.all("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    labels = [one["aria-labelledby"] for _, one in outline.found if one.get("aria-labelledby")]
    assert set(labels) <= set(ids)
    assert outline.all("script") == outline.all("img") == []


def test_references_within_a_drawing_lead_to_its_own_parts(page: Path) -> None:
    text = page.read_text()
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    used = re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', text)
    assert len(used) > 10
    assert {one or other for one, other in used} <= ids


def test_the_same_networks_give_the_same_page(
    page: Path, bu: Net, td: TopDownNetwork, tmp_path: Path
) -> None:
    again = write_report(bu, td, tmp_path / "again.html", title="a <b> net")
    assert again.read_bytes() == page.read_bytes()


def test_fields_that_no_rule_gives_cost_their_section_alone(
    bu: Net, td: TopDownNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*given: object) -> None:
        raise TopDownError("node 'gate'", seen="<seen>", expected="a rule", remedy="register it")

    monkeypatch.setattr("td_transform.report.page.receptive_field", unknown)
    text = write_report(bu, td, tmp_path / "report.html").read_text()
    assert "node &#39;gate&#39;: &lt;seen&gt;; expected a rule. Remedy: register it" in text
    assert cells(text, "plan-table") == td.plan.table.rows
    assert "bottom-up-table" not in text


@pytest.mark.exhaustive
@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("width", [1280, 375])
def test_a_browser_shows_it(page: Path, tmp_path: Path, width: int) -> None:
    (tmp_path / "checked.html").write_text(page.read_text() + CHECK)
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width))
    visited = visit(frame, tmp_path / "profile")
    assert visited.console == ()
    text = re.search(r'<pre id="found">(.*?)</pre>', visited.dom, re.DOTALL)
    assert text
    found = json.loads(text[1])
    assert found["window"] == width
    # tables and pictures scroll in their own boxes, the page does not
    assert found["width"] == width
    assert all(right <= width for right in found["captions"])
    assert found["scrolled"] == [0] * 8
    assert all(picture > 500 for picture in found["pictures"])
    assert found["fetched"] == []
    assert found["colours"] == ["rgb(28, 28, 28)", "rgb(255, 255, 255)"]
