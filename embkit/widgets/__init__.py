"""Widgets: each shows what functions do, calls the same functions, and has a still picture."""

from __future__ import annotations

from .annotator import Annotator

__all__ = ["Annotator"]
