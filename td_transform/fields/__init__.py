"""Receptive fields: Eq. 1 of the paper on any graph.

What users import is listed below; the modules are internal.
"""

from __future__ import annotations

from td_transform.fields.compare import Comparison, compare
from td_transform.fields.measure import MeasuredFields, MeasuredRow
from td_transform.fields.network_fields import ReceptiveFields
from td_transform.fields.receptive_field import receptive_field
from td_transform.fields.rows import FieldRow
from td_transform.fields.tile import Box, Tile

__all__ = [
    "Box",
    "Comparison",
    "FieldRow",
    "MeasuredFields",
    "MeasuredRow",
    "ReceptiveFields",
    "Tile",
    "compare",
    "receptive_field",
]
