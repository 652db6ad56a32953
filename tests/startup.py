"""Makes the collection of garbage fast in the tests' processes, and in their notebooks' kernels.

Each training collects garbage, and passes over the half million objects of what was imported, which
takes longer than many a training here. A kernel runs this file when it starts, and keeps no name.
"""


def freeze(*_):
    """Once torch is there to train, what was imported is left out."""
    import gc
    import sys

    if "torch._dynamo" in sys.modules and not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


if "get_ipython" in globals():
    get_ipython().events.register("post_run_cell", freeze)  # noqa: F821
    del freeze
