"""How a model is split: cuts, weights, adapters, optimiser. JSON-able; made from a plan or by hand.

``split_config.json``, schema version 2; version 1 is read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.fields import Frozen, Versioned
from sftopt.core.files import read_json, write_json
from sftopt.core.instance import Instance, ModeKind
from sftopt.core.parse import parse_model
from sftopt.core.plan import Aggregation, Order, Plan

CONFIG_NAME = "split_config.json"
"""File of the split beside its parts."""

_Count = Annotated[int, Field(ge=1, strict=True)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class DeviceSplit(Frozen):
    """One device's side of the split."""

    id: Annotated[str, Field(min_length=1, max_length=100)]
    blocks: Annotated[int, Field(ge=0, strict=True)] = Field(description="l_n, blocks it holds")
    weight: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        description="w_n, data weight; all weights sum to 1"
    )
    rank: _Count | None = Field(default=None, description="r_n of its adapters; null: as lora")
    mode: ModeKind = Field(default=ModeKind.NONE, description="boundary compression")
    mode_name: str | None = Field(
        default=None, description="the mode's name in the instance; null: by mode and bits"
    )
    bits: _Count = Field(default=32, description="q_n")
    keep_fraction: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=1.0, description="rho_n"
    )


class LoraSettings(Frozen):
    """The adapters of all blocks, in peft's words."""

    rank: _Count = 8
    alpha: _Positive = Field(
        default=16.0,
        description="of an adapter of rank `rank`; another rank r is scaled by alpha / rank too",
    )
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    target_modules: tuple[str, ...] | None = Field(
        default=None,
        description="ends of module names in a block, or all-linear; null: query and value",
    )
    rslora: bool = Field(
        default=False, description="scaled by alpha / sqrt(rank) in place of alpha / rank"
    )
    dora: bool = Field(
        default=False, description="the adapted weights' norms are trained too, and averaged"
    )
    rank_pattern: dict[int, _Count] = Field(
        default_factory=dict, description="block number from 0 -> its rank"
    )
    trained_modules: tuple[str, ...] | None = Field(
        default=None, description="trained in full on the server; null: a classifier's head"
    )


class AdapterDtype(StrEnum):
    """Types in which adapters cross the air."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"

    @property
    def bits(self) -> int:
        """Return the number of bits of one value."""
        return 32 if self is AdapterDtype.FLOAT32 else 16


class OptimizerName(StrEnum):
    """Optimisers on offer; each part has its own."""

    ADAMW = "adamw"
    SGD = "sgd"


class OptimizerSettings(Frozen):
    """The optimiser of every part."""

    name: OptimizerName = OptimizerName.ADAMW
    learning_rate: _Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        default=0.0, description="of sgd; adamw has none"
    )
    clip_norm: _Positive | None = Field(
        default=None, description="largest norm of each part's gradient; null: not clipped"
    )


_LATER_FIELDS: tuple[tuple[str, str, Any], ...] = (
    ("", "adapter_dtype", "float32"), ("lora", "rslora", False), ("lora", "dora", False),
    ("optimizer", "clip_norm", None),
)  # fmt: skip
"""Fields that settings of older runs do not have: section, name, and what they then were."""


class SplitConfig(Versioned):
    """Everything :class:`~sftopt.training.split.model.SplitModel` needs besides the base model."""

    base_model: str = Field(default="", description="path or hub id; empty: built in memory")
    revision: str | None = None
    devices: tuple[DeviceSplit, ...] = Field(min_length=1)
    lora: LoraSettings = LoraSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    adapter_dtype: AdapterDtype = Field(
        default=AdapterDtype.FLOAT32, description="in which adapters travel; they are kept wide"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 0
    side_keys: tuple[str, ...] = Field(
        default=(), description="keys of a batch to send to the server beside those always sent"
    )
    instance_hash: str | None = Field(default=None, description="of the plan this came from")
    order: Order = Field(default=Order.PARALLEL, description="in what order devices work")
    aggregation: Aggregation | None = Field(
        default=Aggregation.AVERAGING,
        description="how adapters are put together after a round; null: order sequential, where "
        "they go from one device to the next",
    )

    @model_validator(mode="before")
    @classmethod
    def _sequences_do_not_aggregate(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("order") == Order.SEQUENTIAL:
            return {"aggregation": None, **data}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        repeated = [name for name, n in Counter(d.id for d in self.devices).items() if n > 1]
        if repeated:
            raise ValueError(f"device ids must be unique; repeated: {', '.join(repeated)}")
        total = sum(device.weight for device in self.devices)
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"the device weights sum to {total:.9g}; they must sum to 1")
        if (self.aggregation is None) != (self.order is Order.SEQUENTIAL):
            raise ValueError(
                f"order {self.order.value} with aggregation "
                f"{self.aggregation and self.aggregation.value}: order sequential alone has none"
            )
        ranks = sorted({device.rank or self.lora.rank for device in self.devices})
        if self.aggregation is Aggregation.CORRECTED and len(ranks) > 1:
            raise ValueError(
                f"aggregation corrected: ranks from {ranks[0]} to {ranks[-1]} have no mean; "
                "take equal ranks, or concatenation"
            )
        summed = self.aggregation in (Aggregation.CONCATENATION, Aggregation.CORRECTED)
        if summed and (self.lora.dora or self.adapter_dtype is not AdapterDtype.FLOAT32):
            raise ValueError(
                f"aggregation {self.aggregation and self.aggregation.value}: increments are summed "
                "at full width and have no norms of weights; leave dora and adapter_dtype out"
            )
        return self

    @staticmethod
    def of(
        cut_layers: int | Sequence[int] | Mapping[str, int],
        *,
        weights: Sequence[float] | None = None,
        **settings: Any,
    ) -> SplitConfig:
        """Make a split by hand: of one cut, a list of cuts, or cuts by device id.

        ``weights`` default to equal ones; ``settings`` are further fields of this class. Raises
        InputError naming every fault.
        """
        if isinstance(cut_layers, int):
            cut_layers = (cut_layers,)
        if not isinstance(cut_layers, Mapping):
            cut_layers = {f"device-{number}": cut for number, cut in enumerate(cut_layers)}
        if weights is None:
            weights = [1.0 / max(len(cut_layers), 1)] * len(cut_layers)
        if len(weights) != len(cut_layers):
            raise InputError(f"{len(weights)} weights for {len(cut_layers)} devices.")
        devices = [
            {"id": name, "blocks": cut, "weight": weight}
            for (name, cut), weight in zip(cut_layers.items(), weights, strict=True)
        ]
        return parse_model(SplitConfig, {"devices": devices, **settings}, "split config")

    @staticmethod
    def from_plan(
        plan: Plan, instance: Instance | None = None, lora: LoraSettings | None = None
    ) -> SplitConfig:
        """Make the split a plan asks for: cuts, modes, bits, keep fractions, ranks, order and
        aggregation; as the judge reads it, a plan that leaves the aggregation open averages equal
        ranks and concatenates others.

        Data weights stand in the instance; without one the devices weigh the same. A rank that the
        plan leaves open is that of ``lora``, which rules over the instance's.
        Raises InputError where the instance is not the plan's, or a value cannot be.
        """
        if instance is not None and not instance.answers_to(plan.instance_hash):
            raise InputError(
                f"the plan was made for instance {plan.instance_hash[:12]}..., not for "
                f"'{instance.name}' ({instance.hash[:12]}...). Give the instance it was made for."
            )
        known = {} if instance is None else {device.id: device for device in instance.devices}
        devices = []
        for part in plan.devices:
            device = known.get(part.id)
            if instance is not None and device is None:
                raise UnknownNameError("device of the plan", part.id, known)
            off = part.mode is ModeKind.NONE
            devices.append(
                {
                    "id": part.id,
                    "blocks": part.blocks,
                    "weight": 1.0 / len(plan.devices) if device is None else device.weight,
                    "rank": part.rank,
                    "mode": part.mode,
                    "mode_name": part.mode_name,
                    "bits": part.bits,
                    "keep_fraction": 1.0 if off else part.keep_fraction,
                }
            )
        if lora is None:
            rank = LoraSettings().rank if instance is None else instance.workload.lora_rank
            lora = LoraSettings(rank=rank, alpha=2.0 * rank)
        data = {
            "devices": devices,
            "lora": lora.model_dump(),
            "instance_hash": plan.instance_hash,
            "order": plan.order,
            "aggregation": _aggregation(plan, lora.rank),
        }
        return parse_model(SplitConfig, data, "the plan's split")

    @property
    def cut_layers(self) -> dict[str, int]:
        """Return the number of blocks l_n by device id."""
        return {device.id: device.blocks for device in self.devices}

    def device(self, device_id: str) -> DeviceSplit:
        """Return one device by its id. Raises UnknownNameError."""
        for device in self.devices:
            if device.id == device_id:
                return device
        raise UnknownNameError("device", device_id, [device.id for device in self.devices])

    def rank(self, block: int, device_id: str | None = None) -> int:
        """Rank of a block's adapters on a device, or (None) on the server.

        The server's is the largest of all devices', so that it can hold all their averages.
        """
        common = self.lora.rank_pattern.get(block, self.lora.rank)
        if device_id is not None:
            return self.device(device_id).rank or common
        return max(device.rank or common for device in self.devices)

    def check_against(self, block_count: int) -> None:
        """Raise InputError naming every cut and rank that a model of L blocks cannot have."""
        if self.order is Order.FEDERATED:
            faults = [
                f"device {device.id}: {device.blocks} blocks, but in order federated a device "
                f"holds all {block_count} of the model"
                for device in self.devices
                if device.blocks != block_count
            ]
        else:
            faults = [
                f"device {device.id}: {device.blocks} blocks, but a device holds at most "
                f"L-1 = {block_count - 1} of the model's {block_count}"
                for device in self.devices
                if device.blocks > block_count - 1
            ]
        faults += [
            f"lora.rank_pattern: block {block}, but the model's blocks are 0..{block_count - 1}"
            for block in self.lora.rank_pattern
            if not 0 <= block < block_count
        ]
        if faults:
            raise InputError("this split does not fit the model:\n  - " + "\n  - ".join(faults))

    def to_dict(self) -> dict[str, Any]:
        """Return the split as plain JSON data.

        Order, aggregation and other later fields are told where they are not the usual ones:
        settings of older runs, which know none of them, then stay the same.
        """
        data = self.model_dump(mode="json")
        for part, name, usual in _LATER_FIELDS:
            held = data[part] if part else data
            if held[name] == usual:
                del held[name]
        if self.order is Order.PARALLEL and self.aggregation is Aggregation.AVERAGING:
            del data["order"], data["aggregation"]
        return data

    @staticmethod
    def from_dict(data: dict[str, Any], what: str = "split config") -> SplitConfig:
        """Read a split out of plain data. Raises InputError naming every fault."""
        return parse_model(SplitConfig, data, what)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write ``split_config.json`` into ``directory``. Raises InputError where that fails."""
        write_json(Path(directory) / CONFIG_NAME, self.to_dict())

    @staticmethod
    def from_pretrained(directory: str | os.PathLike[str]) -> SplitConfig:
        """Read ``split_config.json`` of ``directory``. Raises InputError naming every fault."""
        path = Path(directory)
        if not path.is_dir():
            raise InputError(f"folder '{path}' does not exist; a saved split model is a folder.")
        return SplitConfig.from_dict(
            read_json(path / CONFIG_NAME, "split config"), f"'{path / CONFIG_NAME}'"
        )


def _aggregation(plan: Plan, usual_rank: int) -> Aggregation | None:
    """How the judge reads the plan: as given, else by whether all ranks are equal."""
    if plan.order is Order.SEQUENTIAL or plan.aggregation is not None:
        return plan.aggregation
    ranks = {part.rank or usual_rank for part in plan.devices}
    return Aggregation.AVERAGING if len(ranks) == 1 else Aggregation.CONCATENATION
