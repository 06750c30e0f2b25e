"""Which versions of the file formats are written and read."""

from __future__ import annotations

from typing import Final

SCHEMA_VERSION: Final = 2
"""Of every file that sftopt writes."""

READ_VERSIONS: Final = (1, 2)
"""Versions of files that are read; the older one is upgraded on the way."""
