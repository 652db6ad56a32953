"""EfficientNet-Lite0 without its classifier: a picture to 1,280 numbers.

The architecture is that of Tan and Le 2019 (https://arxiv.org/abs/1905.11946) in its Lite form: no
squeeze-and-excitation, ReLU6 in place of swish. Its blocks are those of transformers, which pad as
TensorFlow does, with which the weights were made: for pictures whose side is a multiple of 32.
"""

import math
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import EfficientNetConfig
from transformers.models.efficientnet.modeling_efficientnet import (
    EfficientNetEmbeddings,
    EfficientNetEncoder,
)

from .. import session

WEIGHTS = "towers.safetensors"  # beside TOWERS in the folder of a model with two towers
DEGREES, SMALLER, LARGER, MOVED = 9.0, 0.91, 1.15, 0.04  # of the mild changes while training


class ImageTower(nn.Module):
    """Pictures to features. Batch norms keep ImageNet's statistics, also while training."""

    dim = 1280
    max_seq_length = None  # what a fingerprint asks of a model

    def __init__(self) -> None:
        super().__init__()
        sizes: Any = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": self.dim}
        config = EfficientNetConfig(**sizes, hidden_act="relu6", drop_connect_rate=0.0)
        encoder = EfficientNetEncoder(config)
        self.stem, self.blocks = EfficientNetEmbeddings(config), encoder.blocks
        self.head = nn.Sequential(encoder.top_conv, encoder.top_bn, encoder.top_activation)
        for block in self.blocks:
            block.squeeze_excite = nn.Identity()
        self.frozen = 0  # so many of the first blocks, and the stem, are not trained
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def device(self) -> torch.device:
        return self.head[0].weight.device

    def train(self, mode: bool = True) -> Self:
        """The batch norms never learn new statistics."""
        super().train(mode)
        for part in (self.stem, self.blocks, self.head):
            part.eval()
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """The last layer's mean over all places, (pictures, 1280), for (pictures, height, width, 3)
        of uint8; ``nudge`` moves them in training."""
        x = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1  # (pictures, 3, height, width)
        x = x.contiguous(memory_format=torch.channels_last)
        if self.training:
            x = nudge(x)
        trained = torch.is_grad_enabled() and self.head[0].weight.requires_grad
        low, high = self.blocks[: self.frozen], self.blocks[self.frozen :]
        still = not trained or self.frozen > 0
        with torch.set_grad_enabled(not still), session.autocast(x.device.type, wanted=still):
            x = self.stem(x)
            for block in low:
                x = block(x)
        # fp32 trains faster than bf16 here
        with session.autocast(x.device.type, wanted=not trained):
            x = x if not trained else x.float()
            for block in high:
                x = block(x)
            return self.head(x).mean(dim=(2, 3)).float()


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
