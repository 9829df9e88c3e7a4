"""The version of this toolkit, written into manifests and records."""

from __future__ import annotations

__version__ = "0.1.0"
