"""Training pairs: collected, mined, labelled by people, looked over."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "labels": ["LabelStore", "annotator_agreement", "merged", "with_labels"],
        "mining": ["Mined", "find_false_negatives", "mine"],
        "pairs": "TrainingPairs batches collect in_batch_false_negatives make_pairs sets".split(),
        "pooling": ["candidates"],
    },
)
