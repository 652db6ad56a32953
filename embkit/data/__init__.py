"""Domains: corpus, queries and qrels, of embkit's own sources or of yours: ``load_domain``."""

import os
from collections.abc import Callable
from functools import lru_cache
from inspect import signature
from typing import Any

from .. import session
from ..errors import unknown
from .domain import Domain, check_leakage
from .images import data_url
from .readers import folder
from .readers.asking import Columns
from .readers.draft import LoadReport
from .refusals import refused
from .sources import docstrings, icd10cm, icons, python_code
from .sources.python_code import general_probe

SOURCES: dict[str, Callable[..., Domain]] = {
    "icd10cm": icd10cm.load,
    "python_code": python_code.load,
    "docstrings": docstrings.load,
    "icons": icons.load,
}


@session.uncollected()
def load_domain(
    source: Any = None,
    *,
    profile: str | None = None,
    columns: Columns | None = None,
    encoding: str | None = None,
    subset: str | None = None,
    by: str | None = None,
    seed: int | None = None,
) -> Domain:
    """Loads a domain: one that comes with embkit, by name, or data of your own.

    Args:
        source: a name (``icd10cm``, ``python_code``, ``docstrings``, ``icons``); a folder, a file
            or an archive of your own in one of the shapes that data/README.md lists, such as BEIR's
            layout, a CSV of pairs, pictures with captions; a ``datasets.Dataset`` or
            ``DatasetDict``, the folder it was saved to, or its hub id (``owner/name``). Default:
            what ``EMBKIT_DOMAIN`` names, else ``icd10cm``.
        profile: ``smoke``, ``workshop`` or ``full``; default: the profile in force. Data of your
            own is cut to about 400 documents in ``smoke`` and whole in the others.
        columns: of pairs, which column is what: ``{"anchor": "q", "positive": "a"}``, also
            ``"negative"`` (one column or several), ``"score"`` (whole grades, above 0 is right) and
            the conditions ``"right": "label == 0"`` and ``"wrong": "label == 2"``. Default: what
            names and content make plain, shown in ``domain.report``; else an error that shows the
            readings there are. Numbers from 0 for a file without a header. Of pictures:
            ``{"picture": "img", "caption": "title"}``.
        encoding: of text files that are neither UTF-8 nor UTF-16, such as ``cp1252``.
        subset: the configuration of a hub data set, such as ``pair``.
        by: of ``icons``, what the cut leaves whole: ``family`` or ``word``.
        seed: of ``icons``, which families are held out; default: 0.

    Of data of your own, ``domain.report`` says what was read, how it was split and which rows were
    put aside, and why; they lie in ``runs/quarantine/``. Fails for an unknown name or profile,
    nothing usable in the source, or columns that cannot be told apart.

    Example:
        >>> load_domain("icd10cm", profile="smoke").name
        'icd10cm'
    """
    size = session.profile(profile)
    if source is None:
        source = os.environ.get("EMBKIT_DOMAIN") or "icd10cm"
    built = SOURCES.get(source) if isinstance(source, str) else None
    options: dict[str, Any] = {"columns": columns, "encoding": encoding, "subset": subset}
    options |= {"by": by, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    if unfit := [name for name in given if name not in signature(built or folder.load).parameters]:
        folder_hint = f", or give './{source}' for a folder" if built else ""
        of = {"option": unfit[0], "source": str(source)[:60], "more": folder_hint}
        raise refused("option of others", **of)
    if built:
        return _load(source, size, **given)
    if isinstance(source, str) and folder.is_bare_name(source):
        raise unknown("domain", source, SOURCES)
    return folder.load(source, size, **given)


@lru_cache(maxsize=4)
def _load(name: str, profile: str, **cut: Any) -> Domain:
    return SOURCES[name](profile, **cut)


__all__ = ["Domain", "LoadReport", "SOURCES", "check_leakage", "data_url"]
__all__ += ["general_probe", "load_domain"]
