"""What every kernel of the course imports first; the process whose forks kernels are imports it."""

import gc
import logging

gc.disable()  # while millions of objects are made: it would go through all of them again and again
_quiet = logging.getLogger("bitsandbytes")
_quiet.setLevel(logging.ERROR)  # it says at once which of its parts are not here
import ipykernel.kernelapp  # noqa: E402, F401
import sentence_transformers  # noqa: E402, F401
import simple_icd_10_cm  # noqa: E402, F401  # the course's domain: it reads a file of 10 MB

_quiet.setLevel(logging.NOTSET)
gc.freeze()  # none of them is garbage, and what a fork does not write to, it shares
gc.enable()
