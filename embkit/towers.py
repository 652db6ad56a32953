"""Two towers that share a space: pictures go up one, texts the other (CLIP's idea, small).

The image tower is EfficientNet-Lite0, trained on ImageNet; the text tower is MiniLM. Neither has
ever seen the other. A projection on each maps both into one space of 384 dimensions, and training
pulls a picture and its caption together there (Radford et al. 2021,
https://arxiv.org/abs/2103.00020). Which tower an input goes up is decided by what it is: a text
that names a kept picture (``images.is_picture``) is read as one, and nothing else ever is.

A real CLIP or SigLIP folder is loaded as ``PictureReader``: the same texts, the same training.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import InputModule
from torch import Tensor, nn

from .errors import EmbkitError
from .image_tower import ImageTower
from .images import TOWERS, in_parts, is_picture, open_picture, pixels
from .recipes import Recipe
from .tower_lora import add_text_lora

if TYPE_CHECKING:
    from .domains import Domain
    from .pairs import TrainingPairs

WEIGHTS = "towers.safetensors"
AT_ONCE = 64  # pictures that are decoded and looked at together, outside training
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0)  # a pair: among them, a tenth of the pictures chooses
SCALE = 20.0  # 1 / temperature, at the start
NEIGHBOURS = 5


class Towers(InputModule):
    """Both towers and their projections, as the one module of a ``SentenceTransformer``.

    Args:
        text: a text model, such as MiniLM with its pooling.
        image: the image tower.
        size: pixels of a side that pictures are brought to.
        text_name: the catalogue's name of a text model that is as it came; None: trained.
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
        self.augment = 0.0  # strength; set while training
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
        """Tokens of texts, or ``pixel_values`` (pictures, size, size, 3) of uint8.

        Raises:
            EmbkitError: texts and pictures in one batch.
        """
        if not one_kind(inputs):
            return self.text[0].preprocess(inputs, prompt=prompt, **kwargs)  # type: ignore
        return {"pixel_values": torch.from_numpy(pixels(inputs, self.size))}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding``, (batch, dim), each row of length 1."""
        if "pixel_values" in features:
            seen = self.look(features["pixel_values"])
            seen = (seen - self.feature_mean) / self.feature_spread  # (batch, 1280)
            found = self.image_projection(seen)
        else:
            for module in self.text:
                features = module(features)
            found = self.text_projection(F.normalize(features["sentence_embedding"], dim=-1))
        features["sentence_embedding"] = F.normalize(found, dim=-1)
        return features

    def look(self, pictures: Tensor) -> Tensor:
        """What the image tower makes of pictures, before the projection: (pictures, 1280)."""
        if self.training:
            return self.image(pictures, augment=self.augment)
        return torch.cat([self.image(part) for part in pictures.split(AT_ONCE)])

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        folder = Path(output_path)
        device = str(self.logit_scale.device)
        plain = SentenceTransformer(modules=list(self.text), device=device)
        plain.save_pretrained(str(folder / "text"), create_model_card=False)
        own = {k: v.contiguous() for k, v in self.state_dict().items() if k[:5] != "text."}
        save_file(own, folder / WEIGHTS)
        settings = {"size": self.size, "text": None}
        (folder / TOWERS).write_text(json.dumps(settings), encoding="utf-8")

    @classmethod
    def load(cls, model_name_or_path: str, *args: Any, **kwargs: Any) -> Towers:  # type: ignore
        from .search import load_model

        folder = Path(model_name_or_path)
        settings = json.loads((folder / TOWERS).read_text(encoding="utf-8"))
        text = load_model(settings["text"] or folder / "text")
        weights = load_file(folder / WEIGHTS)
        towers = cls(text, ImageTower(), size=settings["size"], text_name=settings["text"])
        missing, strange = towers.load_state_dict(weights, strict=False)
        started = ("text.", "text_projection.", "image_projection.", "logit_scale", "feature_")
        if strange or any(not name.startswith(started) for name in missing):
            raise ValueError(f"{WEIGHTS} is not whole")
        if any(name.startswith("image_projection.") for name in missing):
            nn.init.zeros_(towers.image_projection.bias)
            generator = torch.Generator().manual_seed(0)
            nn.init.orthogonal_(towers.image_projection.weight, generator=generator)
        return towers


class PictureReader(SentenceTransformer):
    """A CLIP or SigLIP model that reads kept pictures by their texts, and no other text as one.

    sentence-transformers takes a text that is the path or the address of a picture for that
    picture. Here such a text stays a text.
    """

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        if all(isinstance(text, str) for text in inputs):
            if one_kind(inputs):
                inputs = [open_picture(reference) for reference in inputs]
            else:
                inputs = [f" {text} " if _looks_like_media(text) else text for text in inputs]
        return super().preprocess(inputs, prompt=prompt, **kwargs)


def _looks_like_media(text: str) -> bool:
    return bool(re.match(r"data:|https?://", text, re.I) or re.search(r"\.\w{2,5}$", text))


def one_kind(inputs: Sequence[Any]) -> bool:
    """Whether inputs are pictures; fails for a mixture.

    Raises:
        EmbkitError: texts and pictures in one batch.
    """
    kinds = {is_picture(text) for text in inputs}
    if len(kinds) > 1:
        raise EmbkitError(
            "texts and pictures in one batch",
            expected="one kind of input at a time: each has a tower of its own",
            hint="ek.encode(model, texts) and ek.encode(model, pictures)",
        )
    return kinds == {True}


def load_towers(folder: Path, device: str, **kwargs: Any) -> SentenceTransformer:
    """The towers of a folder, as a ``SentenceTransformer``."""
    return SentenceTransformer(modules=[Towers.load(str(folder))], device=device, **kwargs)


def start_folder(source: Path, target: Path) -> None:
    """Makes the folder of untrained towers from the image tower's own weights.

    Args:
        source: holds ``efficientnet-lite0-57934424.pth``.
        target: an empty folder.
    """
    weights = torch.load(source / "efficientnet-lite0-57934424.pth", weights_only=True)
    image = ImageTower()
    image.load_original(weights)
    save_file(
        {f"image.{k}": v.contiguous() for k, v in image.state_dict().items()}, target / WEIGHTS
    )
    settings = {"size": 96, "text": "minilm"}
    (target / TOWERS).write_text(json.dumps(settings), encoding="utf-8")


class SharedSpaceLoss(nn.Module):
    """Symmetric InfoNCE with a learned temperature: which caption is the picture's, and which
    picture the caption's (Radford et al. 2021, https://arxiv.org/abs/2103.00020).

    For unit vectors t of the batch's texts and p of its pictures, with s = exp(logit_scale):
    L = (CE(s t pᵀ, i) + CE(s p tᵀ, i)) / 2, where row i's right column is i. A picture that is
    right for the text as well, by the labels, is left out of both softmaxes.

    Args:
        model: both towers; its own ``logit_scale`` is trained where it has one.
        temperature: 1 / s at the start, where it has none.
    """

    def __init__(self, model: SentenceTransformer, temperature: float = 1 / SCALE) -> None:
        super().__init__()
        self.model = model
        own = [p for name, p in model.named_parameters() if name.endswith("logit_scale")]
        fresh = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.logit_scale = own[0] if own else fresh

    def forward(self, sentence_features: Any, labels: Any = None) -> Tensor:
        texts, pictures = (
            F.normalize(self.model(features)["sentence_embedding"].float(), dim=-1)
            for features in sentence_features
        )  # (batch, dim) each
        scale = self.logit_scale.exp().clamp(max=100)
        also = None if labels is None else right_as_well(labels)
        return symmetric_loss(scale * texts @ pictures.T, also)


def right_as_well(labels: Tensor) -> Tensor:
    """Which of a batch's other pictures are right for a text, too: (batch, batch) of bool.

    Args:
        labels: (batch, places), a row's own picture and then what else is right for its text, as
            ``TrainingPairs.places`` numbers them.
    """
    return (labels[:, 1:, None] == labels[None, None, :, 0]).any(dim=1)


def symmetric_loss(logits: Tensor, also: Tensor | None = None) -> Tensor:
    """The mean of both directions' cross-entropy for scaled similarities, (batch, batch).

    Args:
        logits: row i's right column is i.
        also: what counts neither as right nor as wrong, (batch, batch) of bool.
    """
    if also is not None:
        logits = logits.masked_fill(also, -torch.inf)
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def prepare(model: SentenceTransformer, recipe: Recipe, pairs: TrainingPairs) -> None:
    """Sets a model for training as the recipe says: its start, and what stays frozen.

    LoRA goes to the text tower; the image tower is trained as ever.

    Raises:
        EmbkitError: nothing is left to train, or a model of texts alone.
    """
    if "image" not in model.modalities:
        raise EmbkitError(
            f"approach='clip' with {recipe.model!r}, which reads no pictures",
            expected="a model with an image tower: 'towers', or a CLIP or SigLIP folder",
            hint="recipe.replace(model='towers')",
        )
    towers = model[0]
    if isinstance(towers, Towers):
        ridge_start(model, [(a, pairs.domain.corpus[d]) for _, a, d in pairs.rows])
        with torch.no_grad():
            towers.logit_scale.fill_(-math.log(recipe.temperature))
        towers.augment = recipe.augment
        towers.image.frozen = recipe.frozen_stages
    if recipe.lora_rank:
        add_text_lora(model, recipe)
    for name, weight in model.named_parameters():
        weight.requires_grad = weight.requires_grad and is_trained(name, recipe)
    if recipe.trained_parts != "none" and not any(p.requires_grad for p in model.parameters()):
        raise EmbkitError(
            f"nothing to train in {recipe.model!r} with trained_parts={recipe.trained_parts!r}",
            expected="a part that the model has",
            hint="recipe.replace(trained_parts='all')",
        )


_STAGE = re.compile(r"(?:image\.blocks|vision_model\.encoder\.layers)\.(\d+)\.")
_STEM = re.compile(r"image\.stem|vision_model\.(?:embeddings|pre_layrnorm)")
TEXT_TOWER = r"0\.text\.|text_model\."
IMAGE_TOWER = r"0\.image\.|vision_model\."


def is_trained(name: str, recipe: Recipe) -> bool:
    """Whether a weight of that name is trained."""
    parts = recipe.trained_parts
    if re.search(TEXT_TOWER, name):
        return parts == "all" and (not recipe.lora_rank or "lora_" in name)
    if re.search(IMAGE_TOWER, name):
        stage = _STAGE.search(name)
        low = int(stage[1]) < recipe.frozen_stages if stage else bool(_STEM.search(name))
        return parts in ("all", "image") and not (recipe.frozen_stages and low)
    return parts != "none"  # the projections and the temperature


def learning_rates(recipe: Recipe) -> dict[str, float]:
    """The trainer's ``learning_rate_mapping``: the towers learn more slowly than projections."""
    return {
        IMAGE_TOWER: recipe.learning_rate * recipe.image_rate,
        TEXT_TOWER: recipe.learning_rate * recipe.text_rate,
    }


def ridge_start(model: SentenceTransformer, pairs: Sequence[tuple[str, str]]) -> None:
    """Sets both projections, in place, by ridge regression from frozen pictures to frozen texts.

    Texts keep their vectors, less their mean. Pictures get the linear map that comes nearest to
    their captions' vectors: W = (XᵀX + λI)⁻¹XᵀY, with X the pictures' features, standardised. λ is
    the one that ranks best on the last tenth of the pictures.

    Args:
        model: towers.
        pairs: (caption, picture), those that may be trained on.
    """
    from .search import unit

    towers = model[0]
    texts, features = frozen_vectors(model, pairs)
    mean_text, mean_feature = texts.mean(axis=0), features.mean(axis=0)
    spread = features.std(axis=0) + 1e-3
    y, x = texts - mean_text, (features - mean_feature) / spread
    pictures = list(dict.fromkeys(picture for _, picture in pairs))
    last = set(pictures[-max(1, len(pictures) // 10) :])
    held = np.array([picture in last for _, picture in pairs])
    ranks = {}
    for weight in RIDGES if len(pictures) > 20 else RIDGES[-1:]:
        guess = x[held] @ ridge(x[~held], y[~held], weight)
        scores = unit(guess) @ unit(y[held]).T  # (held, held)
        ranks[weight] = (scores > np.diag(scores)[:, None]).sum(axis=1) + 1.0
    best = max(ranks, key=lambda weight: (1 / ranks[weight]).mean())
    with torch.no_grad():
        towers.text_projection.weight.copy_(torch.eye(y.shape[1]))
        towers.text_projection.bias.copy_(torch.from_numpy(-mean_text))
        towers.image_projection.weight.copy_(torch.from_numpy(ridge(x, y, best).T))
        towers.image_projection.bias.zero_()
        towers.feature_mean.copy_(torch.from_numpy(mean_feature))
        towers.feature_spread.copy_(torch.from_numpy(spread))


def ridge(x: np.ndarray, y: np.ndarray, weight: float) -> np.ndarray:
    """The linear map W that minimises |XW - Y|² + weight n |W|²: (features, dim).

    Args:
        x: (n, features).
        y: (n, dim).
        weight: of the penalty, a row; features are best standardised.
    """
    gram = x.T.astype(np.float64) @ x + weight * len(x) * np.eye(x.shape[1])
    return np.linalg.solve(gram, x.T.astype(np.float64) @ y)


def frozen_vectors(
    model: SentenceTransformer, pairs: Sequence[tuple[str, str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Captions by MiniLM, unit vectors (pairs, 384); pictures by the image tower (pairs, 1280)."""
    from .search import encode, load_model

    text_name = model[0].text_name or "minilm"
    texts = encode(load_model(text_name), [caption for caption, _ in pairs])
    pictures = list(dict.fromkeys(picture for _, picture in pairs))
    place = {picture: i for i, picture in enumerate(pictures)}
    seen = image_features(model, pictures)
    return texts, seen[[place[picture] for _, picture in pairs]]


@torch.inference_mode()
def image_features(model: SentenceTransformer, pictures: Sequence[str]) -> np.ndarray:
    """What the image tower makes of pictures before its projection, (pictures, 1280); kept."""
    from .search import cache_file, read_array, write_array

    image = model[0].image.as_model(model.device)
    where = cache_file(image, "embeddings", model[0].size, list(pictures))
    found = read_array(where)
    if found is not None and len(found) == len(pictures):
        return found
    towers, training = model[0], model.training
    model.eval()
    parts = [
        towers.look(torch.from_numpy(pixels(part, towers.size)).to(model.device)).float().cpu()
        for part in in_parts(pictures, AT_ONCE)
    ]
    model.train(training)
    vectors = torch.cat(parts).numpy()
    write_array(where, vectors)
    return vectors


def copy_captions(domain: Domain, k: int = NEIGHBOURS) -> Callable[[list[str]], np.ndarray]:
    """The baseline that trains nothing: a picture gets the captions of the k training pictures that
    look most like it to the frozen image tower.

    Returns:
        A function for ``evaluate``: texts by MiniLM; pictures as the mean of their neighbours'
        captions, weighed by similarity. Of a picture with several captions, their mean counts.
    """
    from .search import encode, load_model, unit

    model = load_model("towers")
    rows = [
        (domain.queries[query], domain.corpus[document])
        for query, judged in domain.split("train").items()
        for document in judged
    ]
    captions, features = frozen_vectors(model, rows)
    place = {picture: i for i, picture in enumerate(dict.fromkeys(p for _, p in rows))}
    of = np.array([place[picture] for _, picture in rows])  # row -> its picture
    first = np.unique(of, return_index=True)[1]
    sums = np.zeros((len(place), captions.shape[1]), dtype=np.float32)
    np.add.at(sums, of, captions)
    texts, features = sums / np.bincount(of)[:, None], features[first]
    middle, centre = captions.mean(axis=0), features.mean(axis=0)
    known = unit(features - centre)

    def copied_captions(inputs: list[str]) -> np.ndarray:
        if not one_kind(inputs):
            return encode(load_model("minilm"), inputs) - middle
        near = unit(image_features(model, inputs) - centre) @ known.T  # (pictures, training)
        best = np.argpartition(-near, k, axis=1)[:, :k]
        weights = np.take_along_axis(near, best, axis=1).clip(min=0)[..., None]
        return (weights * (texts[best] - middle)).sum(axis=1)

    return copied_captions


def modality_gap(texts: np.ndarray, pictures: np.ndarray) -> float:
    """The distance between the two clouds' centres, of unit vectors: 0 where they lie together
    (Liang et al. 2022, https://arxiv.org/abs/2203.02053)."""
    return float(np.linalg.norm(texts.mean(axis=0) - pictures.mean(axis=0)))
