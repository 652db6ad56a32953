"""Models of every kind: loaded, quantised, made smaller; and texts to vectors."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "cross_encoder": ["load_cross_encoder", "score_pairs"],
        "encoding": ["encode", "encode_as"],
        "loading": ["encode_speeds", "keep_layers", "load_model"],
        "openai": ["openai_embeddings"],
        "packing": ["efficient"],
        "window": ["cut_for"],
        "quantized": ["load_quantized", "weight_bytes"],
    },
)
