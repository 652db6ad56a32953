"""Every field of a Recipe as a control with its meaning and range: made from the fields alone."""

import html
import itertools
import tomllib
from contextlib import suppress
from dataclasses import fields
from typing import Any

import ipywidgets
import traitlets

from ..data.domain import Domain
from ..errors import EmbkitError
from ..recipes.checks import CHOICES
from ..recipes.recipe import PRESETS, Recipe
from ..recipes.recipe import preset as preset_of
from ..training.forecasting import forecast
from .base import PAGES, Panel
from .live_training import LiveTraining

KNOBS = {knob.name: knob for knob in fields(Recipe)}
NONE = "none"  # how None is written in a text field


class RecipeEditor(Panel):
    """Change a recipe: what differs from a preset, the script; Train; memory and minutes.

    ``recipe`` always holds the last valid recipe, and may be set from code; what is not valid is
    named in ``message`` and changes nothing. It begins with the preset's, and is compared with it;
    fails for an unknown one. Example: ``editor.set(epochs=1)``, then ``editor.recipe.epochs``.
    """

    recipe = traitlets.Instance(Recipe, help="the last valid recipe")
    preset = traitlets.Unicode(help="what it is compared with")

    def __init__(
        self, domain: Domain, recipe: Recipe | None = None, *, preset: str = "contrastive"
    ) -> None:
        start = preset_of(preset)
        self.domain, self._busy = domain, False
        self._draft: dict[str, Any] = {}  # what was changed since the last valid recipe
        self.controls = {name: _control(knob) for name, knob in KNOBS.items()}
        self.presets = ipywidgets.Dropdown(options=list(PRESETS), description="preset")
        self.pages, self.live = self._pages(), LiveTraining(start, domain)
        super().__init__(recipe=recipe or start, preset=preset)
        self.forecast = ipywidgets.HTML()  # of the recipe as it is, once it was asked for
        ask = self.button("Forecast", self._forecast, tooltip="peak memory and minutes: seconds")
        shown = [self.pages, self.status, self.page, ask, self.forecast, self.live]
        self.children = [*self.link(preset=self.presets), *shown]
        for name, control in self.controls.items():
            control.observe(self.guarded(lambda c, n=name: self._set(n, c["new"])), "value")
        self.on("preset", self._choose)
        self.on("recipe", self._show)
        self._show()

    def set(self, **values: Any) -> None:
        """Changes fields; what is not valid is shown in ``message`` and changes nothing."""
        with self.told():
            self.recipe = self.recipe.replace(**values)

    @property
    def diff(self) -> dict[str, tuple[Any, Any]]:
        """Field -> (the preset's value, the recipe's), where they differ."""
        return self.recipe.diff(preset_of(self.preset))

    def _pages(self) -> ipywidgets.Tab:
        asked = tomllib.loads((PAGES / "recipe_editor.toml").read_text(encoding="utf-8"))
        pages = {title: names.split() for title, names in asked.items()}
        pages["More"] = [name for name in KNOBS if name not in itertools.chain(*pages.values())]
        columns = []
        for names in pages.values():
            texts = [f"<small>{html.escape(_about(KNOBS[name]))}</small>" for name in names]
            rows = zip([self.controls[n] for n in names], map(ipywidgets.HTML, texts), strict=True)
            columns.append(ipywidgets.VBox(list(map(ipywidgets.HBox, rows))))
        return ipywidgets.Tab(columns, titles=tuple(pages))

    def _choose(self) -> None:
        self.recipe = preset_of(self.preset)
        self._show()

    def _forecast(self) -> None:
        self.forecast.value = forecast(self.recipe, self.domain).table().to_html()
        self.tell()

    def _set(self, name: str, value: Any) -> None:
        if not self._busy:
            self._draft[name] = _read(KNOBS[name], value)
            self.recipe = self.recipe.replace(**self._draft)  # some are valid only together
            self._show()

    def _show(self) -> None:
        self._draft, self._busy = {}, True  # controls follow the recipe, not the other way round
        try:
            for name, control in self.controls.items():
                _write(control, getattr(self.recipe, name))
        finally:
            self._busy = False
        if not self.live.running:
            self.live.recipe = self.recipe
        self.forecast.value = ""
        self.tell()
        try:
            script = self.recipe.to_script()
        except EmbkitError as error:  # not every recipe has a script
            script = str(error)
        self.show("recipe_editor", self.page, script=script)

    def title(self) -> str:
        first = "model approach epochs batch_size learning_rate temperature".split()
        values = ", ".join(f"{name}={getattr(self.recipe, name)}" for name in first)
        return f"Recipe editor: {self.recipe.label} ({values})"

    def __repr__(self) -> str:
        return f"RecipeEditor({self.recipe.label}, {len(self.diff)} fields differ)"


def _about(knob: Any) -> str:
    low, high = knob.metadata["low"], knob.metadata["high"]
    limits = "" if low is None else f" From {low:g}" + ("." if high is None else f" to {high:g}.")
    return f"{knob.metadata['meaning']}.{limits}"


def _control(knob: Any) -> Any:
    """The control that fits a field's type and range."""
    low, high, kind = knob.metadata["low"], knob.metadata["high"], str(knob.type)
    look: dict[str, Any] = {"description": knob.name, "tooltip": _about(knob)}
    look |= {"style": {"description_width": "11em"}, "layout": {"width": "27em"}}
    if knob.name in CHOICES:
        found: Any = ipywidgets.Dropdown(options=CHOICES[knob.name], **look)
    elif kind == "bool":
        found = ipywidgets.Checkbox(**look)
    elif kind == "int":
        found = ipywidgets.BoundedIntText(min=low, max=2**31 if high is None else high, **look)
    elif kind == "float":  # no slider: it rounds in the page what it shows
        most = 1e9 if high is None else high
        found = ipywidgets.BoundedFloatText(min=low, max=most, step=None, **look)
    else:  # a text, or a number that may be None
        found = ipywidgets.Text(placeholder=NONE, continuous_update=False, **look)
    found.add_class(f"embkit-knob-{knob.name}")
    return found


def _read(knob: Any, value: Any) -> Any:
    """A control's value as the field's; a text that is no number is left for the recipe to name."""
    kind = str(knob.type)
    if not isinstance(value, str) or knob.name in CHOICES:
        return value
    if "None" in kind and value.strip().lower() in ("", NONE):
        return None
    found: list[Any] = [value]
    if several := kind.startswith("tuple"):
        found = [p.strip() for p in value.split(";" if ";" in value else ",") if p.strip()]
    if "str" not in kind:
        with suppress(ValueError):
            found = [(float if "float" in kind else int)(part) for part in found]
    return found if several else found[0]


def _write(control: Any, value: Any) -> None:
    if isinstance(control, ipywidgets.Text):
        texts = [str(v) for v in value] if isinstance(value, tuple) else [str(value)]
        # a name that has a comma itself is separated by semicolons
        between = "; " if any("," in text for text in texts) else ", "
        value = "" if value is None else between.join(texts)
    control.value = value
