"""The errors of data, as ``refusals.toml`` words them: ``raise refused("corpora", name=…)``."""

from ..errors import refusals

refused = refusals(__file__)
