"""Equation (8) by hand and as a property; unequal ranks; devices that miss a round."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sftopt.core.errors import InputError
from sftopt.training.split import Direction, MessageKind, SplitModel, WireError
from sftopt.training.split.averaging import average_adapters
from sftopt.training.split.boundary import pack, unpack
from sftopt.training.split.rounds import copies_of
from tests.training.split.tiny_models import BLOCKS, split_of, tiny_batch

pytestmark = pytest.mark.train


def full(value: float, rows: int, columns: int) -> torch.Tensor:
    return torch.full((rows, columns), value)


def test_the_rule_by_hand() -> None:
    """Three devices at cuts 2, 1, 0 with weights 0.5, 0.3, 0.2; a block is one pair of factors."""
    server = {
        "0.q.lora_A": full(10.0, 2, 3), "0.q.lora_B": full(20.0, 4, 2),
        "1.q.lora_A": full(30.0, 2, 3), "1.q.lora_B": full(40.0, 4, 2),
        "2.q.lora_A": full(50.0, 2, 3), "2.q.lora_B": full(60.0, 4, 2),
    }  # fmt: skip
    first = {
        "0.q.lora_A": full(1.0, 2, 3), "0.q.lora_B": full(2.0, 4, 2),
        "1.q.lora_A": full(3.0, 2, 3), "1.q.lora_B": full(4.0, 4, 2),
    }  # fmt: skip
    second = {"0.q.lora_A": full(100.0, 2, 3), "0.q.lora_B": full(200.0, 4, 2)}
    new = average_adapters(server, [(0.5, first), (0.3, second), (0.2, {})])
    expected = {
        "0.q.lora_A": 0.5 * 1 + 0.3 * 100 + 0.2 * 10,
        "0.q.lora_B": 0.5 * 2 + 0.3 * 200 + 0.2 * 20,
        "1.q.lora_A": 0.5 * 3 + 0.5 * 30,
        "1.q.lora_B": 0.5 * 4 + 0.5 * 40,
        "2.q.lora_A": 50.0,
        "2.q.lora_B": 60.0,
    }
    for name, value in expected.items():
        torch.testing.assert_close(new[name], torch.full_like(server[name], value))
        assert new[name].data_ptr() != server[name].data_ptr(), "state must not be aliased"
    assert float(server["0.q.lora_A"][0, 0]) == 10.0, "what was given is unchanged"


def test_unequal_ranks_by_hand() -> None:
    """Device ranks 1 and 2, server 2: each direction over the copies that have it."""
    server = {
        "0.q.lora_A": torch.tensor([[10.0], [20.0]]),
        "0.q.lora_B": torch.tensor([[1.0, 2.0]]),
    }
    small = {"0.q.lora_A": torch.tensor([[30.0]]), "0.q.lora_B": torch.tensor([[3.0]])}
    large = {"0.q.lora_A": torch.tensor([[50.0], [70.0]]), "0.q.lora_B": torch.tensor([[5.0, 7.0]])}
    new = average_adapters(server, [(0.5, small), (0.25, large), (0.25, {})])
    torch.testing.assert_close(
        new["0.q.lora_A"],
        torch.tensor([[0.5 * 30 + 0.25 * 50 + 0.25 * 10], [(0.25 * 70 + 0.25 * 20) / 0.5]]),
    )
    torch.testing.assert_close(
        new["0.q.lora_B"],
        torch.tensor([[0.5 * 3 + 0.25 * 5 + 0.25 * 1, (0.25 * 7 + 0.25 * 2) / 0.5]]),
    )
    alone = average_adapters(server, [(1.0, small)])
    torch.testing.assert_close(alone["0.q.lora_A"], torch.tensor([[30.0], [20.0]]))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    cuts=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    raw=st.lists(st.floats(0.1, 1.0), min_size=4, max_size=4),
    seed=st.integers(0, 1000),
)
def test_equal_copies_stay_and_weights_need_no_scale(
    cuts: list[int], raw: list[float], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    server = {f"{k}.q.lora_A": torch.randn(2, 3, generator=generator) for k in range(4)}
    held = [{name: value for name, value in server.items() if int(name[0]) < cut} for cut in cuts]
    same = average_adapters(server, list(zip(raw, held, strict=False)))
    for name, value in server.items():
        torch.testing.assert_close(same[name], value)
    moved = [{name: value + number for name, value in copy.items()}
             for number, copy in enumerate(held)]  # fmt: skip
    once = average_adapters(server, list(zip(raw, moved, strict=False)))
    twice = average_adapters(server, [(2 * w, c) for w, c in zip(raw, moved, strict=False)])
    for name, value in once.items():
        torch.testing.assert_close(value, twice[name])


def test_mean_of_factors_is_not_factor_of_mean() -> None:
    """What the documentation warns of: the difference is the factors' covariance."""
    a = [torch.tensor([[1.0]]), torch.tensor([[3.0]])]
    b = [torch.tensor([[2.0]]), torch.tensor([[6.0]])]
    copies = [(0.5, {"0.q.lora_A": x, "0.q.lora_B": y}) for x, y in zip(a, b, strict=True)]
    new = average_adapters(copies[0][1], copies)
    product = new["0.q.lora_B"] @ new["0.q.lora_A"]
    mean = 0.5 * b[0] @ a[0] + 0.5 * b[1] @ a[1]
    covariance = 0.5 * ((b[0] - 4) @ (a[0] - 2) + (b[1] - 4) @ (a[1] - 2))
    assert float(product) == 8.0
    assert float(mean) == 10.0
    torch.testing.assert_close(mean - product, covariance)


def adapters_of(split: SplitModel) -> dict[str, dict[str, torch.Tensor]]:
    found = {name: part.adapters(range(part.cut)) for name, part in split.devices.items()}
    return {"server": split.server.adapters(range(BLOCKS)), **found}


def test_a_round_of_the_split_model_follows_the_rule_and_every_holder_loads_it() -> None:
    split = split_of("gpt2", {"a": 1, "b": 3, "c": 0}, weights=[0.5, 0.3, 0.2])
    for step in range(2):
        split.train_step({n: tiny_batch("gpt2", 10 * step + k) for k, n in enumerate("abc")})
    old = adapters_of(split)
    split.average()
    new = adapters_of(split)
    for name, server in old["server"].items():
        block = int(name.split(".")[0])
        if block == 0:
            expected = 0.5 * old["a"][name] + 0.3 * old["b"][name] + 0.2 * server
            assert not torch.allclose(expected, server)
        elif block < 3:
            expected = 0.3 * old["b"][name] + 0.7 * server
        else:
            expected = server
        torch.testing.assert_close(new["server"][name], expected, rtol=1e-6, atol=1e-8)
    for device in "ab":
        for name, value in new[device].items():
            assert torch.equal(value, new["server"][name])
    assert split.rounds_done == 1


def test_adapter_traffic_is_what_the_model_counts() -> None:
    """l_n A_blk bits up and as many down, plus an envelope: under 200 bytes for two blocks."""
    split = split_of("llama", 2)
    split.channels["device-0"].traffic.byte_count.clear()
    split.average()
    bytes_of_blocks = sum(
        4 * v.numel() for v in split.devices["device-0"].adapters(range(2)).values()
    )
    for direction in Direction:
        moved = split.channels["device-0"].traffic.of(direction, MessageKind.ADAPTERS)
        assert bytes_of_blocks < moved < bytes_of_blocks + 200


def test_a_device_that_misses_a_round_changes_nothing_and_may_rejoin() -> None:
    split = split_of("gpt2", {"a": 2, "b": 2, "c": 1}, weights=[0.5, 0.3, 0.2])
    stale = split.devices["c"].adapters(range(1))
    report = split.train_step({n: tiny_batch("gpt2", k) for k, n in enumerate("ab")})
    assert set(report.losses) == {"a", "b"}
    old = adapters_of(split)
    split.average(["a", "b"])
    new = adapters_of(split)
    for name in old["a"]:
        expected = (0.5 * old["a"][name] + 0.3 * old["b"][name]) / 0.8
        torch.testing.assert_close(new["server"][name], expected, rtol=1e-6, atol=1e-8)
    for name, value in stale.items():
        assert torch.equal(new["c"][name], value), "it was away: nothing reached it"
    split.rejoin("c")
    for name, value in adapters_of(split)["c"].items():
        assert torch.equal(value, new["server"][name])


def test_devices_of_unequal_rank_start_equal_and_average() -> None:
    devices = [
        {"id": "small", "blocks": 2, "weight": 0.5, "rank": 2},
        {"id": "large", "blocks": 3, "weight": 0.5, "rank": 5},
    ]
    from sftopt.training.split import SplitConfig
    from tests.training.split.tiny_models import stir, tiny_model

    config = SplitConfig.from_dict({"devices": devices, "lora": {"rank": 4, "alpha": 8.0}})
    split = SplitModel(tiny_model("llama"), config)
    ranks = {
        name: {int(k.split(".")[0]): v.shape[0] for k, v in values.items() if "lora_A" in k}
        for name, values in adapters_of(split).items()
    }
    assert ranks == {
        "server": {0: 5, 1: 5, 2: 5, 3: 5},
        "small": {0: 2, 1: 2},
        "large": {0: 5, 1: 5, 2: 5},
    }
    start = adapters_of(split)
    for name, rank in (("small", 2), ("large", 5)):
        for key, value in start[name].items():
            own = start["server"][key]
            assert torch.equal(value, own[:rank] if "lora_A" in key else own[:, :rank])
    batch = tiny_batch("llama")
    losses = {name: split.evaluate(name, batch).loss for name in ("small", "large")}
    assert losses["small"] == pytest.approx(losses["large"], rel=1e-6)
    stir(split)
    split.train_step({"small": batch, "large": tiny_batch("llama", 1)})
    old = adapters_of(split)
    split.average()
    new = adapters_of(split)["server"]
    name = "0.self_attn.q_proj.lora_A"
    torch.testing.assert_close(
        new[name][:2], 0.5 * old["small"][name] + 0.5 * old["large"][name][:2]
    )
    torch.testing.assert_close(new[name][2:], old["large"][name][2:])
    scales = {
        module.scaling["default"]
        for part in split.parts
        for path, module in part.model.named_modules()
        if path.endswith("q_proj") and hasattr(module, "scaling") and split.stack.list_name in path
    }
    assert scales == {2.0}, "copies of unequal rank must mean the same update"


def test_messages_that_do_not_fit_are_refused_and_change_nothing() -> None:
    split = split_of("gpt2", 2)
    before = split.server.adapters(range(BLOCKS))
    good = unpack(split.devices["device-0"].adapter_message())
    missing = dict(list(good.items())[:1])
    odd = {**good, "9": torch.ones(2, 2)}
    high = {name: torch.ones(v.shape[0] + 1, v.shape[1]) for name, v in good.items()}
    wide = {name: torch.ones(v.shape[0], v.shape[1] + 1) for name, v in good.items()}
    flat = {name: v.flatten() for name, v in good.items()}
    half = {name: v.half() for name, v in good.items()}
    for bad in (missing, odd, high, wide, flat, half):
        with pytest.raises(WireError):
            copies_of(split.server, {"device-0": pack(bad)})
    with pytest.raises(WireError, match="cannot be read"):
        copies_of(split.server, {"device-0": b"\x00" * 40})
    for name, value in split.server.adapters(range(BLOCKS)).items():
        assert torch.equal(value, before[name])
    with pytest.raises(InputError, match="at least one device"):
        split.average([])
