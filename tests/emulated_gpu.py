"""A GPU that is none: tensors that say they lie on ``cuda``, computed on the processor.

torch's fake CUDA tensors have no numbers, so code that looks at some cannot run on them. Here each
tensor is marked with where it would lie; a call that mixes two places fails, as on a real GPU.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

GPU, CPU = torch.device("cuda"), torch.device("cpu")
NEW = {torch.tensor, torch.as_tensor, torch.empty, torch.zeros, torch.ones, torch.arange, torch.eye}
MIXES = {torch.Tensor.__setitem__, torch.Tensor.__getitem__, torch.Tensor.copy_}  # as torch allows


class Emulated(TorchFunctionMode):
    """Within the block, ``device="cuda"`` gives such tensors; ``marked`` counts them."""

    marked = 0

    def put(self, tensor, where):
        if isinstance(tensor, torch.Tensor):
            self.marked += where == GPU
            tensor._lies_on = where
        return tensor

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        own = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        places = {getattr(t, "_lies_on", CPU) for t in own if t.ndim}
        if func == torch.Tensor.device.__get__:
            return getattr(args[0], "_lies_on", CPU)
        if func is torch.Tensor.numpy and GPU in places:
            raise TypeError("can't convert cuda device type tensor to numpy")
        if func is torch.Tensor.cpu:
            return self.put(func(*args).view_as(args[0]), CPU)
        where = kwargs.get("device")
        if func is torch.Tensor.to and len(args) > 1 and isinstance(args[1], str | torch.device):
            where = args[1]
            return self.put(args[0].view_as(args[0]), torch.device(where))
        if where is not None:
            kwargs["device"] = "cpu"
            return self.put(func(*args, **kwargs), torch.device(torch.device(where).type))
        if len(places) > 1 and func not in MIXES:
            raise RuntimeError(f"{func.__name__}: tensors on {places}")
        found = func(*args, **kwargs)
        if func in NEW or not places:
            return found
        whole = GPU if GPU in places else CPU
        return tree_map(lambda t: self.put(t, whole), found)
