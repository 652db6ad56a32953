"""The errors of training, as ``refusals.toml`` words them: ``raise refused("memory", said=…)``."""

from pathlib import Path

from ..errors import refusals

refused = refusals(Path(__file__).with_suffix(".toml"))
