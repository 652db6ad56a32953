"""One table of invented rows, what is said of each shape it is written in, and plain writers."""

import csv
import gzip
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from embkit.data.domain import normalise

Texts = dict[str, set[str]]  # query -> documents, as ``normalise`` writes both
Rows = list[dict[str, Any]]

# query, right document, wrong document; all of it can be written as cp1252
_LINES = """\
why did my crème brûlée not set
The custard must reach 82 °C, no less; bake it in a water bath until only the middle trembles.
Freeze the ramekins overnight, then serve them straight away.
sourdough starter smells of acetone
It is hungry: feed it twice a day, one part starter to two parts flour, and keep it warm.
Store yeast in its packet, away from light.
how do I know that dough is kneaded enough
Do the "window pane" test: stretch a piece until light shines through, without a tear.
Count the minutes on the packet and stop there.
can't get jalapeño off my hands
Rub them with oil first, then with dish soap, and don't touch your eyes.
Peppers are hottest near the stem, not in the flesh.
soufflé collapses in the oven
Keep the door shut, fold the whites in gently and bake at once; a cold draught makes it fall.
A flan needs a layer of caramel below it.
rice sticks to the bottom of the pot
Rinse the grains until the water is clear, use a heavy pot, and let it rest off the heat.
Wild rice is the seed of a grass, and no rice at all.
what does "al dente" mean
Pasta that resists the bite a little: take it out a minute before the time on the box.
Lasagne sheets are layered with sauce and baked.
my mayonnaise has split
Whisk a fresh yolk in a clean bowl and add the split sauce drop by drop.
Ketchup keeps for a month once it is opened.
gravy is full of lumps
Pass it through a sieve, or mix cold butter with flour before it goes into the pan.
Roast the bones for an hour before you make stock.
how long do hard-boiled eggs keep
In their shells a week in the fridge; peeled ones, two days at most.
Poach eggs in water with a spoon of vinegar.
knife slides off tomato skin
The edge is dull: draw it over a whetstone at fifteen degrees, ten times a side.
Cherry tomatoes are sweeter than large ones.
pancakes turn out rubbery
You stirred too long; leave small lumps, and let the batter rest for half an hour.
Waffle irons want a richer batter, with more butter.
how to rescue soup with too much salt
Thin it with unsalted stock, or add cream; a potato alone takes out very little.
Sea salt has larger crystals than table salt.
purée of potatoes is like glue
Never use a blender: the starch bursts. Press them through a ricer, then add hot milk.
Sweet potatoes roast faster when they are cut in wedges.
chocolate went grainy while melting
Steam got in, and it seized; stir in a spoon of boiling water until it is smooth.
White chocolate has cocoa butter and no cocoa mass.
is Gruyère without lactose
Nearly: in cheese that has ripened for months the bacteria have eaten it.
Goat's cheese tastes best at room temperature.
onions make me cry
Chill them for an hour and use a sharp blade, so that fewer cells are crushed.
Shallots are milder, and good in a dressing.
which oil for frying at high heat
Refined peanut or rapeseed oil; cold-pressed ones smoke at 160 °C already.
Olive oil is graded by its acidity.
bread crust is too soft
Put a tray of water in for the first ten minutes, then let the steam out.
Rye bread keeps longer than wheat bread.
meringue weeps after baking
Sugar had not dissolved: rub a bit between your fingers, and beat until nothing grates.
Egg yolks can be kept in the fridge under water.
how do I clean a burnt pan
Boil water with two spoons of soda in it, leave it overnight, and scrape with wood.
Copper pans conduct heat better than steel ones.
yoghurt at home stays runny
Hold the milk at 43 °C for eight hours, and do not move the jars meanwhile.
Kefir is made with grains that look like cauliflower.
difference between stock and broth
Stock is made of bones, simmered for hours; broth of meat, and it is thinner.
Bouillon cubes are mostly salt.
beans are still hard after two hours
Old beans, or hard water: add a pinch of soda, and salt only near the end.
Green beans keep their colour in iced water.
""".splitlines()
PAIRS = [tuple(_LINES[place : place + 3]) for place in range(0, len(_LINES), 3)]
KEYS = [f"q{number}" for number in range(len(PAIRS))]


class Written(NamedTuple):
    """A shape on disk, and what is right for it."""

    name: str
    path: Path  # what load_domain is given
    pairs: Texts | None  # None: it must be refused
    negatives: Texts | None  # None: not compared
    asked: bool  # an error with readings, one of which gives ``pairs``
    splits: dict[str, set[str]] | None  # split -> its queries, where they must be kept


class Right(NamedTuple):
    pairs: Iterable[tuple[str, str]] | None
    negatives: Iterable[tuple[str, str]] | None
    asked: bool
    splits: dict[str, slice] | None


def texts(pairs: Iterable[tuple[str, str]]) -> Texts:
    found = defaultdict(set)
    for query, document in pairs:
        found[normalise(query)].add(normalise(document))
    return dict(found)


RIGHT_PAIRS = [(query, document) for query, document, _ in PAIRS]
WRONG_PAIRS = [(query, wrong) for query, _, wrong in PAIRS]
SHAPES: dict[str, Callable[[Path], Path]] = {}
RIGHT: dict[str, Right] = {}


def add(
    name, write, *given, pairs=RIGHT_PAIRS, negatives=(), asked=False, splits=None, **options
) -> None:
    """Registers a shape: ``write(folder, *given, **options)`` returns the path to load."""
    assert name not in SHAPES, name
    SHAPES[name] = lambda folder: write(folder, *given, **options)
    RIGHT[name] = Right(pairs, negatives, asked, splits)


def write(name: str, folder: Path) -> Written:
    folder.mkdir(parents=True, exist_ok=True)
    path = SHAPES[name](folder)
    pairs, negatives, asked, splits = RIGHT[name]
    pairs, negatives = (found() if callable(found) else found for found in (pairs, negatives))
    kept = {
        split: {normalise(query) for query, *_ in PAIRS[part]}
        for split, part in (splits or {}).items()
    }
    return Written(
        name,
        path,
        None if pairs is None else texts(pairs),
        None if negatives is None else texts(negatives),
        asked,
        kept or None,
    )


# -- files --


def save(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def csv_text(rows: Rows, header: bool = True, **dialect: Any) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n", **dialect)
    if header:
        writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return stream.getvalue()


def tsv_text(rows: Rows, header: bool = True, mark: str = "\t") -> str:
    """A line a row, with no rule for quotes."""
    lines = [list(rows[0])] * header + [list(row.values()) for row in rows]
    assert not any(sign in str(x) for line in lines for x in line for sign in (mark, "\n"))
    return "".join(mark.join(map(str, line)) + "\n" for line in lines)


def jsonl_text(rows: Rows, **how: Any) -> str:
    return "".join(json.dumps(row, **{"ensure_ascii": False, **how}) + "\n" for row in rows)


def parquet(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


ARRAYS = {
    "one_line": lambda rows: json.dumps(rows, ensure_ascii=False),
    "several_lines": lambda rows: json.dumps(rows, ensure_ascii=False, indent=2),
    "object_a_line": lambda rows: "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n",
}
WRITERS: dict[str, Callable[[Rows], str]] = {"csv": csv_text, "tsv": tsv_text, "jsonl": jsonl_text}


def file(folder: Path, name: str, rows: Rows, encoding: str = "utf-8") -> Path:
    """Rows in the form that the file's name says."""
    kind = name.removesuffix(".gz").rsplit(".", 1)[1]
    if kind == "parquet":
        return parquet(folder / name, rows)
    return save(folder / name, WRITERS[kind](rows), encoding)


def array(folder: Path, how: str, rows: Rows) -> Path:
    """One JSON array of all rows."""
    return save(folder / "pairs.json", ARRAYS[how](rows))


def named(*names: str, rows=PAIRS) -> Rows:
    """The table's first columns under these names."""
    return [dict(zip(names, row, strict=False)) for row in rows]
