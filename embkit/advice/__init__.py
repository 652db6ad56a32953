"""Should you fine-tune? Evidence from train and dev, rules, and how far to trust them."""

from .advise import Advice, advise
from .check import validate_curve
from .curves import Curve
from .evidence import Evidence
from .rules import advice_rules

__all__ = [
    "Advice",
    "Curve",
    "Evidence",
    "advice_rules",
    "advise",
    "validate_curve",
]
