"""Should you fine-tune? Evidence from train and dev, rules, and how far to trust them."""

from .advise import Advice, advice_rules, advise
from .check import validate_curve
from .curves import Curve
from .evidence import Evidence

__all__ = [
    "Advice",
    "Curve",
    "Evidence",
    "advice_rules",
    "advise",
    "validate_curve",
]
