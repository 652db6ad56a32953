"""Icons: from an icon's name to its picture, and from the picture to its name.

Variants of an icon (``kettle alert outline``) look almost the same, so the cut must keep them
together: by family (the name without ``outline``, ``variant`` and numbers), or by the first word,
which is harder.
"""

import contextlib
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from ...assets.catalogue import PICTURES, files_of
from ...errors import EmbkitError, unknown
from ...files import read_json, write_atomic
from ...session import paths
from ..domain import Domain, about
from ..images import decode, is_picture, keep_picture, render_svg
from ..splits import in_order
from .captioned import SMOKE, Captioned, domain_of

SIZE = 96  # pixels: of an icon that is drawn on a grid of 24
STYLES = ("outline", "variant")
MDI = PICTURES["mdi"]
ABOUT = about(Path(__file__).with_name("icons.txt").read_text(encoding="utf-8"))


def load(profile: str, *, by: str = "family", seed: int = 0) -> Domain:
    """Builds the domain, of about 600 icons in ``smoke``; they are drawn once and kept.

    ``by`` is what is not divided: ``family`` or ``word`` (the name's first).
    """
    if by not in GROUPS:
        raise unknown("grouping of icons", by, GROUPS)
    with zipfile.ZipFile(files_of(MDI) / "icons.zip") as icons:
        files = sorted(file for file in icons.namelist() if file.endswith(".svg"))
        names = {file[:-4]: file[:-4].replace("-", " ") for file in files}
        groups = {stem: GROUPS[by](name) for stem, name in names.items()}
        if profile == "smoke":
            order = sorted(groups, key=lambda stem: (in_order(groups[stem], seed), stem))
            groups = {stem: groups[stem] for stem in sorted(order[: SMOKE + 20])}  # to be drawn
        pictures = drawn(MDI.package.stem, groups, lambda stem: icons.read(f"{stem}.svg"))
    rows = [Captioned(stem, names[stem], pictures[stem], group) for stem, group in groups.items()]
    name = "icons" if by == "family" else f"icons_by_{by}"
    return domain_of(f"{name}_{seed}" if seed else name, profile, rows, seed=seed, about=ABOUT)


def family(name: str) -> str:
    """An icon's name without what tells its variants apart: ``kettle alert outline`` is one."""
    words = [word for word in name.split() if word not in STYLES and not word.isdigit()]
    return " ".join(words) or name


GROUPS = {"family": family, "word": lambda name: name.split()[0]}


def drawn(package: str, stems: Iterable[str], svg: Callable[[str], bytes]) -> dict[str, str]:
    """Icon -> its picture, which is drawn the first time, and again for another ``package``."""
    index = paths().cache / "pictures" / f"{package}-{SIZE}.json"
    known = read_json(index)  # empty the first time
    if missing := [stem for stem in stems if not is_picture(known.get(stem))]:
        for stem in missing:
            known[stem] = keep_picture(decode(render_svg(svg(stem), SIZE)))
        with contextlib.suppress(EmbkitError):  # without it, they are drawn again
            write_atomic(index, json.dumps(known))
    return {stem: known[stem] for stem in stems}
