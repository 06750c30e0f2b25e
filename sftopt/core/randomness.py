"""Random numbers by name: parts of one draw that do not disturb one another."""

from __future__ import annotations

import hashlib

import numpy as np

from sftopt.core.faults import Fault
from sftopt.core.parse import input_error


def draws(name: str, seed: int, part: str) -> np.random.Generator:
    """Return the generator of random numbers of one named part; parts do not disturb one another.

    Raises InputError for a negative seed.
    """
    if seed < 0:
        fault = Fault(field="seed", value=seed, limit=0, message=f"seed: is {seed}; at least 0")
        raise input_error("generator", [fault])
    digest = hashlib.sha256(f"{name}/{seed}/{part}".encode()).digest()
    return np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest[:16], "big")))
