"""One of two processes of tests/test_distributed.py: does what the job in its folder says."""

import json
import os
import pickle
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from embkit.distributed import ignore_unused, team
from embkit.errors import EmbkitError
from embkit.models.loading import load_model
from embkit.recipes.recipe import Recipe
from embkit.training.losses import make_loss
from embkit.training.trainer import train

torch.set_num_threads(1)
folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
domain = pickle.loads((folder / "domain.pickle").read_bytes())
recipe = Recipe.from_json(json.dumps(job["recipe"]))
members = team()


def gathered(recipe, batch, labels=None):
    """The loss of a batch of which each process holds a part, and the gradient it gives."""
    tables = {name: np.float32(rows) for name, rows in job["tables"].items()}
    model = load_model(recipe.model).eval()
    ignore_unused(model)
    loss = make_loss(recipe.loss, model, tables if recipe.approach == "distill" else None)
    loss.model = torch.nn.parallel.DistributedDataParallel(model)
    loss.documents = torch.tensor(job["documents"])
    mine = slice(members.rank, None, members.size)
    columns = [model.preprocess([pair[side] for pair in batch[mine]]) for side in (0, 1)]
    value = loss(columns, None if labels is None else torch.tensor(labels)[mine])
    value.backward()
    found = {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}
    return np.mean(members.gather(value.item())), found


if job["do"] == "share":
    loss, gradient = gathered(recipe, job["batch"])
    parts = [
        gathered(Recipe(**given), job["batch"], labels)
        for given, labels in zip(job["others"], job["labels"], strict=True)
    ]
    errors = []
    for call in (
        lambda: members.agree("the recipe", f"recipe {members.rank}"),
        lambda: train(recipe.replace(batch_size=7), domain, quiet=True),
        lambda: train(recipe.replace(approach="clip", model="towers"), domain, quiet=True),
        lambda: train(recipe.replace(epochs=2 + members.rank), domain, quiet=True),
    ):
        try:
            call()
        except EmbkitError as error:
            errors.append(str(error))
    run = train(recipe, domain, quiet=True)
    again = train(recipe, domain, quiet=True)
    others = [train(Recipe(**given), domain, quiet=True) for given in job["others"]]
    told = {"loss": loss, "errors": errors, "run": str(run.path), "again": str(again.path)}
    told["others"] = [str(other.path) for other in others]
    told["losses"] = [value for value, _ in parts]
    gradient |= {f"{i} {n}": g for i, (_, own) in enumerate(parts) for n, g in own.items()}
    (folder / f"told-{members.rank}.json").write_text(json.dumps(told))
    np.savez(folder / f"arrays-{members.rank}.npz", **gradient)
else:  # the second process is killed after so many steps
    from embkit.training.callbacks import Watch

    step_end = Watch.on_step_end

    def killed(self, args, state, control, **options):
        step_end(self, args, state, control, **options)
        if members.rank == 1 and state.global_step == job["die_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    Watch.on_step_end = killed
    train(recipe, domain, quiet=True)
