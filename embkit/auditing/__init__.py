"""audit(domain) -> Audit: what is wrong with the data, before a model learns it."""

from __future__ import annotations

from .base import Finding
from .report import Audit, audit

__all__ = ["Audit", "Finding", "audit"]
