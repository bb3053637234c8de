"""The report of invented rows, opened in a real browser."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.cli import main
from benchmarks.errors import BenchmarkError
from benchmarks.experiments import SECTIONS
from benchmarks.findings.report import write_report
from benchmarks.runs.store import Store
from tests.benchmarks.synthetic_rows import everything, row
from tests.browser import screenshot, visit

CHECK = """
<script>
addEventListener("load", () => {
  const images = [...document.images].map(i => [i.alt, i.complete && i.naturalWidth > 0]);
  const root = document.documentElement;
  const found = {images, width: root.scrollWidth, window: innerWidth,
                 fetched: performance.getEntriesByType("resource").map(e => e.name)
                          .filter(n => !n.startsWith("data:"))};
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
});
</script>
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a results folder with rows of every kind."""
    results, out = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("report")
    pictures = [
        row("gradcam", "bu", job="abc", layer=layer, picture=name, images=1)
        for layer, name in (("every level", "levels.png"), ("last", "last.png"))
    ]
    for picture in pictures:
        file = results / "runs" / "abc" / str(picture["picture"])
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20), "teal").save(file)
    gone = row("gradcam", "bu", job="gone", model="nin", layer="last", picture="gone.png", images=1)
    broken = row("train", job="f00", status="failed", message="the loss is <nan>")
    rows = everything(attacks=("PointwiseAttack",), images=20)
    Store(results).append(*rows, *pictures, gone, broken)
    return write_report([results], out, SECTIONS)


def seen(page: Path, folder: Path, width: int) -> dict[str, object]:
    """What a script finds in the page once it is loaded."""
    # beside the report, where its links lead to the same files
    checked = page.with_name(f"checked_{width}.html")
    checked.write_text(page.read_text() + CHECK)
    visited = visit(checked, folder, width=width)
    assert visited.console == ()
    found = re.search(r'<pre id="found">(.*?)</pre>', visited.dom, re.DOTALL)
    assert found
    answer: dict[str, object] = json.loads(found[1].replace("&lt;", "<").replace("&amp;", "&"))
    return answer


@pytest.mark.exhaustive
@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_shows_every_image_and_fetches_nothing(
    report: Path, tmp_path: Path, width: int
) -> None:
    found = seen(report, tmp_path, width)
    images = found["images"]
    assert isinstance(images, list)
    assert len(images) == 9
    assert all(loaded for _, loaded in images)
    assert all(alt for alt, _ in images)
    assert found["fetched"] == []
    # nothing but tables scrolls sideways
    assert found["width"] == found["window"]


@pytest.mark.exhaustive
@pytest.mark.usefixtures("browser")
def test_the_screenshot_is_a_page(report: Path, tmp_path: Path) -> None:
    file = screenshot(report, tmp_path / "profile", tmp_path / "page.png", width=1280, height=2000)
    pixels = np.asarray(Image.open(file).convert("L"), dtype=float)
    assert pixels.shape == (2000, 1280)
    assert pixels[0, 0] == 255
    assert pixels.min() < 60
    # text and figures all the way down: no stretch of 300 lines is blank
    assert all(pixels[top : top + 300].std() > 5 for top in range(0, 1800, 300))


def test_links_lead_somewhere(report: Path) -> None:
    text = report.read_text()
    links = re.findall(r'href="([^"]+)"', text)
    anchors = {link[1:] for link in links if link.startswith("#")}
    assert anchors == set(re.findall(r' id="([^"]+)"', text)) - {"contents"}
    files = [link for link in links if not link.startswith(("#", "http", "data:"))]
    assert files
    assert set(files) == {f"tables/{file.name}" for file in (report.parent / "tables").iterdir()}
    assert re.findall(r'(?:src|xlink:href)="(?!data:)', text) == []


def test_pictures_are_embedded_as_they_are(report: Path) -> None:
    stored = report.parent / "figures" / "gradcam_abc_levels.png"
    assert Image.open(stored).size == (40, 20)
    assert "runs/gone/gone.png" in report.read_text()


def test_the_failure_and_what_was_not_run_are_named(report: Path) -> None:
    text = report.read_text()
    assert "the loss is &lt;nan&gt;" in text
    assert "no results of exp2 for resnet32" in text
    for told in ("invented", "synthetic", "0.0", "2026-01-01"):
        assert told in text


def test_tables_hold_the_numbers(report: Path) -> None:
    with (report.parent / "tables" / "fig4_accuracy.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 16
    rows = everything(attacks=("PointwiseAttack",), images=20)
    runs = [
        float(str(r["test_accuracy"]))
        for r in rows
        if (r["kind"], r["model"], r["data"], r["arrangement"])
        == ("train", "nin-light", "mnist", "td")
    ]
    line = next(
        x
        for x in lines
        if (x["network"], x["data"], x["arrangement"]) == ("NIN-light", "MNIST", "TD")
    )
    assert float(line["test accuracy (%)"]) == pytest.approx(100 * np.mean(runs), abs=0.01)
    assert float(line["deviation (points)"]) == pytest.approx(100 * np.std(runs, ddof=1), abs=0.01)


def test_the_same_results_give_the_same_page(tmp_path: Path) -> None:
    Store(tmp_path).append(row("train", "bu", test_accuracy=0.9), row("train", test_accuracy=0.8))
    pages = [
        write_report([tmp_path], tmp_path / name, SECTIONS).read_bytes() for name in ("one", "two")
    ]
    assert pages[0] == pages[1]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path).append(row("train", "bu", test_accuracy=0.9))
    main(["report", "--results", str(tmp_path), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / "report.html")]


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"no results\.jsonl in it; expected a folder that an"):
        write_report([tmp_path / "nothing"], tmp_path, SECTIONS)
