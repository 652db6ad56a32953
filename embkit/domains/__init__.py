"""Domains: what is known. One file a source; ``load_domain`` is the door."""

from __future__ import annotations

from functools import lru_cache

from .. import session
from ..errors import unknown
from . import icd10cm
from .base import Domain, check_leakage

SOURCES = {"icd10cm": icd10cm.load}


def load_domain(name: str = "icd10cm", *, profile: str | None = None) -> Domain:
    """Loads a domain by name, in the size that the profile asks for.

    Args:
        name: ``icd10cm``.
        profile: ``smoke``, ``workshop`` or ``full``; default: the profile in force.

    Raises:
        EmbkitError: for an unknown name (it names the nearest) or profile.

    Example:
        >>> load_domain("icd10cm", profile="smoke").name
        'icd10cm'
    """
    if name not in SOURCES:
        raise unknown("domain", name, SOURCES)
    return _load(name, session.profile(profile))


@lru_cache(maxsize=4)
def _load(name: str, profile: str) -> Domain:
    return SOURCES[name](profile)


__all__ = ["SOURCES", "Domain", "check_leakage", "load_domain"]
