"""Random cells on which every scheme that sft contains can be planned."""

from __future__ import annotations

import numpy as np

from benchmarks.cells import FEASIBLE
from sftopt.core.families import generate
from sftopt.core.instance import Instance
from sftopt.core.schemes.registry import get_scheme
from sftopt.studies.compare.request import Request
from sftopt.studies.compare.variant import variant_of
from sftopt.studies.reproduce.grid import grid_modes

SCOPES = ("mean", "each", "common")
"""Scopes of the accuracy limit that random cells have."""


TOKENS_LOSS = 0.3
"""Loss of a tokens mode, as a share of what the cell's limit allows: so plans may mix it in."""


def random_cell(seed: int, *, tokens: bool = False) -> Instance:
    """Return a random cell of 2 to 6 devices on which every contained scheme can be planned.

    ``tokens``: encoders also offer the tokens of scheme tsflora, as if their loss were measured.
    Any feasible family; bands and server speed up to five times and down to a fifth of its own,
    every variant of power law, scope, server order and downlink; Top-K, dense 4 and 8 and none.
    """
    random = np.random.default_rng([seed, 12])
    made = generate(str(random.choice(FEASIBLE)), int(random.integers(2, 7)), seed)
    slack = made.accuracy.uncompressed - made.accuracy.minimum
    edits = {
        "radio.uplink_bandwidth_hz": made.radio.uplink_bandwidth_hz * _factor(random),
        "radio.downlink_bandwidth_hz": made.radio.downlink_bandwidth_hz * _factor(random),
        "radio.power": str(random.choice(["psd", "total"])),
        "radio.downlink": str(random.choice(["kept", "kept", "dense"])),
        "server.compute_flops_per_s": made.server.compute_flops_per_s * _factor(random),
        "server.compute_min_flops_per_s": None,
        "server.compute_max_flops_per_s": None,
        "server_order": str(random.choice(["in_turn", "in_turn", "parallel"])),
        "accuracy.scope": str(random.choice(SCOPES)),
        "accuracy.minimum": made.accuracy.uncompressed - slack * float(random.uniform(1.0, 2.0)),
        "compression.modes": [mode.model_dump(mode="json") for mode in grid_modes(made)],
    }
    if made.accuracy.minimum_each is not None:
        edits["accuracy.minimum_each"] = None
    cell = made.replace(**edits)
    return with_tokens(cell) if tokens and not cell.workload.is_decoder else cell


def with_tokens(cell: Instance) -> Instance:
    """Return the cell with the tokens that scheme tsflora sends on offer, of a known loss."""
    request = Request(get_scheme("tsflora"), {})
    allowed = cell.accuracy.uncompressed - cell.accuracy.minimum
    (wanted,) = variant_of(cell, request).instance.compression.modes[-1:]
    mode = wanted.model_copy(update={"loss": TOKENS_LOSS * allowed})
    modes = [*cell.compression.modes, mode]
    return cell.replace(**{"compression.modes": [one.model_dump(mode="json") for one in modes]})


def _factor(random: np.random.Generator) -> float:
    """A factor between a fifth and five, even in its logarithm."""
    return float(5.0 ** random.uniform(-1.0, 1.0))
