"""The errors of training, as ``refusals.toml`` words them: ``raise refused("memory", said=…)``."""

from ..errors import refusals

refused = refusals(__file__)
