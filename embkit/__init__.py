"""embkit: learn and do the fine-tuning of embedding models. ``import embkit as ek``."""

import logging

from .lazy import exports, names_of

__version__ = "0.1.0"

# When peft imports it, bitsandbytes may warn of a package that embkit has no use for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

_NAMES = names_of(__name__)  # what lessons use every day
_FOLDERS = (
    "advice data evaluation exercises export losses models pairs plots search space synthetic "
    "training widgets"
).split()
__getattr__, __dir__, __all__ = exports(__name__, _NAMES, _FOLDERS)
