"""Queries written by a language model: asked for, filtered, kept with a card."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "backends": ["OpenAIBackend", "TransformersBackend"],
        "generation": ["generate", "read_set"],
        "prompts": ["PROMPTS", "Prompt"],
        "sets": ["eligible_documents", "filter_generated", "make_set", "write_set"],
    },
)
