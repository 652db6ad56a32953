"""What leaves embkit: models, data, cards."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "certificates": ["Certificate", "certify"],
        "export": ["export_model", "to_beir"],
        "onnx": ["OnnxModel", "export_onnx"],
    },
)
