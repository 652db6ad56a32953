"""Several processes, started by torchrun or ``accelerate launch``, as one.

The recipe's batch is the global one: each process takes its part, and gathers the others' documents
as negatives, so that the loss and its gradient are those of one process.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import refusals

T = TypeVar("T")
refused = refusals(__file__)
LOSSES = ("MultipleNegativesRankingLoss", "GISTEmbedLoss")  # and Cached ones
LOSSES += ("CorpusSoftmaxLoss", "CorpusDistillLoss")  # type: ignore[assignment]


@dataclass(frozen=True)
class Team:
    """This process among those that were launched together."""

    rank: int = 0
    size: int = 1  # how many there are

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Every process's value, by rank, in every process. It must go through pickle."""
        if self.size == 1:
            return [value]
        from accelerate.utils import gather_object

        return gather_object([value])

    def tell(self, value: T) -> T:
        """The first process's value, in every process."""
        return self.gather(value)[0]

    def wait(self) -> None:
        """Goes on when every process has come here."""
        self.gather(None)

    def agree(self, what: str, value: Any) -> None:
        """Fails in every process unless all have the same value."""
        found = self.gather(value)
        if odd := [rank for rank, one in enumerate(found) if one != found[0]]:
            raise refused("disagree", what=what, first=found[0], other=found[odd[0]], rank=odd[0])


def team() -> Team:
    """The processes launched together by torchrun or accelerate; one alone, if nobody launched."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        return Team()
    from accelerate import PartialState

    from .session import device

    if ":" in (on := device()):
        raise refused("one_device", device=on, size=size)
    try:
        state = PartialState(cpu=on != "cuda")
    except (RuntimeError, ValueError) as error:
        raise refused("apart", rank=os.environ["RANK"], size=size, why=error) from error
    return Team(state.process_index, state.num_processes)


def check_recipe(approach: str, batch_size: int, members: Team) -> None:
    """Fails where the batch cannot be divided, or the approach is for one process."""
    if batch_size % members.size:
        fits = batch_size // members.size * members.size
        raise refused("batch", batch=batch_size, size=members.size, fits=fits)
    if approach == "clip" and members.size > 1:
        raise refused("alone", approach=approach, size=members.size)


def gathering(loss: str, members: Team) -> dict[str, bool]:
    """What a loss class is told so that its negatives come from every process."""
    known = loss.removeprefix("Cached") in LOSSES
    return {"gather_across_devices": True} if members.size > 1 and known else {}


def on_one_device(arguments: T, device: Any) -> T:
    """A trainer's arguments for one process: on the GPU of its model, and no other.

    Left alone, transformers takes ``cuda:0`` and gives each GPU a batch (DataParallel): another
    batch than the recipe's, under the same hash.
    """
    import torch

    if device.type == "cuda" and team().size == 1:
        torch.cuda.set_device(device)
        vars(arguments).update(_n_gpu=1, _setup_devices=device)
    return arguments


def ignore_unused(model: Any) -> None:
    """Tells DistributedDataParallel which weights have no gradient, such as BERT's unused pooler.

    It would wait for theirs for ever, and cannot look for them itself where a step runs the model
    several times. They stay in the optimizer, so that one process can go on where several were.
    """
    from torch.nn.parallel import DistributedDataParallel

    features = model.preprocess(["one", "a few words more"])
    moved = {k: v.to(model.device) if hasattr(v, "to") else v for k, v in features.items()}
    model(moved)["sentence_embedding"].sum().backward()
    unused = [n for n, w in model.named_parameters() if w.requires_grad and w.grad is None]
    model.zero_grad(set_to_none=True)
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, unused)


class Sliced:
    """Global batches in slices, one a process: accelerate hands every process each n-th of them.

    Gathering needs parts of one length: a last batch loses the rows that cannot be divided.
    """

    batch_size = None  # slices vary in length: accelerate passes on whatever comes
    drop_last = False

    def __init__(self, batches: Any, size: int) -> None:
        self.batches, self.size = batches, size

    def __len__(self) -> int:
        return len(self.batches) * self.size

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            part = len(batch) // self.size
            for rank in range(self.size) if part else ():
                yield batch[rank * part : (rank + 1) * part]

    def set_epoch(self, epoch: int) -> None:
        self.batches.set_epoch(epoch)
