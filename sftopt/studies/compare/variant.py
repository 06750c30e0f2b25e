"""The instance a scheme is judged on: the user's, with the scheme's mode where it offers none.

Plans name modes of their instance, and published schemes send the boundary in ways that a cell need
not offer. So a scheme's plan is made for, and judged on, a copy to which its mode is added; the
copy has a hash of its own, and what was changed is said beside every row. Where the mode is on
offer (measured figures and all) nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sftopt.core.instance import Device, Instance, Mode, ModeKind
from sftopt.core.schemes.base import CompressionRule
from sftopt.studies.compare.request import Request
from sftopt.studies.compare.suits import kept_tokens


@dataclass(frozen=True)
class Variant:
    """A judged instance, the scheme's mode in it (None: free), and what differs from the user's."""

    instance: Instance
    mode: Mode | None
    changes: tuple[str, ...] = ()


def variant_of(instance: Instance, request: Request) -> Variant:
    """Return the instance that the scheme's plan is made for."""
    scheme = request.scheme
    rule = scheme.compression
    if rule in (CompressionRule.FREE, CompressionRule.COMMON):
        return Variant(instance, None)
    if rule is CompressionRule.DENSE:
        assert scheme.bits is not None
        return _with_mode(instance, _dense(instance, scheme.bits))
    if rule is CompressionRule.TOKENS:
        return _with_mode(instance, _tokens(instance, request))
    if rule is CompressionRule.NONE and scheme.bits not in (None, instance.workload.reference_bits):
        return _at_reference_bits(instance, int(scheme.bits or 0))
    if rule is CompressionRule.NO_BOUNDARY:
        return Variant(instance, _none(instance))
    return _with_mode(instance, _none(instance))


def _none(instance: Instance) -> Mode:
    return Mode(kind=ModeKind.NONE, bits=instance.workload.reference_bits)


def _dense(instance: Instance, bits: int) -> Mode:
    """Every element in ``bits`` and one 16-bit scale for each token: sigma = 16 / hidden."""
    hidden = instance.workload.hidden
    return Mode(kind=ModeKind.DENSE, bits=bits, side_bits_per_element=min(16.0 / hidden, 32.0))


def _tokens(instance: Instance, request: Request) -> Mode:
    """S' = kept tokens and the merged one, ``bits`` for every element, up and down."""
    bits = int(request.options.get("bits", request.scheme.bits or 0))
    down = instance.workload.reference_bits
    return Mode(
        kind=ModeKind.TOKENS,
        bits=bits,
        tokens=kept_tokens(instance, request) + 1,
        gradient_bits=float(down) if request.options.get("gradient") == "reference" else None,
    )


def _alike(offered: Mode, wanted: Mode) -> bool:
    """Whether a mode on offer is the scheme's, with or without measured figures."""
    if offered.kind is not wanted.kind:
        return False
    if wanted.kind is ModeKind.NONE:
        return True
    if wanted.gradient_bits is not None and offered.gradient_bits != wanted.gradient_bits:
        return False
    return offered.bits == wanted.bits and offered.tokens == wanted.tokens


def _with_mode(instance: Instance, wanted: Mode) -> Variant:
    """The instance with a mode on offer; one that is there already is taken as it is."""
    modes = instance.compression.modes
    fitting = [mode for mode in modes if _alike(mode, wanted)]
    if fitting:
        usual = [mode for mode in fitting if mode.label == wanted.usual_label]
        return Variant(instance, (usual or fitting)[0])
    if any(mode.label == wanted.label for mode in modes):  # somebody else's name
        wanted = wanted.model_copy(update={"name": f"{wanted.label} (scheme)"})
    compression = instance.compression.model_copy(update={"modes": (*modes, wanted)})
    made = instance.model_copy(update={"compression": compression})
    return Variant(made, wanted, (f"mode {wanted.label} added",))


def _at_reference_bits(instance: Instance, bits: int) -> Variant:
    """The instance as if activations had ``bits``: mode none alone sends them as they are.

    Only what crosses the boundary has another reference; work and memory stay what they are.
    """
    work = instance.workload.model_copy(update={"reference_bits": bits})
    mode = Mode(kind=ModeKind.NONE, bits=bits)
    compression = instance.compression.model_copy(update={"modes": (mode,)})
    made = instance.model_copy(update={"workload": work, "compression": compression})
    return Variant(made, mode, (f"b_ref {bits} bits, mode none alone",))


def with_devices(variant: Variant, kept: Sequence[Device]) -> Variant:
    """Return the variant with these of its devices, their data weights scaled to sum to 1."""
    total = sum(device.weight for device in kept)
    scaled = [d.model_copy(update={"weight": d.weight / total}) for d in kept]
    made = variant.instance.model_copy(update={"devices": tuple(scaled)})
    left_out = len(variant.instance.devices) - len(kept)
    change = f"{left_out} of {len(variant.instance.devices)} devices left out"
    return Variant(made, variant.mode, (*variant.changes, change))
