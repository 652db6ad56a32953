"""What several files of tests compare: a run's weights, bit for bit."""

import torch
from safetensors.torch import load_file


def weights(run):
    return load_file(run.path / "model" / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
