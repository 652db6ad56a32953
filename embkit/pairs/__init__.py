"""Training pairs: collected, mined, labelled by people, looked over."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "agreement": ["annotator_agreement"],
        "false_negatives": ["find_false_negatives"],
        "labels": ["LabelStore", "with_labels"],
        "mining": ["Mined", "mine"],
        "pairs": "TrainingPairs batches collect in_batch_false_negatives make_pairs sets".split(),
        "pooling": ["candidates"],
    },
)
