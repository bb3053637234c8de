"""Receptive fields: along an axis, of a map, on a graph; measured, compared and drawn."""
