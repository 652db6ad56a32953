"""A training as it goes: loss, learning rate and dev score, time left, and a Stop that keeps."""

import asyncio
import html
import time

import ipywidgets
import traitlets
from IPython.display import display
from matplotlib.figure import Figure

from ..data.domain import Domain
from ..plots import loss_curve
from ..recipes.recipe import Recipe
from ..runs import Run
from ..training.live import DEV, Job, Progress, Stopped
from .base import Panel, sketch


class LiveTraining(Panel):
    """Trains one recipe, shows it as it goes, and stops at a click.

    From code, ``await panel.train()`` does what Train does, and ``panel.stop()`` what Stop does.
    """

    step = traitlets.Int(help="steps done")
    steps = traitlets.Int(help="steps in all")
    running = traitlets.Bool(help="whether it trains now")
    progress = Progress()
    result: Run | Stopped | None = None

    def __init__(self, recipe: Recipe, domain: Domain) -> None:
        self.recipe, self.domain = recipe, domain
        self._job: Job | None = None
        self._task: asyncio.Task | None = None
        super().__init__()
        self.train_button = self.button("Train", self.start, icon="play")
        self.stop_button = self.button("Stop", self.stop, icon="stop")
        self.bar = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "60%"})
        self.facts, self.charts = ipywidgets.HTML(), ipywidgets.HTML()
        bar = ipywidgets.HBox([self.train_button, self.stop_button, self.bar])
        self.children = [bar, self.facts, self.charts, self.status]
        traitlets.dlink((self, "running"), (self.train_button, "disabled"))
        traitlets.dlink((self, "running"), (self.stop_button, "disabled"), lambda runs: not runs)
        self._hear(Progress())

    def start(self) -> None:
        """Begins to train, and returns at once; needs an event loop, as a notebook has."""
        if self.running or (self._task and not self._task.done()):
            self.tell("It is training already: Stop ends it, and keeps the best so far.")
            return
        self._task = asyncio.get_running_loop().create_task(self._clicked())

    async def _clicked(self) -> None:
        with self.told():  # nobody awaits a click's task
            await self.train()

    def stop(self) -> None:
        """Stops after the step in hand, and keeps the best so far."""
        if self._job is None:
            self.tell("Nothing is training here.")
            return
        self._job.stop()
        self.tell("Stopping after the step in hand; then dev is scored once more.")

    async def train(self) -> Run | Stopped:
        """Trains to the end or to Stop; fails while another training is under way, and as
        ``ek.train`` does."""
        started = time.perf_counter()
        job = Job(self.recipe, self.domain, self._hear)
        self.tell("Getting ready: pairs, weights.")
        self._job, self.running = job, True
        try:
            self.result = await job.run()
        except asyncio.CancelledError:
            self.tell("Interrupted. What was trained is kept: Train goes on from there.")
            raise
        except Exception as error:
            self.fail(error)
            raise
        finally:
            self._job, self.running = None, False
        self._end(self.result, time.perf_counter() - started)
        return self.result

    def _end(self, result: Run | Stopped, seconds: float) -> None:
        if isinstance(result, Stopped):
            self._hear(result.progress)
            score, on = result.dev_score, result.dev_name
            best = "" if score is None else f" nDCG@10 on {on} {score:.3f}."
            self.tell(f"Stopped. The best so far is kept.{best} Train goes on from here.")
            return
        here = f"Done in {seconds:.0f} s."
        said = here if self.progress.steps else "It was trained before: nothing to do."
        steps = int(result.record["steps"])
        speed = self.progress.pairs_per_second or result.record["pairs_per_second"]
        self._hear(Progress(steps, steps, tuple(result.history), speed))
        said += f" nDCG@10 on {result.dev_name} {result.dev_score:.3f}."
        self.tell(f"{said} Kept as {result.path.name}.")

    def _hear(self, progress: Progress) -> None:
        new = progress.history != self.progress.history
        self.progress = progress
        if progress.step and self.message.startswith("Getting ready"):
            self.tell()
        with self.hold_trait_notifications():
            self.step, self.steps = progress.step, progress.steps
        self.bar.value = progress.step / max(1, progress.steps)
        self.facts.value = f"<div class='embkit-facts'>{html.escape(self._facts())}</div>"
        if new:
            drawn, dev = [], f"{self.domain.dev_name} nDCG@10"
            charts = {"loss": "loss", "learning rate": "learning_rate", dev: DEV}
            for name, key in charts.items():
                points = [(row["step"], row[key]) for row in progress.history if key in row]
                drawn += [sketch(f"{name} {points[-1][1]:.4g}", {"": points})] if points else []
            self.show("live_training", self.charts, charts=drawn)

    def _facts(self) -> str:
        now = self.progress
        parts = {
            self.recipe.label: True,
            f"step {now.step:,} of {now.steps:,}": now.steps,
            f"{now.pairs_per_second:.0f} pairs/s": now.pairs_per_second,
            f"{now.seconds_left:.0f} s left": now.step < now.steps,
        }
        return " · ".join(text for text, known in parts.items() if known)

    def picture(self) -> Figure | None:
        rows = self.progress.history
        return loss_curve(rows, self.domain.dev_name) if rows else None

    def title(self) -> str:
        return f"{self.recipe.label}: not trained yet"

    def __repr__(self) -> str:
        return f"LiveTraining({self._facts()})"


async def train_live(recipe: Recipe, domain: Domain) -> Run | Stopped:
    """``train``, with a panel that shows it as it goes and stops at a click: ``await`` it.

    Gives the run; or, after Stop, a ``Stopped`` with the best model so far. Training the recipe
    again, by whatever call, goes on from there. Fails while another training is under way, and as
    ``train`` does.
    """
    panel = LiveTraining(recipe, domain)
    handle = display(panel, display_id=True)
    try:
        return await panel.train()
    finally:
        if handle is not None:  # outside of a notebook there is none
            handle.update(panel)  # the output's still picture: how it ended
