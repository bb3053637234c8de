"""Tiles: a network runs on parts of an image, and gives what it gives on the whole.

What users import is listed below; the modules are internal.
"""

from __future__ import annotations

from td_transform.tiles.tiled import TiledNetwork, tiled

__all__ = ["TiledNetwork", "tiled"]
