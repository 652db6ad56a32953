"""Training: the trainer, LoRA, teachers, heads, and what is tried on dev."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "clip": ["copy_captions"],
        "distillation": ["Teacher", "load_teacher", "rescaled"],
        "experiments": ["Comparison", "GridResult", "approaches", "equal_cost", "tune"],
        "forecasting": ["forecast", "large_models"],
        "heads": ["Head", "HeadSettings", "fit_head"],
        "live": ["Stopped"],
        "lora": ["merge_adapter"],
        "losses": ["make_loss"],
        "trainer": ["footprint", "make_trainer", "train", "training_pairs"],
    },
)
