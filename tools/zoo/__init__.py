"""Whole libraries of models, converted one by one: `python -m tools.zoo`."""
