"""Loaded by the Dask workers of a test: their agents are stubs."""

from __future__ import annotations

import os
import sys

from sftopt.studies.race import slot

slot.COMMAND = (sys.executable, "-S", os.environ["STUB_AGENT"])  # Dask runs a copy of this file
