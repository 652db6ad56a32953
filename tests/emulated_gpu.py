"""A GPU that is none: tensors that say they lie on ``cuda``, computed on the processor.

torch's fake CUDA tensors have no numbers, and a build without CUDA ends the process where a
backward pass or autocast meets one. Here each tensor is marked with where it would lie; a call that
mixes two places fails, as on a GPU. What nobody marked may lie anywhere.
"""

import functools

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

GPU, CPU = torch.device("cuda"), torch.device("cpu")
MIXES = {torch.Tensor.__setitem__, torch.Tensor.__getitem__, torch.Tensor.copy_}  # as torch allows


class Emulated(TorchFunctionMode):
    """Within the block, ``device="cuda"`` gives such tensors; ``marked`` counts them."""

    marked = 0

    def put(self, tensor, where):
        if isinstance(tensor, torch.Tensor):
            self.marked += where == GPU
            tensor._lies_on = where
        return tensor

    def move(self, module):
        """A module with its weights and buffers on the GPU."""
        for tensor in (*module.parameters(), *module.buffers()):
            self.put(tensor, GPU)
        return module

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        own = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        places = {t._lies_on for t in own if t.ndim and hasattr(t, "_lies_on")}
        if func == torch.Tensor.device.__get__:
            return getattr(args[0], "_lies_on", CPU)
        if func is torch.Tensor.numpy and GPU in places:
            raise TypeError("can't convert cuda device type tensor to numpy")
        where = CPU if func is torch.Tensor.cpu else kwargs.get("device")
        if func is torch.Tensor.to and isinstance((*args, None)[1], str | torch.device):
            where, args = args[1], (args[0], "cpu", *args[2:])
        if where is not None:
            kwargs |= {"device": "cpu"} if "device" in kwargs else {}
            found = func(*args, **kwargs)
            found = found.view_as(found) if own else found
            return self.put(found, torch.device(torch.device(where).type))
        if len(places) > 1 and func not in MIXES:
            raise RuntimeError(f"{func.__name__}: tensors on {places}")
        found = func(*args, **kwargs)
        whole = GPU if GPU in places else CPU
        return tree_map(lambda t: self.put(t, whole), found) if places or not own else found


def autocast(real):
    """torch's autocast of the processor, whatever device it is asked for."""
    return functools.wraps(real)(lambda kind, **options: real("cpu", **options))
