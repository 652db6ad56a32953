"""The errors of data, as ``refusals.toml`` words them: ``raise refused("corpora", name=…)``."""

from pathlib import Path

from ..errors import refusals

refused = refusals(Path(__file__).with_suffix(".toml"))
