"""What leaves embkit: models, data, cards."""

from .export import export_model, to_beir, to_datasets, to_parquet
from .onnx import OnnxModel, export_onnx, onnx_loss

__all__ = [
    "OnnxModel",
    "export_model",
    "export_onnx",
    "onnx_loss",
    "to_beir",
    "to_datasets",
    "to_parquet",
]
