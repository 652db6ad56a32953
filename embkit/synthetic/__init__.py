"""Queries written by a language model: asked for, filtered, kept with a card."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "backends": ["OpenAIBackend"],
        "filters": ["filter_generated"],
        "generation": ["generate", "read_set"],
        "local": ["TransformersBackend"],
        "prompts": ["PROMPTS", "Prompt"],
        "sets": ["eligible_documents", "make_set", "write_set"],
    },
)
