"""Two towers that share a space: pictures go up one, texts the other (CLIP's idea, small).

The image tower is EfficientNet-Lite0, the text tower MiniLM; a projection on each maps both into
one space of 384 dimensions (Radford et al. 2021, https://arxiv.org/abs/2103.00020). A text that
names a kept picture (``images.is_picture``) is read as that picture, and no other text is.
A real CLIP or SigLIP folder is loaded as ``PictureReader``: the same texts, the same training.
"""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import InputModule
from torch import Tensor, nn

from .. import session
from ..assets import TOWERS
from ..assets.catalogue import resolve
from ..assets.efficientnet import WEIGHTS, ImageTower
from ..data.images import is_picture, open_picture, pixels
from ..losses.clip import SCALE
from .encoding import refused

MEDIA = re.compile(r"^data:|^https?://|\.\w{2,5}$", re.I)  # texts that the library would open
AT_ONCE = 64  # pictures that are decoded and looked at together, outside training


class Towers(InputModule):
    """Both towers and their projections, as the one module of a ``SentenceTransformer``.

    Pictures are brought to ``size`` pixels a side. ``text_name`` is the catalogue's name of an
    untrained text model; None: it was trained.
    """

    save_in_root = True

    def __init__(
        self, text: SentenceTransformer, image: ImageTower, *, size: int, text_name: str | None
    ) -> None:
        super().__init__()
        dim = text.get_embedding_dimension() or 0
        self.text = nn.ModuleList(list(text)[:2])  # transformer and pooling, without Normalize
        self.image = image
        self.size, self.text_name = size, text_name
        self.text_projection = nn.Linear(dim, dim)
        self.image_projection = nn.Linear(image.dim, dim)
        self.register_buffer("feature_mean", torch.zeros(image.dim))
        self.register_buffer("feature_spread", torch.ones(image.dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(SCALE)))
        with torch.no_grad():
            self.text_projection.weight.copy_(torch.eye(dim))
            self.text_projection.bias.zero_()

    @property
    def modalities(self) -> list[Any]:
        return ["text", "image"]

    @property
    def auto_model(self) -> nn.Module:
        """The text tower's network: what the engine packs."""
        return self.text[0].auto_model  # type: ignore[return-value,union-attr]

    @property
    def tokenizer(self) -> Any:  # type: ignore[override]
        return self.text[0].tokenizer

    @property
    def max_seq_length(self) -> int | None:
        return self.text[0].max_seq_length  # type: ignore[return-value]

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self.text[0].max_seq_length = value  # type: ignore[assignment]

    def get_embedding_dimension(self) -> int:
        return self.text_projection.out_features

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Tokens of texts, or ``pixel_values`` (pictures, size, size, 3) of uint8."""
        if not one_kind(inputs):
            return self.text[0].preprocess(inputs, prompt=prompt, **kwargs)  # type: ignore
        return {"pixel_values": torch.from_numpy(pixels(inputs, self.size))}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding``, (batch, dim), each row of length 1."""
        if "pixel_values" in features:
            seen = self.look(features["pixel_values"])  # (batch, 1280)
            found = self.image_projection((seen - self.feature_mean) / self.feature_spread)
        else:
            for module in self.text:
                features = module(features)
            found = self.text_projection(F.normalize(features["sentence_embedding"], dim=-1))
        features["sentence_embedding"] = F.normalize(found, dim=-1)
        return features

    def look(self, pictures: Tensor) -> Tensor:
        """What the image tower makes of pictures, before the projection: (pictures, 1280)."""
        if self.training:
            return self.image(pictures)
        return torch.cat([self.image(part) for part in pictures.split(AT_ONCE)])

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        folder = Path(output_path)
        plain = SentenceTransformer(modules=list(self.text), device=str(self.logit_scale.device))
        plain.save_pretrained(str(folder / "text"), create_model_card=False)
        own = {k: v.contiguous() for k, v in self.state_dict().items() if k[:5] != "text."}
        save_file(own, folder / WEIGHTS)
        (folder / TOWERS).write_text(json.dumps({"size": self.size, "text": None}))

    @classmethod
    def load(cls, model_name_or_path: str, *args: Any, **kwargs: Any) -> Self:  # type: ignore
        folder = Path(model_name_or_path)
        settings = json.loads((folder / TOWERS).read_text(encoding="utf-8"))
        start = settings["text"] and resolve(settings["text"])
        text = SentenceTransformer(str(start or folder / "text"), device=session.device())
        towers = cls(text, ImageTower(), size=settings["size"], text_name=settings["text"])
        missing, strange = towers.load_state_dict(load_file(folder / WEIGHTS), strict=False)
        started = ("text.", "text_projection.", "image_projection.", "logit_scale", "feature_")
        if strange or any(not name.startswith(started) for name in missing):
            raise ValueError(f"{WEIGHTS} is not whole")
        if "image_projection.weight" in missing:
            nn.init.zeros_(towers.image_projection.bias)
            generator = torch.Generator().manual_seed(0)
            nn.init.orthogonal_(towers.image_projection.weight, generator=generator)
        return towers


class PictureReader(SentenceTransformer):
    """A CLIP or SigLIP model that reads kept pictures by their texts, and no other text as one:
    not a path or an address, which sentence-transformers would open.
    """

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        if all(isinstance(text, str) for text in inputs):
            if one_kind(inputs):
                inputs = [open_picture(reference) for reference in inputs]
            else:
                inputs = [f" {text} " if MEDIA.search(text) else text for text in inputs]
        return super().preprocess(inputs, prompt=prompt, **kwargs)


def one_kind(inputs: Sequence[Any]) -> bool:
    """Whether inputs are pictures; fails for a mixture."""
    kinds = {is_picture(text) for text in inputs}
    if len(kinds) > 1:
        raise refused("mixture")
    return kinds == {True}
