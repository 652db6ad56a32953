"""Should you fine-tune? Evidence from train and dev, rules, and how far to trust them."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "advise": ["Advice", "advice_rules", "validate_curve"],
        "curves": ["Curve"],
        "evidence": ["Evidence"],
    },
)
