"""A small task with known answers, and tiny split models to fine-tune on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from sftopt.training.split import OptimizerSettings, SplitConfig, SplitModel
from tests.training.split.tiny_models import CLASSES, TOKENS, VOCABULARY, tiny_model


@dataclass(frozen=True)
class FakeTask:
    """Images whose mean brightness is their class, or texts that count upwards."""

    name: str = "fake"
    metric: str = "accuracy"
    fingerprint: str = "0"
    noise: float = 0.3
    labels: int | None = None
    label_names: tuple[str, ...] = ()
    padding_token: int | None = None

    def train_batches(
        self, device: int, devices: int, batch: int, seed: int, skip: int = 0
    ) -> Iterator[dict[str, torch.Tensor]]:
        number = skip
        while True:
            yield self.draw(batch, seed, device, number)
            number += 1

    def evaluation(
        self, batch: int, part: str = "test", limit: int | None = None
    ) -> Iterator[dict[str, torch.Tensor]]:
        left = 60 if limit is None else limit
        number = 0
        while left > 0:
            yield self.draw(min(batch, left), 10**6, 0, number)
            left -= batch
            number += 1

    def draw(self, batch: int, *seed: int) -> dict[str, torch.Tensor]:
        generator = np.random.Generator(np.random.SFC64(seed))
        if self.metric == "accuracy":
            labels = generator.integers(0, CLASSES, batch)
            images = labels[:, None, None, None] - CLASSES / 2.0
            images = images + self.noise * generator.standard_normal((batch, 1, 12, 12))
            return {
                "pixel_values": torch.from_numpy(images.astype(np.float32)),
                "labels": torch.from_numpy(labels),
            }
        starts = generator.integers(0, VOCABULARY, batch)
        ids = torch.from_numpy((starts[:, None] + np.arange(TOKENS)) % VOCABULARY)
        return {"input_ids": ids, "labels": ids.clone()}


def small_split(
    family: str = "vit",
    cuts: tuple[int, ...] = (1, 3),
    learning_rate: float = 0.01,
    mode: dict[str, object] | None = None,
    **settings: object,
) -> SplitModel:
    """A tiny model split for ``device-0`` ...; ``mode`` sets mode, bits, keep of all devices."""
    config = SplitConfig.of(
        list(cuts),
        optimizer=OptimizerSettings(learning_rate=learning_rate).model_dump(),
        lora={"rank": 3, "alpha": 6.0},
        **settings,
    )
    if mode is not None:
        devices = [device.model_copy(update=mode) for device in config.devices]
        config = config.model_copy(update={"devices": tuple(devices)})
    return SplitModel(tiny_model(family), config)
