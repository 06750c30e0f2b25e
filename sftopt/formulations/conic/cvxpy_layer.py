"""CVXPY as one untyped name: it exports its atoms in a way that type checkers do not follow."""

from __future__ import annotations

from importlib import import_module
from typing import Any

cp: Any = import_module("cvxpy")
