"""The picture at the top of the README: a network and its top-down network side by side.

Run it with ``python -m tools.readme_picture`` (seconds); it writes docs/images/networks.svg.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.subjects.models import lenet_fc
from td_transform import to_topdown
from td_transform.draw import draw

PICTURE = Path("docs/images/networks.svg")


def main() -> None:
    bu = lenet_fc()
    td = to_topdown(bu, input_size=(1, 28, 28))
    print(draw(bu, td, PICTURE, title="LeNetFC, 1×28×28"))


if __name__ == "__main__":
    main()
