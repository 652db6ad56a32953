"""A model whose first dimensions hold most of what its documents differ in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

from ..assets.catalogue import folder_fingerprint, resolve
from ..data import Domain
from ..errors import EmbkitError
from ..files import made_once, replace_folder
from ..session import paths
from .encoding import encode_as
from .loading import load_model


def rotate_to_pca(model: str | Path, domain: Domain) -> Path:
    """The same model with its vectors rotated towards a corpus, as a plain model's folder.

    An orthonormal layer behind the pooling (the library's ``Dense``) takes the vectors to the
    principal axes of the documents' vectors, the largest first. Every cosine stays what it was;
    truncated vectors keep more. Training for every size (Kusupati et al. 2022,
    https://arxiv.org/abs/2205.13147) then starts ahead. The axes are those of the second moments,
    not of the centred ones: only a rotation about the origin leaves cosines alone.

    The same text model and domain give the same folder of the run store, made once. Fails for a
    model that is more than a network, a pooling, and a normalisation behind it.
    """
    start = resolve(model)
    made_of = f"{folder_fingerprint(start)[:8]}-{domain.hash[:8]}"
    folder = paths().runs / "rotated" / made_of / f"{Path(model).name}-rotated"
    with made_once(folder, "modules.json") as todo:
        if todo:
            replace_folder(folder, _rotated(start, str(model), domain).save_pretrained)
    return folder


def _rotated(start: Path, name: str, domain: Domain) -> SentenceTransformer:
    general = load_model(start, fp32=True)
    parts = list(general)
    kinds = [type(part) for part in parts[1:]]
    if kinds not in ([Pooling], [Pooling, Normalize]):
        raise EmbkitError(
            f"rotate_to_pca({name!r}): its modules are "
            f"{', '.join(type(p).__name__ for p in parts)}",
            expected="a Transformer, a Pooling, and at most a Normalize behind them",
            hint="ek.models.rotate_to_pca('minilm', domain)",
        )
    vectors = encode_as(general, list(domain.corpus.values()), "document")  # (documents, dim)
    dim = vectors.shape[1]
    rotation = Dense(dim, dim, bias=False, activation_function=torch.nn.Identity())
    with torch.no_grad():
        rotation.linear.weight.copy_(torch.from_numpy(principal_axes(vectors)))
    modules = [*parts[:2], rotation, *parts[2:]]
    return SentenceTransformer(modules=modules, prompts=general.prompts, device="cpu")


def principal_axes(vectors: np.ndarray) -> np.ndarray:
    """The principal axes of vectors, (texts, dim), about the origin.

    Returns:
        float32 (dim, dim), orthonormal rows; the first takes the largest mean square. Of the two
        signs of each, that in which its largest entry is positive.
    """
    exact = np.asarray(vectors, np.float64)
    _, columns = np.linalg.eigh(exact.T @ exact)  # by rising eigenvalue
    rows = columns.T[::-1]
    largest = np.abs(rows).argmax(axis=1, keepdims=True)
    return (rows * np.sign(np.take_along_axis(rows, largest, axis=1))).astype(np.float32)
