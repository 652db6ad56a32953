"""EfficientNet-Lite0 without its classifier: a picture to 1,280 numbers.

The architecture is that of Tan and Le 2019 (https://arxiv.org/abs/1905.11946) in its Lite form: no
squeeze-and-excitation, ReLU6 in place of swish. Its weights were made with TensorFlow, whose "SAME"
padding puts the odd pixel at the end.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import session

# (blocks, kernel, stride of the first, expansion, channels)
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
WEIGHTS = "towers.safetensors"  # beside TOWERS in the folder of a model with two towers
DEGREES, SMALLER, LARGER, MOVED = 9.0, 0.91, 1.15, 0.04  # of the mild changes while training


class Same(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding, and the batch norm after it."""

    def __init__(
        self, inside: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        even = kernel // 2 if stride == 1 else 0  # else ``forward`` pads
        super().__init__(inside, out, kernel, stride, even, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(self.out_channels, eps=1e-3)

    def train(self, mode: bool = True) -> Same:
        """The batch norm never learns new statistics."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            rest = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
            x = F.pad(x, [rest[1] // 2, -(-rest[1] // 2), rest[0] // 2, -(-rest[0] // 2)])
        return self.norm(super().forward(x))


class Block(nn.Module):
    """Widen, look around within each channel, narrow again; add the input where it fits."""

    def __init__(self, inside: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.expand = Same(inside, wide, 1) if expansion > 1 else None
        self.depthwise = Same(wide, wide, kernel, stride=stride, groups=wide)
        self.project = Same(wide, out, 1)
        self.adds = stride == 1 and inside == out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.adds else y


class ImageTower(nn.Module):
    """Pictures to features. Batch norms keep ImageNet's statistics, also while training."""

    dim = 1280
    max_seq_length = None  # what a fingerprint asks of a model

    def __init__(self) -> None:
        super().__init__()
        self.stem = Same(3, 32, 3, stride=2)
        self.blocks, inside = nn.ModuleList(), 32
        for repeats, kernel, stride, expansion, channels in STAGES:
            for step in [stride] + [1] * (repeats - 1):
                self.blocks.append(Block(inside, channels, kernel, step, expansion))
                inside = channels
        self.head = Same(inside, self.dim, 1)
        self.frozen = 0  # so many of the first blocks, and the stem, are not trained
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, pictures: Tensor) -> Tensor:
        """The last layer's mean over all places, (pictures, 1280), for (pictures, height, width, 3)
        of uint8; ``nudge`` moves them in training."""
        x = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1  # (pictures, 3, height, width)
        x = x.contiguous(memory_format=torch.channels_last)
        if self.training:
            x = nudge(x)
        trained = torch.is_grad_enabled() and self.head.weight.requires_grad
        low, high = self.blocks[: self.frozen], self.blocks[self.frozen :]
        still = not trained or self.frozen > 0
        with torch.set_grad_enabled(not still), session.autocast(x.device.type, wanted=still):
            x = F.relu6(self.stem(x))
            for block in low:
                x = block(x)
        # fp32 trains faster than bf16 here
        with session.autocast(x.device.type, wanted=not trained):
            x = x if not trained else x.float()
            for block in high:
                x = block(x)
            return F.relu6(self.head(x)).mean(dim=(2, 3)).float()


def nudge(x: Tensor) -> Tensor:
    """Pictures, (pictures, 3, height, width), moved a little, each in its own way, on white (1).

    Up to 9 degrees, 4% of the side, and a size of 0.91 to 1.15. No flips and no crops: an arrow to
    the left and one to the right are two icons.
    """
    degree, size, right, down = torch.rand(4, len(x), device=x.device)
    angle = (2 * degree - 1) * math.radians(DEGREES)
    low, high = math.log(SMALLER), math.log(LARGER)
    scale = torch.exp(low + size * (high - low))
    shift = (2 * torch.stack([right, down], dim=1) - 1) * 2 * MOVED
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)]
    maps = torch.cat([torch.stack(rows, dim=1), shift[:, :, None]], dim=2)  # (pictures, 2, 3)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    moved = F.grid_sample(x - 1, grid, align_corners=False) + 1
    return moved.contiguous(memory_format=torch.channels_last)
