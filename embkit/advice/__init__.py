"""Should you fine-tune? Evidence from train and dev, and rules."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "advise": ["Advice", "advice_rules"],
        "curves": ["Curve"],
        "evidence": ["Evidence"],
        "starting": ["Start", "start"],
    },
)
