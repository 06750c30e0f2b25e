"""Putting adapters together: corrected averaging, concatenation, federated; and turns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError

from sftopt.core.errors import InputError
from sftopt.core.plan import Aggregation, Order
from sftopt.training.split import SplitConfig, SplitModel, WireError
from sftopt.training.split.aggregation import merged, part_of, read, terms_of
from sftopt.training.split.merging import adapted_modules, as_stored, frozen_weights
from sftopt.training.split.whole import head_of
from tests.training.split.tiny_models import BLOCKS, split_of, tiny_batch, tiny_model

pytestmark = pytest.mark.train

WEIGHTS = [0.5, 0.3, 0.2]
CUTS = {"a": 1, "b": 3, "c": 0}
Products = dict[str, torch.Tensor]


def ranked(family: str, ranks: dict[str, int], **settings: object) -> SplitModel:
    """Cuts 1, 3 and 0 with ranks of the devices' own, trained for two steps of plain SGD."""
    config = SplitConfig.of(
        CUTS, weights=WEIGHTS, lora={"rank": 3, "alpha": 6.0},
        optimizer={"name": "sgd", "learning_rate": 0.1}, **settings,
    )  # fmt: skip
    devices = [d.model_copy(update={"rank": ranks.get(d.id)}) for d in config.devices]
    split = SplitModel(tiny_model(family), SplitConfig.of(CUTS).model_validate(
        {**config.model_dump(), "devices": [d.model_dump() for d in devices]}))  # fmt: skip
    train(split, family)
    return split


def train(split: SplitModel, family: str, seed: int = 0) -> None:
    for step in range(2):
        split.train_step({n: tiny_batch(family, seed + 10 * step + k) for k, n in enumerate("abc")})


def products(part: object, numbers: list[int]) -> Products:
    """What a block's modules really do: frozen weight and scaled B A, (outputs, inputs)."""
    factors = part.adapters(numbers)  # type: ignore[attr-defined]
    weights = frozen_weights(part, numbers)  # type: ignore[arg-type]
    found = {}
    for name, module in adapted_modules(part, numbers).items():  # type: ignore[arg-type]
        product = factors[f"{name}.lora_B"].double() @ factors[f"{name}.lora_A"].double()
        found[name] = as_stored(module, weights[name]).double() + 2.0 * product
    return found


def expected(split: SplitModel) -> Products:
    """SUM w_n (copy or, where n does not hold the block, the server's copy) of all products."""
    own = products(split.server, list(range(BLOCKS)))
    total = {name: torch.zeros_like(value) for name, value in own.items()}
    for weight, (name, device) in zip(WEIGHTS, split.devices.items(), strict=True):
        held = products(device, list(range(CUTS[name])))
        for module, value in own.items():
            total[module] += weight * held.get(module, value)
    return total


def assert_same(one: Products, other: Products) -> None:
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("family", ["gpt2", "vit"])
@pytest.mark.parametrize("rule", ["concatenation", "corrected"])
def test_without_cross_terms_every_holder_has_the_mean_of_the_products(
    family: str, rule: str
) -> None:
    ranks = {"a": 2, "b": 1} if rule == "concatenation" else {}
    split = ranked(family, ranks, aggregation=rule)
    wanted, means = expected(split), mean_factors(split)
    split.average()
    assert_same(wanted, products(split.server, list(range(BLOCKS))))
    for name, device in split.devices.items():
        assert_same(products(device, list(range(CUTS[name]))), wanted)
        for module, value in frozen_weights(device, range(CUTS[name])).items():
            assert torch.equal(value, frozen_weights(split.server, range(3))[module]), "to the bit"
    after = split.server.adapters(range(3))
    if rule == "corrected":
        for name, value in means.items():
            torch.testing.assert_close(after[name], value, rtol=1e-6, atol=1e-7)
    else:
        assert all(not value.any() for name, value in after.items() if name.endswith("B"))
        assert all(value.any() for name, value in after.items() if name.endswith("A"))
    train(split, family, 50)
    wanted = expected(split)
    split.average()
    assert_same(wanted, products(split.server, list(range(BLOCKS))))


def mean_factors(split: SplitModel) -> dict[str, torch.Tensor]:
    """The weighted means of A and of B, by hand."""
    own = split.server.adapters(range(3))
    total = {name: torch.zeros_like(value) for name, value in own.items()}
    for weight, (name, device) in zip(WEIGHTS, split.devices.items(), strict=True):
        held = device.adapters(range(CUTS[name]))
        for factor, value in own.items():
            if held.get(factor, value).shape == value.shape:
                total[factor] += weight * held.get(factor, value)
    return total


def test_averaging_has_cross_terms_and_the_others_do_not() -> None:
    """Two devices of one module: products 2 and 18, mean of factors 2 x 4, of products 10."""
    server = {"0.q.lora_A": torch.ones(1, 1), "0.q.lora_B": torch.ones(1, 1)}
    copies = [
        (0.5, {"0.q.lora_A": torch.tensor([[1.0]]), "0.q.lora_B": torch.tensor([[2.0]])}),
        (0.5, {"0.q.lora_A": torch.tensor([[3.0]]), "0.q.lora_B": torch.tensor([[6.0]])}),
    ]
    summed = merged(terms_of(Aggregation.CONCATENATION, server, copies), server)
    assert summed.adapters is None
    assert float(summed.update["0.q"]) == 10.0
    corrected = merged(terms_of(Aggregation.CORRECTED, server, copies), server)
    assert corrected.adapters is not None
    assert float(corrected.update["0.q"]) == 10.0 - 2.0 * 4.0
    assert float(corrected.adapters["0.q.lora_A"]) == 2.0
    assert float(corrected.adapters["0.q.lora_B"]) == 4.0


@pytest.mark.parametrize("rule", [Aggregation.CONCATENATION, Aggregation.CORRECTED])
def test_what_is_shorter_is_sent_and_reads_the_same(rule: Aggregation) -> None:
    """Many holders of a small matrix: the matrix; few of a large one: their factors."""
    generator = torch.Generator().manual_seed(0)

    def factors(width: int) -> dict[str, torch.Tensor]:
        return {"2.q.lora_A": torch.randn(2, width, generator=generator),
                "2.q.lora_B": torch.randn(width, 2, generator=generator)}  # fmt: skip

    for width, count, name in ((6, 9, "2.dense"), (40, 2, "2")):
        own = factors(width)
        copies = [(1.0, factors(width)) for _ in range(count)]
        tensors = terms_of(rule, own, copies)
        assert name in tensors
        payload = part_of(tensors, 3)
        here, there = merged(tensors, own), read(payload, own)
        exact = sum(c["2.q.lora_B"].double() @ c["2.q.lora_A"].double() for _, c in copies) / count
        if here.adapters is not None:
            assert there.adapters is not None
            exact = exact - (here.adapters["2.q.lora_B"].double()
                             @ here.adapters["2.q.lora_A"].double())  # fmt: skip
            assert torch.equal(here.adapters["2.q.lora_A"], there.adapters["2.q.lora_A"])
        torch.testing.assert_close(here.update["2.q"].double(), exact, rtol=1e-6, atol=1e-6)
        assert torch.equal(here.update["2.q"], there.update["2.q"])
        with pytest.raises(WireError, match="blocks held here"):
            read(payload, {name.replace("2", "1", 1): value for name, value in own.items()})


@pytest.mark.parametrize("rule", ["concatenation", "corrected"])
def test_a_device_that_missed_a_round_rejoins_the_others(rule: str) -> None:
    split = ranked("vit", {}, aggregation=rule)
    split.average(["a", "c"])
    module = next(iter(products(split.server, [0])))
    missed = products(split.devices["b"], [0])[module]
    assert not torch.equal(missed, products(split.server, [0])[module])
    split.rejoin("b")
    assert_same(products(split.devices["b"], [0]), products(split.server, [0]))
    split.train_step({"b": tiny_batch("vit")})
    split.average()
    assert_same(products(split.devices["b"], [0]), products(split.server, [0]))


@pytest.mark.parametrize("rule", ["concatenation", "corrected"])
def test_a_checkpoint_has_the_weights_that_moved(rule: str, tmp_path: Path) -> None:
    settings = {"aggregation": rule, "weights": WEIGHTS}
    split = split_of("gpt2", CUTS, **settings)
    train(split, "gpt2")
    split.average(["a", "b"])
    train(split, "gpt2", 30)
    split.save_checkpoint(tmp_path / "kept", {"place": 1})
    again = split_of("gpt2", CUTS, **settings)
    assert again.load_checkpoint(tmp_path / "kept") == {"place": 1}
    for one in (split, again):
        one.average()
        train(one, "gpt2", 60)
        one.average()
    for part, other in zip(split.parts, again.parts, strict=True):
        for name, value in part.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[name]), name


@pytest.mark.parametrize("family", ["gpt2", "vit"])
def test_all_that_was_learnt_loads_in_plain_peft(family: str, tmp_path: Path) -> None:
    split = ranked(family, {"b": 2}, aggregation="concatenation")
    split.average()
    train(split, family, 40)
    split.average()
    split.save_pretrained(tmp_path)
    assert not (tmp_path / "server" / "adapter_config.json").exists(), "adapters are not all of it"
    plain = PeftModel.from_pretrained(tiny_model(family), tmp_path / "whole")
    plain.train(False)
    batch = tiny_batch(family)
    with torch.no_grad():
        logits = plain(**batch).logits
    torch.testing.assert_close(logits, split.evaluate("c", batch).logits, rtol=1e-5, atol=1e-5)
    again = SplitModel(tiny_model(family), SplitConfig.from_pretrained(tmp_path))
    again.load_adapters(tmp_path)
    torch.testing.assert_close(again.evaluate("b", batch).logits, logits, rtol=1e-5, atol=1e-5)


def test_federated_is_the_weighted_mean_of_whole_models() -> None:
    cuts = dict.fromkeys("abc", BLOCKS)
    split = split_of("vit", cuts, weights=WEIGHTS, order="federated")
    before = split.server.adapters(range(BLOCKS))
    train(split, "vit")
    assert all(torch.equal(v, before[n]) for n, v in split.server.adapters(range(BLOCKS)).items())
    parts = list(split.devices.values())
    copies = [part.adapters(range(BLOCKS)) for part in parts]
    heads = [{n: p.detach().clone() for n, p in head_of(part).items()} for part in parts]
    split.average()
    for name, value in split.server.adapters(range(BLOCKS)).items():
        mean = sum(w * copy[name] for w, copy in zip(WEIGHTS, copies, strict=True))
        torch.testing.assert_close(value, mean, rtol=1e-6, atol=1e-7)
    assert len(head_of(split.server)) == 2
    for name, value in head_of(split.server).items():
        mean = sum(w * head[name] for w, head in zip(WEIGHTS, heads, strict=True))
        torch.testing.assert_close(value.detach(), mean, rtol=1e-6, atol=1e-7)
    for part in parts:
        assert all(torch.equal(v, head_of(split.server)[n]) for n, v in head_of(part).items())
    traffic = split.channels["a"].traffic.to_dict()
    assert set(traffic) == {f"{way}_{kind}_bytes" for way in ("uplink", "downlink")
                            for kind in ("adapters", "head")}  # fmt: skip
    batch = tiny_batch("vit")
    torch.testing.assert_close(
        split.evaluate("a", batch).logits, split.evaluate("b", batch).logits, rtol=0, atol=0
    )


def test_whole_models_take_the_mean_gradient_of_several_batches() -> None:
    first, second = tiny_batch("vit", 1), tiny_batch("vit", 2)
    joined = {name: torch.cat([value, second[name]]) for name, value in first.items()}
    apart, together = (split_of("vit", BLOCKS, order="federated") for _ in range(2))
    apart.train_step({"device-0": first}, update=False)
    apart.train_step({"device-0": second})
    together.train_step({"device-0": joined})
    for name, value in together.devices["device-0"].trainable().items():
        held = apart.devices["device-0"].trainable()[name]
        torch.testing.assert_close(held, value, rtol=1e-5, atol=1e-6)


def test_heads_travel_in_the_type_of_adapters() -> None:
    narrow = split_of("vit", BLOCKS, order="federated", adapter_dtype="float16")
    wide = split_of("vit", BLOCKS, order="federated")
    sizes = []
    for split in (narrow, wide):
        split.average()
        sizes.append(split.channels["device-0"].traffic.to_dict()["uplink_head_bytes"])
    parameters = sum(value.numel() for value in head_of(wide.server).values())
    assert sizes[1] - sizes[0] in range(2 * parameters, 2 * parameters + 16)


def test_turns_hand_the_same_adapters_from_one_device_to_the_next() -> None:
    """As one model in one piece that is trained on the devices' batches one after another."""
    split = split_of("vit", CUTS, weights=WEIGHTS, order="sequential")
    whole = split_of("vit", 2)
    for round_number in range(2):
        for place, name in enumerate(CUTS):
            with split.turn(name):
                for step in range(2):
                    batch = tiny_batch("vit", 100 * round_number + 10 * place + step)
                    split.train_step({name: batch})
                    whole.train_step({"device-0": batch})
        split.end_of_turns()
    whole.average()
    for name, value in whole.server.adapters(range(BLOCKS)).items():
        torch.testing.assert_close(split.server.adapters(range(BLOCKS))[name], value,
                                   rtol=1e-5, atol=1e-6)  # fmt: skip
    sent = split.channels["b"].traffic.to_dict()
    stirred = len(split.server.adapter_message("b"))
    assert sent["uplink_adapters_bytes"] == sent["downlink_adapters_bytes"] - stirred == 2 * stirred
    for name, device in split.devices.items():
        for factor, value in device.adapters(range(CUTS[name])).items():
            assert torch.equal(value, split.server.adapters(range(BLOCKS))[factor])


def test_a_smaller_rank_has_the_first_directions_in_its_turn() -> None:
    split = ranked("gpt2", {"a": 1, "b": 2}, order="sequential")
    before = split.server.adapters([0])
    with split.turn("a"):
        split.train_step({"a": tiny_batch("gpt2")})
    after = split.server.adapters([0])
    for name, value in after.items():
        kept = value if name.endswith("A") else value.T
        old = before[name] if name.endswith("A") else before[name].T
        assert torch.equal(kept[1:], old[1:])
    assert any(not torch.equal(after[name], before[name]) for name in after)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"order": "sequential", "aggregation": "averaging"}, "order sequential alone has none"),
        ({"order": "parallel", "aggregation": None}, "order sequential alone has none"),
        ({"order": "paralel"}, "parallel"),
        ({"aggregation": "corected"}, "corrected"),
    ],
)
def test_what_does_not_go_together_is_told(settings: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        SplitConfig.of([1, 2], **settings)


def test_orders_are_told_what_is_not_theirs() -> None:
    config = SplitConfig.of([1, 3], aggregation="corrected")
    uneven = config.devices[0].model_copy(update={"rank": 2})
    with pytest.raises(ValidationError, match="ranks from 2 to 8 have no mean"):
        SplitConfig.model_validate({**config.model_dump(), "devices": [uneven.model_dump(),
                                    config.devices[1].model_dump()]})  # fmt: skip
    with pytest.raises(InputError, match="holds all 4 of the model"):
        split_of("vit", [4, 3], order="federated")
    with pytest.raises(InputError, match="nothing is averaged"):
        split_of("vit", 2, order=Order.SEQUENTIAL).average()
    with pytest.raises(InputError, match="have no turns"):
        split_of("vit", 2).end_of_turns()
