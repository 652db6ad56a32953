"""Training pairs: collected, mined, labelled by people, looked over."""

from .agreement import annotator_agreement
from .false_negatives import find_false_negatives
from .labels import LabelStore, labels_to_pairs, with_labels
from .mining import Mined, mine
from .pairs import TrainingPairs, batches, collect, in_batch_false_negatives, make_pairs, sets
from .pooling import candidates, queue

__all__ = [
    "LabelStore",
    "Mined",
    "TrainingPairs",
    "annotator_agreement",
    "batches",
    "candidates",
    "collect",
    "find_false_negatives",
    "in_batch_false_negatives",
    "labels_to_pairs",
    "make_pairs",
    "mine",
    "queue",
    "sets",
    "with_labels",
]
