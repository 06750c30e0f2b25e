"""Every row of the table: the split trains what plain peft trains unsplit, or says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from sftopt.core.errors import InputError
from sftopt.training.split import SplitConfig, SplitModel, lora_config
from sftopt.training.split.lora import add_adapters, stack_adapters
from tests.training.conformance.architectures import BLOCKS, tiny_model
from tests.training.conformance.batches import Batch, plain_batch
from tests.training.conformance.page import PAGE, page
from tests.training.conformance.rows import ROWS, Row

pytestmark = pytest.mark.train

CUTS = {"a": 1, "b": 2}
LORA = {"rank": 2, "alpha": 4.0}
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""By the model's precision: largest relative difference of gradients, on each side of the cut."""

Gradients = dict[str, torch.Tensor]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_split_is_equal_or_refused(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    if row.refusal is None:
        check_equal(row, monkeypatch)
        return
    with pytest.raises(InputError) as refusal:
        take_a_step(row)
    assert re.sub(r"\d\.\de[+-]\d\d off", "N off", str(refusal.value)) == row.refusal


def split_of(row: Row) -> tuple[SplitModel, Batch]:
    """The row's split with adapters that are not zero, and its batch."""
    model = tiny_model(row.architecture, row.head, **row.config).to(row.dtype)
    lora = {**LORA, **row.split.get("lora", {})}
    split = SplitModel(model, SplitConfig.of(CUTS, **{**row.split, "lora": lora}))
    batch = plain_batch(model, row.head)
    if row.change is not None:
        batch = row.change(batch)
    if row.head == "image":
        batch["pixel_values"] = batch["pixel_values"].to(row.dtype)
    generator = torch.Generator().manual_seed(5)
    held = stack_adapters(split.server.model, split.stack, range(BLOCKS))
    with torch.no_grad():
        for name, parameter in held.items():
            if name.endswith("lora_B"):
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    for device_id in CUTS:
        split.rejoin(device_id)
    return split, batch


def take_a_step(row: Row) -> None:
    split, batch = split_of(row)
    split.train_step({"a": batch})


def check_equal(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    split, batch = split_of(row)
    loss, truth = unsplit(row, split, batch)
    if row.checkpointing:
        split.gradient_checkpointing_enable()  # works in training mode alone
    else:
        split.train(False)  # no dropout
    for part in split.parts:
        monkeypatch.setattr(part, "update", lambda: None)

    report = split.train_step(dict.fromkeys(CUTS, batch))

    tolerance = TOLERANCE[row.dtype]
    assert report.losses == pytest.approx(dict.fromkeys(CUTS, loss), rel=tolerance)
    for name, cut in CUTS.items():
        below = {path for path in truth if (block := block_of(path, split)) is not None
                 and block < cut}  # fmt: skip
        check_side(gradients(split.devices[name].model), truth, below, tolerance)
    behind = {path for path in truth if (block := block_of(path, split)) is None or block > 0}
    check_side(gradients(split.server.model), truth, behind, tolerance)


def check_side(found: Gradients, truth: Gradients, names: set[str], tolerance: float) -> None:
    assert set(found) == names
    norm = sum(float(truth[name].double().square().sum()) for name in names) ** 0.5
    off = sum(float((truth[n] - found[n]).double().square().sum()) for n in names) ** 0.5
    assert norm > 0.0, "the check would prove nothing"
    assert off <= tolerance * norm


def unsplit(row: Row, split: SplitModel, batch: Batch) -> tuple[float, Gradients]:
    """Loss and gradients of the same model in plain peft, which knows nothing of cuts."""
    base = tiny_model(row.architecture, row.head, **row.config).to(row.dtype)
    settings = lora_config(split.config, base, split.stack)
    model = add_adapters(base, settings, seed=99)
    own = dict(base.named_parameters())
    with torch.no_grad():
        for name, value in split.server.trainable().items():
            own[name].copy_(value)
    model.train(row.checkpointing)
    base.config.use_cache = False  # as transformers' trainer has it
    loss = base(**batch).loss
    loss.backward()
    return loss.item(), gradients(base)


def gradients(model: torch.nn.Module) -> Gradients:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def block_of(path: str, split: SplitModel) -> int | None:
    """The block of a parameter; None for a head."""
    marker = f"{split.stack.path}."
    return int(path.split(marker, 1)[1].split(".", 1)[0]) if marker in path else None


def test_the_table_has_every_row_once_and_the_page_is_made_of_it() -> None:
    names = [row.name for row in ROWS]
    assert len(names) >= 70
    assert len(set(names)) == len(names)
    root = Path(__file__).parents[3]
    assert (root / PAGE).read_text(encoding="utf-8") == page(), (
        "run: python -m tests.training.conformance.page"
    )
