"""The judge's accuracy model, equation (12)."""

from __future__ import annotations

import math

from sftopt.core.instance import Accuracy, Mode, ModeKind


def predicted_accuracy(accuracy: Accuracy, mode: Mode, keep: float, blocks: int) -> float | None:
    """Return the accuracy a(rho, q) of equation (12) in the unit of the metric: a fraction, or
    nats. Mode ``none`` has a_0, mode ``dense`` has rho = 1.

    A mode with a measured loss has a_0 less that loss, at its number of blocks; tokens without one
    have an accuracy that nobody knows: None.
    """
    if mode.loss is not None:
        measured = mode.loss[blocks] if isinstance(mode.loss, tuple) else mode.loss
        return accuracy.uncompressed - measured
    if mode.kind is ModeKind.TOKENS:
        return None
    if mode.kind is ModeKind.NONE:
        return accuracy.uncompressed
    kept = 1.0 if mode.kind is ModeKind.DENSE else keep
    factor = 1.0 if accuracy.cut_factor is None else accuracy.cut_factor[blocks]
    noise = accuracy.quantisation_loss * 4.0 ** (-mode.bits)
    if accuracy.quantisation_scales_with_keep:
        noise *= kept
    lost = factor * accuracy.keep_loss * math.exp(-accuracy.keep_decay * kept)
    return accuracy.uncompressed - lost - noise
