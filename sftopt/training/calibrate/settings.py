"""What a calibration measures and how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sftopt.core.errors import InputError
from sftopt.core.instance import ModeKind
from sftopt.core.plan import Aggregation, Order
from sftopt.training.codec import EcsqConfig, TopKConfig
from sftopt.training.schedule import Schedule
from sftopt.training.split import (
    AdapterDtype,
    DeviceSplit,
    LoraSettings,
    OptimizerSettings,
    SplitConfig,
)

TRAINED_AS = (
    "learning_rate", "schedule", "weight_decay", "clip_norm", "accumulation", "lora_rank",
    "lora_alpha", "target_modules", "lora_dropout", "rslora", "dora", "adapter_dtype",
    "side_keys",
)  # fmt: skip
"""Settings of a fine-tuning that one by a plan takes over from the calibration."""
CONDUCTS: dict[str, tuple[Order, Aggregation | None]] = {
    "sequential": (Order.SEQUENTIAL, None),
    "corrected": (Order.PARALLEL, Aggregation.CORRECTED),
    "concatenation": (Order.PARALLEL, Aggregation.CONCATENATION),
}
"""Orders and aggregations beside the usual one whose rounds can be measured, by name. Order
federated has no boundary, and is none of a calibration's runs."""


@dataclass(frozen=True)
class CalibrationSettings:
    """Every value that decides on the outcome; all of them are part of the cache's keys."""

    cuts: tuple[int, ...] = (2, 4)
    """Blocks held by the devices of a run, one device for each; the first one's boundary is what
    bytes are measured on."""
    batch: int = 16
    """Samples per device and step."""
    rounds: int = 5
    local_steps: int = 10
    learning_rate: float = 1e-3
    schedule: str = "constant"
    """A value of ``sftopt.training.schedule.Schedule``."""
    lora_rank: int = 8
    lora_alpha: float = 16.0
    target_modules: tuple[str, ...] | None = None
    lora_dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    adapter_dtype: str = "float32"
    """In which adapters travel."""
    side_keys: tuple[str, ...] = ()
    """Keys of a batch that are sent beside those always sent."""
    weight_decay: float = 0.0
    clip_norm: float | None = None
    """Largest norm of each part's gradient; None: not clipped."""
    accumulation: int = 1
    """Local steps of one update."""
    evaluation_limit: int | None = None
    """Held-out samples of a run at most; None: all."""
    evaluation_part: str = "test"
    """Held-out part that the runs are judged on: ``test``, or ``validation`` to choose by."""
    keeps: tuple[float, ...] = (0.05, 0.1, 0.16, 0.25, 0.36, 0.5)
    bits: tuple[int, ...] = (2, 4, 8)
    seeds: tuple[int, ...] = (0, 1, 2)
    ecsq: tuple[float, ...] = ()
    """Target entropies of the dead-zone quantiser, bits per element; none by default."""
    codec: TopKConfig = field(default_factory=TopKConfig)
    """Rate, group and centring; keep and bits are set by the grid."""
    ecsq_codec: EcsqConfig = field(default_factory=lambda: EcsqConfig(bits=2.0))
    """Dead zone and scaling; bits are set by ``ecsq``."""
    statistics_bits: tuple[int, ...] = (2, 3, 4, 6, 8)
    """Modes whose bytes are measured."""
    statistics_keeps: tuple[float, ...] = (0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5)
    tensors: int = 4
    """Boundary tensors bytes are calibrated on, and half as many, at least 2, to test them on."""
    profile_batches: tuple[int, ...] = ()
    """Batch sizes profiled; empty: a quarter of ``batch``, ``batch``, and twice that."""
    every_round: bool = False
    """Whether every run's metric is taken after every round: laws of rounds to a target need it."""
    targets: tuple[float, ...] = ()
    """Levels of the metric that the linear law is fitted at; none: some that the runs reach."""
    ranks: tuple[int, ...] = ()
    """Other ranks of the adapters, each with an uncompressed run of every seed."""
    conducts: tuple[str, ...] = ()
    """Other orders and aggregations (``CONDUCTS``), each with an uncompressed run of every seed."""
    repeats: int = 9
    """Timings of each block; the median counts."""

    def __post_init__(self) -> None:
        needed = ("cuts", "keeps", "bits", "seeds", "statistics_bits", "statistics_keeps")
        faults = [f"{name} is empty" for name in needed if not getattr(self, name)]
        for name, least in (("batch", 1), ("rounds", 1), ("local_steps", 1), ("repeats", 1),
                            ("tensors", 1), ("lora_rank", 1), ("accumulation", 1)):  # fmt: skip
            if getattr(self, name) < least:
                faults.append(f"{name} = {getattr(self, name)}; at least {least} is needed")
        for name in ("keeps", "statistics_keeps"):
            odd = [value for value in getattr(self, name) if not 0.0 < value <= 1.0]
            if odd:
                faults.append(f"{name}: {odd[0]:g} is no fraction above 0 and at most 1")
        odd_bits = [b for b in (*self.bits, *self.statistics_bits) if not 2 <= b <= 8]
        if odd_bits:
            faults.append(f"bits: {odd_bits[0]}; the codec has 2 to 8")
        if any(rank < 1 for rank in self.ranks) or self.lora_rank in self.ranks:
            faults.append(f"ranks: other whole numbers from 1 than lora_rank = {self.lora_rank}")
        if not all(map(math.isfinite, self.targets)):
            faults.append("targets: numbers in the unit of the metric are needed")
        odd_names = sorted({name for name in self.conducts if name not in CONDUCTS})
        if odd_names or len(set(self.conducts)) < len(self.conducts):
            what = f"'{odd_names[0]}' is none" if odd_names else "one is named twice"
            faults.append(f"conducts: {what}; there are {', '.join(CONDUCTS)}")
        summed = {"corrected", "concatenation"} & set(self.conducts)
        if summed and (self.dora or self.adapter_dtype != AdapterDtype.FLOAT32.value):
            faults.append(f"conducts: {min(summed)} needs adapters of float32 without dora")
        if (self.targets or self.ranks or self.conducts) and not self.every_round:
            faults.append("targets, ranks and conducts need every_round (--time-to-target)")
        if self.every_round and self.schedule != Schedule.CONSTANT:
            faults.append(f"every_round needs a constant learning rate, not {self.schedule}")
        if any(seed < 0 for seed in self.seeds) or len(set(self.seeds)) < len(self.seeds):
            faults.append("seeds must differ and be 0 or more")
        if any(not 0.05 <= value <= 10.0 for value in self.ecsq):
            faults.append("ecsq: target entropies of 0.05 to 10 bits per element are needed")
        if self.schedule not in set(Schedule):
            faults.append(f"schedule '{self.schedule}'; known: {', '.join(Schedule)}")
        if any(cut < 1 for cut in self.cuts):
            faults.append("cuts: a device holds at least 1 block")
        if faults:
            raise InputError("this calibration cannot be started:\n  - " + "\n  - ".join(faults))

    @property
    def measured_batches(self) -> tuple[int, ...]:
        """Return the numbers of samples of the profile's batches, ascending, with ``batch``."""
        chosen = self.profile_batches or (max(1, self.batch // 4), self.batch, 2 * self.batch)
        return tuple(sorted({*chosen, self.batch}))

    def run_dict(self) -> dict[str, Any]:
        """Return what decides on a single fine-tuning, as plain data."""
        names = ("cuts", "batch", "rounds", "local_steps", "evaluation_limit", *TRAINED_AS)
        data = {name: getattr(self, name) for name in names}
        if self.every_round:  # else as runs were known by before there was this
            data["every_round"] = True
        if self.evaluation_part != "test":
            data["evaluation_part"] = self.evaluation_part
        return plain({**data, "codec": self.base_codec(), "ecsq_codec": self.base_ecsq()})

    def base_codec(self) -> dict[str, Any]:
        """Return the Top-K codec's options without keep and bits."""
        return {k: v for k, v in self.codec.to_dict().items() if k not in ("keep", "bits")}

    def base_ecsq(self) -> dict[str, Any]:
        """Return the dead-zone codec's options without its rate."""
        return {k: v for k, v in self.ecsq_codec.to_dict().items() if k not in ("bits", "step")}

    def topk(self, bits: int, keep: float) -> TopKConfig:
        """Return the Top-K codec of one cell."""
        return replace(self.codec, bits=bits, keep=keep)

    def dead_zone(self, target_bits: float) -> EcsqConfig:
        """Return the dead-zone codec at one target entropy."""
        return replace(self.ecsq_codec, bits=target_bits, step=None)

    def split_config(
        self, seed: int, cuts: tuple[int, ...] | None = None, rank: int | None = None,
        conduct: str | None = None,
    ) -> SplitConfig:  # fmt: skip
        """Return a configuration of one device for each cut, of equal weight; the codec is not the
        configuration's. Adapters of another ``rank`` are scaled alike; ``conduct`` is one of
        ``CONDUCTS``, None for the usual order and aggregation.
        """
        order, aggregation = CONDUCTS.get(conduct or "", (Order.PARALLEL, Aggregation.AVERAGING))
        chosen = self.cuts if cuts is None else cuts
        devices = tuple(
            DeviceSplit(
                id=f"device-{number}", blocks=cut, weight=1.0 / len(chosen), mode=ModeKind.NONE
            )
            for number, cut in enumerate(chosen)
        )
        return SplitConfig(
            devices=devices, lora=self.lora(rank), optimizer=self.optimizer(),
            adapter_dtype=AdapterDtype(self.adapter_dtype), seed=seed, side_keys=self.side_keys,
            order=order, aggregation=aggregation,
        )  # fmt: skip

    def lora(self, rank: int | None = None) -> LoraSettings:
        """Return the adapters; of another ``rank`` they are scaled alike."""
        rank = rank or self.lora_rank
        share = rank / self.lora_rank
        return LoraSettings(
            rank=rank, alpha=self.lora_alpha * (math.sqrt(share) if self.rslora else share),
            dropout=self.lora_dropout, target_modules=self.target_modules, rslora=self.rslora,
            dora=self.dora,
        )  # fmt: skip

    def optimizer(self) -> OptimizerSettings:
        """Return the optimiser of every part."""
        return OptimizerSettings(
            learning_rate=self.learning_rate, weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain data."""
        left_out = {"codec", "ecsq_codec"}  # and, where not asked for, what came later than files
        left_out |= {
            name
            for name in ("every_round", "targets", "ranks", "conducts")
            if not getattr(self, name)
        }
        left_out |= {"evaluation_part"} if self.evaluation_part == "test" else set()
        data = {name: value for name, value in asdict(self).items() if name not in left_out}
        return plain({**data, "codec": self.base_codec(), "ecsq_codec": self.base_ecsq()})


def plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """Turn tuples into lists, as JSON has them."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in data.items()
    }
