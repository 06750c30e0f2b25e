"""The instance: everything that is given. Schema version 2, SI units, the unit in every name.

Symbols in brackets are those of ``formulations/MODEL.md``. Types and ranges are checked here;
whether the numbers make sense together is the work of :mod:`sftopt.core.check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any, Self

from pydantic import Field, ValidationError

from sftopt.core.canonical import instance_hash, instance_hash_v1
from sftopt.core.compression import Compression, MaskOverhead, Mode, ModeKind
from sftopt.core.edit import edited, note_of
from sftopt.core.errors import InputError
from sftopt.core.faults import Fault
from sftopt.core.fields import MOST_DEVICES, MOST_TEXT, Name, Versioned
from sftopt.core.file_kinds import refuse_another_kind
from sftopt.core.html_table import html_table
from sftopt.core.parse import check_version, field_faults, input_error, plain_location
from sftopt.core.references import reference_faults
from sftopt.core.sections import (
    Accuracy,
    AccuracyScope,
    AdapterDownlink,
    Device,
    DownlinkPayload,
    Fading,
    PowerLaw,
    Radio,
    Server,
    ServerOrder,
    Source,
    Training,
    Workload,
)
from sftopt.core.written_paths import edits_in_si

__all__ = [
    "Accuracy",
    "AccuracyScope",
    "AdapterDownlink",
    "Compression",
    "Device",
    "DownlinkPayload",
    "Fading",
    "Instance",
    "MaskOverhead",
    "Mode",
    "ModeKind",
    "PowerLaw",
    "Radio",
    "Server",
    "ServerOrder",
    "Source",
    "Training",
    "Workload",
    "parse_instance",
]


class Instance(Versioned):
    """A cell, a workload and the limits: the whole input of the planning problem (13)."""

    name: Name = "instance"
    source: Source = Source()
    workload: Workload
    compression: Compression = Compression()
    accuracy: Accuracy
    devices: tuple[Device, ...] = Field(min_length=1, max_length=MOST_DEVICES)
    server: Server
    radio: Radio
    training: Training = Training()
    server_order: ServerOrder = ServerOrder.IN_TURN

    @property
    def keep_min(self) -> float:
        """Return the least keep fraction rho_min, if left open max(0.05, 1.2 / a_2)."""
        if self.compression.keep_min is not None:
            return self.compression.keep_min
        return min(max(0.05, 1.2 / self.accuracy.keep_decay), self.compression.keep_max)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data with every field written out."""
        return self.model_dump(mode="json")

    @cached_property
    def hash(self) -> str:
        """Return the sha256 that plans carry: of what differs from the defaults.

        Neither ``name``, ``source`` and ``accuracy.provenance`` count, nor how a number is
        spelled or whether a default is written out; everything else does. The rule stands in
        ``formulations/MODEL.md``.
        """
        return instance_hash(self.to_dict())

    @cached_property
    def hash_v1(self) -> str | None:
        """Return the sha256 of schema version 1; None where the cell has later fields."""
        return instance_hash_v1(self.to_dict())

    def answers_to(self, plan_hash: str) -> bool:
        """Return whether a plan that carries this hash, of either version, was made for it."""
        return plan_hash == self.hash or plan_hash == self.hash_v1

    def reference_faults(self) -> list[Fault]:
        """List the faults between fields that no single field's type can show."""
        return list(
            reference_faults(
                self.devices, self.workload, self.accuracy, self.compression, self.server
            )
        )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; one with ``update`` is checked like an instance that was read.

        Raises pydantic's ValidationError where a changed value cannot be, InputError where it does
        not go with the others.
        """
        made = super().model_copy(update=update, deep=deep)
        faults = made.reference_faults() if update else []
        if faults:
            raise input_error(f"copy of instance '{self.name}'", faults)
        return made

    def replace(self, /, **edits: Any) -> Instance:
        """Return the instance with ``edits`` made: values by dotted path, checked like a file.

        ::

            instance.replace(
                name="twice the band",
                **{"radio.uplink_bandwidth_hz": 4e7, "devices[dev03].batch": 8},
            )

        A device is named by its id or its position, a mode by its label or its position; a whole
        list or section may be given as well. A number may be in the unit that the last word names
        (``radio.bandwidth_mhz``, ``server.memory_gb``). ``source.text`` says what was edited and
        from which hash.

        Raises InputError that lists every path that leads nowhere and every value that cannot be.
        """
        if not edits:
            return self
        data, faults = edited(self, edits_in_si(edits))
        what = f"edits of instance '{self.name}'"
        try:
            made = parse_instance(data, what, self.to_dict())
        except InputError as error:
            raise input_error(what, [*faults, *error.faults]) from None
        if faults:
            raise input_error(what, faults)
        text = f"{made.source.text}\n{note_of(edits, self.hash)}".strip()
        source = made.source.model_copy(update={"text": text[-MOST_TEXT:]})
        return made.model_copy(update={"source": source})

    def __repr__(self) -> str:
        return (
            f"Instance({self.name}: {len(self.devices)} devices, {self.workload.name}, "
            f"{self.workload.blocks} blocks, hash {self.hash[:12]})"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        rows = [
            (one.id, one.kind, one.compute_flops_per_s / 1e12, one.memory_bytes / 1e9, one.batch,
             one.weight, one.transmit_power_w, one.uplink_gain)
            for one in self.devices
        ]  # fmt: skip
        head = ("device", "kind", "TFLOP/s", "GB", "batch", "weight", "W", "uplink gain")
        return html_table(repr(self), head, rows)

    def option_names(self) -> dict[str, str]:
        """Name the variants of the model this instance asks for, for tables and provenance."""
        return {
            "power": self.radio.power.value,
            "downlink": self.radio.downlink.value,
            "adapter_downlink": self.radio.adapter_downlink.value,
            "server_order": self.server_order.value,
            "accuracy_scope": self.accuracy.scope.value,
            "modes": ",".join(mode.label for mode in self.compression.modes),
        }


def parse_instance(
    data: dict[str, Any], what: str = "instance", before: dict[str, Any] | None = None
) -> Instance:
    """Return an instance from JSON data, types, ranges and cross-references checked.

    ``before`` is the data of a sound instance that ``data`` was made of: where a field is faulty,
    its value stands in while the rest is checked. Raises InputError listing every fault.
    """
    refuse_another_kind("instance", data, what)
    check_version(data, what)
    try:
        instance = Instance.model_validate(data)
    except ValidationError as error:
        faults = field_faults(Instance, data, error)
        raise input_error(what, [*faults, *_references_of_the_rest(data, error, before)]) from None
    faults = instance.reference_faults()
    if faults:
        raise input_error(what, faults)
    return instance


def _references_of_the_rest(
    data: dict[str, Any], error: ValidationError, before: dict[str, Any] | None
) -> list[Fault]:
    """List faults between fields that can be told although single fields are faulty.

    A faulty field is left out, so that its value ``before`` or its default holds, and a faulty mode
    gives way to one that nothing refers to. Where that gives no instance (a needed field is
    missing, a device is no device) nothing is said.
    """
    rest = deepcopy(data)
    for item in error.errors():
        location = plain_location(item["loc"])
        try:
            if len(location) == 3 and location[:2] == ("compression", "modes"):
                index = int(location[2])
                rest["compression"]["modes"][index] = {"bits": 1, "name": f"(faulty) {index}"}
                continue
            while isinstance(location[-1], int):  # an entry of a list: the whole list
                location = location[:-1]
            holder: Any = rest
            known: Any = before
            for part in location[:-1]:
                holder = holder[part]
                known = None if known is None else known[part]
            holder.pop(location[-1], None)
            if known is not None:
                holder[location[-1]] = known[location[-1]]
        except (KeyError, IndexError, TypeError, AttributeError):
            return []
    try:
        return Instance.model_validate(rest).reference_faults()
    except ValidationError:
        return []
