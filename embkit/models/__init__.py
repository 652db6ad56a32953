"""Models of every kind: loaded, quantised, made smaller; and texts to vectors."""

from .cross_encoder import load_cross_encoder, score_pairs
from .encoding import encode, encode_as
from .layers import encode_speeds, keep_layers
from .loading import load_model
from .openai import openai_embeddings
from .packing import efficient
from .quantized import load_quantized, weight_bytes
from .rotation import rotate_to_pca

__all__ = [
    "efficient",
    "encode",
    "encode_as",
    "encode_speeds",
    "keep_layers",
    "load_cross_encoder",
    "load_model",
    "load_quantized",
    "openai_embeddings",
    "rotate_to_pca",
    "score_pairs",
    "weight_bytes",
]
