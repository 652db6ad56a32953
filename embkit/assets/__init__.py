"""Models that packages carry: fetched, checked, converted once."""

TOWERS = "towers.json"  # in the folder of a model with two towers of embkit's
