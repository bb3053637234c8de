"""Pictures as parts of a page: what matplotlib draws, as an SVG element."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup, escape


def inline_svg(draw: Callable[[Path], Any], *, name: str, label: str) -> Markup:
    """An `<svg>` element, the same for the same drawing.

    Args:
        draw: writes a picture to the SVG file that it is given.
        name: tells the ids of this picture from those of others on the page.
        label: what a screen reader says.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.svg"
        # letters as letters can be searched, and ids that depend on the drawing alone are stable
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
            draw(file)
        text = file.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1))
