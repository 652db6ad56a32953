"""audit(domain) -> Audit: what is wrong with the data, before a model learns it."""

from __future__ import annotations

from .audit import Audit, audit
from .base import Finding

__all__ = ["Audit", "Finding", "audit"]
