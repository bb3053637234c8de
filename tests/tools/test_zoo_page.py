"""The page of a library says how often the stages that are found are those that it lists itself."""

from __future__ import annotations

from tools.zoo.libraries import LIBRARIES
from tools.zoo.rows import Row
from tools.zoo.table import page


def analysed(model: str, difference: str) -> Row:
    """A row of a model that was analysed and not converted."""
    return {"model": model, "kind": "CNNs", "bottom_up": {"feature_info": difference}}


def test_opinions() -> None:
    differing = "strides [4, 8], not [2, 4, 8]"
    rows = [analysed("a", ""), analysed("b", differing), analysed("xception41", differing)]
    text = page(LIBRARIES["timm"], rows, "some command")
    assert "| CNNs | 3 | 1 | 33.3% |" in text
    assert f"| b | {differing} | not explained |" in text
    assert f"| xception41 | {differing} | the list is of maps inside the blocks" in text
