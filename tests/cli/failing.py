"""What a command that fails prints."""

from __future__ import annotations

import pytest

from td_transform.cli import main


def failure(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command that fails prints."""
    with pytest.raises(SystemExit) as caught:
        main(["convert", *args])
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("td-transform: ")
    assert printed.count("\n") == 1
    return printed
