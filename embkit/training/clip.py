"""Two towers set for training: their start by ridge regression, and what stays frozen."""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from ..data import Domain
from ..data.images import in_parts, pixels
from ..models.clip import AT_ONCE, Towers, one_kind
from ..models.encoding import cache_file, encode, kept, unit
from ..models.loading import load_model
from ..pairs.pairs import TrainingPairs
from ..recipes.settings import IMAGE_TOWER, TEXT_TOWER
from ..recipes.views import Clip
from .refusals import refused

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0)  # a pair: among them, a tenth of the pictures chooses
_STAGE = re.compile(r"(?:image\.blocks|vision_model\.encoder\.layers)\.(\d+)\.")
_STEM = re.compile(r"image\.stem|vision_model\.(?:embeddings|pre_layrnorm)")


def prepare(model: SentenceTransformer, clip: Clip, pairs: TrainingPairs) -> None:
    """Sets a model for training as the recipe says: its start, and what stays frozen.

    Raises:
        EmbkitError: nothing is left to train, or a model of texts alone.
    """
    if "image" not in model.modalities:
        raise refused("no pictures")
    towers = model[0]
    if isinstance(towers, Towers):
        ridge_start(model, [(a, pairs.domain.corpus[d]) for _, a, d in pairs.rows])
        with torch.no_grad():
            towers.logit_scale.fill_(-math.log(clip.temperature))
        towers.image.frozen = clip.frozen_stages
    for name, weight in model.named_parameters():
        weight.requires_grad = weight.requires_grad and is_trained(name, clip)
    if clip.trained_parts != "none" and not any(p.requires_grad for p in model.parameters()):
        raise refused("trained parts", parts=clip.trained_parts)


def is_trained(name: str, clip: Clip) -> bool:
    """Whether a weight of that name is trained."""
    if re.search(TEXT_TOWER, name):
        return clip.trained_parts == "all"
    if re.search(IMAGE_TOWER, name):
        stage = _STAGE.search(name)
        low = int(stage[1]) < clip.frozen_stages if stage else bool(_STEM.search(name))
        return clip.trained_parts == "all" and not (clip.frozen_stages and low)
    return clip.trained_parts != "none"  # the projections and the temperature


def ridge_start(model: SentenceTransformer, pairs: Sequence[tuple[str, str]]) -> None:
    """Sets both projections, in place, by ridge regression from frozen pictures to frozen texts.

    Texts keep their vectors, less their mean. Pictures get the linear map that comes nearest to
    their captions' vectors: W = (XᵀX + λI)⁻¹XᵀY, with X the pictures' features, standardised. λ is
    the one that ranks best on the last tenth of the pictures.

    Args:
        model: towers.
        pairs: (caption, picture), those that may be trained on.
    """
    from sklearn.linear_model import Ridge

    def ridge(x: np.ndarray, y: np.ndarray, weight: float) -> Ridge:
        return Ridge(weight * len(x), fit_intercept=False).fit(x.astype(np.float64), y)

    # captions' vectors and pictures' features, both about their mean
    towers = model[0]
    captions, shown = zip(*pairs, strict=True)
    texts = encode(load_model(towers.text_name or "minilm"), list(captions))  # (pairs, 384)
    pictures = list(dict.fromkeys(shown))
    place = {picture: i for i, picture in enumerate(pictures)}
    features = image_features(model, pictures)[[place[picture] for picture in shown]]
    mean_text, mean_feature = texts.mean(axis=0), features.mean(axis=0)
    spread = features.std(axis=0) + 1e-3
    y, x = texts - mean_text, (features - mean_feature) / spread

    # the penalty, by the last tenth of the pictures
    last = set(pictures[-max(1, len(pictures) // 10) :])
    held = np.array([picture in last for picture in shown])
    ranks = {}
    for weight in RIDGES if len(pictures) > 20 else RIDGES[-1:]:
        guess = ridge(x[~held], y[~held], weight).predict(x[held])
        scores = unit(guess) @ unit(y[held]).T  # (held, held)
        ranks[weight] = (scores > np.diag(scores)[:, None]).sum(axis=1) + 1.0
    best = max(ranks, key=lambda weight: (1 / ranks[weight]).mean())

    with torch.no_grad():
        towers.text_projection.weight.copy_(torch.eye(y.shape[1]))
        towers.text_projection.bias.copy_(torch.from_numpy(-mean_text))
        towers.image_projection.weight.copy_(torch.from_numpy(ridge(x, y, best).coef_))
        towers.image_projection.bias.zero_()
        towers.feature_mean.copy_(torch.from_numpy(mean_feature))
        towers.feature_spread.copy_(torch.from_numpy(spread))


@torch.inference_mode()
def image_features(model: SentenceTransformer, pictures: Sequence[str]) -> np.ndarray:
    """What the image tower makes of pictures before its projection, (pictures, 1280); kept."""
    towers, training = model[0], model.training
    where = cache_file(towers.image, "embeddings", towers.size, list(pictures))

    def made() -> np.ndarray:
        model.eval()
        parts = [
            towers.look(torch.from_numpy(pixels(part, towers.size)).to(model.device)).float().cpu()
            for part in in_parts(pictures, AT_ONCE)
        ]
        model.train(training)
        return torch.cat(parts).numpy()

    return kept(where, len(pictures), made)


def copy_captions(domain: Domain, k: int = 5) -> Callable[[list[str]], np.ndarray]:
    """The baseline that trains nothing: a picture gets the captions of the k training pictures that
    look most like it to the frozen image tower.

    Returns:
        A function for ``evaluate``: texts by MiniLM; pictures as the mean of their neighbours'
        captions, weighed by similarity. Of a picture with several captions, their mean counts.
    """
    import pandas as pd
    from sklearn.neighbors import KNeighborsRegressor

    model = load_model("towers")
    rows = [(domain.queries[query], domain.corpus[d]) for query, d in domain.right("train")]
    captions = encode(load_model("minilm"), [caption for caption, _ in rows])
    middle = captions.mean(axis=0)
    texts = pd.DataFrame(captions - middle).groupby([p for _, p in rows], sort=False).mean()
    features = image_features(model, list(texts.index))
    centre = features.mean(axis=0)
    nearest = KNeighborsRegressor(k, metric="cosine", weights=lambda far: (1 - far).clip(1e-9))
    nearest.fit(features - centre, texts.to_numpy())

    def copied_captions(inputs: list[str]) -> np.ndarray:
        if not one_kind(inputs):
            return encode(load_model("minilm"), inputs) - middle
        return nearest.predict(image_features(model, inputs) - centre)

    return copied_captions
