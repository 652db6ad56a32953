"""Queries written by a language model: asked for, filtered, kept with a card."""

from .backends import OpenAIBackend
from .filters import filter_generated
from .generate import generate, read_set
from .local import TransformersBackend
from .prompts import PROMPTS, Prompt
from .sets import eligible_documents, make_set, write_set

__all__ = [
    "OpenAIBackend",
    "PROMPTS",
    "Prompt",
    "TransformersBackend",
    "eligible_documents",
    "filter_generated",
    "generate",
    "make_set",
    "read_set",
    "write_set",
]
