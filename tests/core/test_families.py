"""Families, generator and bundled instances."""

from __future__ import annotations

import json
import time
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
import pytest

import sftopt
from sftopt.core.derived import derive
from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.families import FAMILIES, generate
from sftopt.core.families.parts import urban_micro_gains
from sftopt.core.instance import Instance, ModeKind, PowerLaw, ServerOrder, parse_instance
from sftopt.core.library import DATA, bundled_names, descriptions, load, write_bundled
from sftopt.core.memory import device_memory_bytes, server_memory_bytes
from sftopt.core.plan import DevicePlan, Plan
from sftopt.core.randomness import draws
from sftopt.core.status import Point
from sftopt.core.verify import verify_plan
from tests.core.coordinate_descent import CoordinateDescent

DEFAULT_FAMILIES = ("jetson-vit-b", "gpt2-e2e", "llama-1b", "weichen", "stsflora")
FEASIBLE = [name for name, family in FAMILIES.items() if family.feasible]


@pytest.mark.parametrize("name", FAMILIES)
def test_same_arguments_same_instance_other_seed_other_instance(name: str) -> None:
    first = generate(name, 4, 7)
    assert first.hash == generate(name, 4, 7).hash
    assert first.hash != generate(name, 4, 8).hash
    assert first.source.family == name
    assert "declared ours" in first.source.text.lower()
    assert len(first.devices) == 4


@pytest.mark.parametrize("name", FAMILIES)
def test_written_out_and_read_back(name: str) -> None:
    made = generate(name, 3, 1)
    again = parse_instance(json.loads(json.dumps(made.to_dict())))
    assert again.hash == made.hash
    assert abs(sum(device.weight for device in again.devices) - 1.0) < 1e-9


@pytest.mark.parametrize("name", FAMILIES)
def test_ten_thousand_devices_in_seconds(name: str) -> None:
    begun = time.monotonic()
    instance = generate(name, 10_000, 3)
    assert time.monotonic() - begun < 3.0
    assert len({device.id for device in instance.devices}) == 10_000
    parse_instance(instance.to_dict())


def careful_plan(
    instance: Instance, cuts: Sequence[int] | None = None, kinds: Container[ModeKind] = ModeKind
) -> Plan:
    """Cuts (default: all that fit), the most accurate mode and keep fraction, equal shares."""
    derived = derive(instance)
    keeps = [
        (option, keep)
        for option in derived.options
        if option.kind in kinds
        for keep in np.linspace(option.keep_low, option.keep_high, 4001)
    ]
    losses = [float(derived.loss(option, keep)) for option, keep in keeps]
    option, keep = keeps[int(np.argmin(losses))]
    share = 1.0 / derived.devices
    return Plan(
        instance_hash=instance.hash,
        devices=tuple(
            DevicePlan(id=name, blocks=int(cut), mode=option.kind, bits=option.bits,
                       keep_fraction=float(keep), uplink_share=share, downlink_share=share,
                       adapter_uplink_share=share if cut else None)
            for name, cut in zip(
                derived.ids, derived.cut_high if cuts is None else cuts, strict=True
            )
        ),
    )  # fmt: skip


@pytest.mark.parametrize("devices", [1, 2, 5, None, 200])
@pytest.mark.parametrize("name", FEASIBLE)
def test_feasible_families_have_a_feasible_plan(name: str, devices: int | None) -> None:
    for seed in range(3):
        instance = generate(name, devices, seed)
        found = verify_plan(instance, careful_plan(instance), feas_tol=1e-9)
        assert found.feasible, (seed, found.violations[:3])
        assert not derive(instance).outage.any()


@pytest.mark.parametrize("seed", range(5))
def test_near_infeasible_has_slack_of_1e4(seed: int) -> None:
    instance = generate("near-infeasible", 6, seed)
    work = instance.workload
    for device in instance.devices:
        need = device_memory_bytes(work, device, device.blocks_min)
        assert device.memory_bytes / need - 1.0 == pytest.approx(1e-4, rel=1e-2)
    need = server_memory_bytes(instance, [device.blocks_min for device in instance.devices])
    assert instance.server.memory_bytes / need - 1.0 == pytest.approx(1e-4, rel=1e-2)
    plan = careful_plan(instance, kinds=[ModeKind.TOPK])
    breakdown = verify_plan(instance, plan).breakdown
    assert breakdown is not None
    slack = breakdown.accuracy_slack / breakdown.accuracy
    assert slack == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize("seed", range(5))
def test_infeasible_breaks_three_limits(seed: int) -> None:
    instance = generate("infeasible", 6, seed)
    floors = [device.blocks_min for device in instance.devices]
    amounts: dict[str, float] = {}
    for violation in verify_plan(instance, careful_plan(instance, floors)).violations:
        amounts[violation.family.value] = violation.amount
        assert violation.index in ("all", instance.devices[0].id)
    assert set(amounts) == {"device_memory", "server_memory", "accuracy"}
    assert amounts["device_memory"] == pytest.approx(2e8, rel=1e-3)
    assert amounts["server_memory"] == pytest.approx(5e8, rel=1e-3)
    assert amounts["accuracy"] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("name", DEFAULT_FAMILIES)
def test_trade_offs_are_real(name: str) -> None:
    """At a good point cuts, modes, keep fractions and shares differ between devices, and pay."""
    instance = generate(name, 5, 0)
    search = CoordinateDescent(instance, grid=25)
    point = search.best()
    judged = verify_plan(instance, point.plan(instance, search.d))
    assert judged.feasible, judged.violations
    assert judged.objective_s == pytest.approx(point.delay_s, rel=1e-9)
    assert len(set(point.cuts.tolist())) >= 2
    interior = (point.cuts > search.d.cut_low) & (point.cuts < search.d.cut_high)
    assert interior.any(), "every cut sits at a limit"
    assert len(set(point.options.tolist())) >= 2
    assert np.ptp(point.keep) > 0.01
    assert np.ptp(point.up) > 0.01
    assert np.ptp(point.down) > 0.01
    assert point.delay_s < 0.99 * search.best_uniform()


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("jetson-vit-b", (2, 3, 4, 6, 8)),
        ("gpt2-e2e", (2, 3, 4, 6, 8)),
        ("llama-1b", (3, 4)),
        ("weichen", (2, 3)),
        ("stsflora", (2, 3)),
    ],
)
def test_decisions_vary_at_the_proven_optimum(name: str, bits: tuple[int, ...]) -> None:
    """Three devices, the modes cut down where enumeration would be refused."""
    full = generate(name, 3, 0)
    modes = tuple(mode for mode in full.compression.modes if mode.bits in bits)
    compression = full.compression.model_copy(update={"modes": modes})
    instance = full.model_copy(update={"compression": compression})
    result = sftopt.solve(instance, solver="exhaustive", time_limit=120)
    assert result.point is Point.OPTIMAL
    assert result.plan is not None
    devices = result.plan.devices
    assert len({part.blocks for part in devices}) >= 2
    assert len({(part.mode, part.bits) for part in devices}) >= 2
    assert np.ptp([part.keep_fraction for part in devices]) > 0.01
    assert np.ptp([part.uplink_share for part in devices]) > 0.01
    assert np.ptp([part.downlink_share for part in devices]) > 0.01
    # and the test's own search, on its grid, comes within a percent from above
    found = CoordinateDescent(instance).best().delay_s
    assert result.objective_s is not None
    assert result.objective_s * (1.0 - 1e-7) <= found <= 1.01 * result.objective_s


def test_a_strong_server_leaves_every_cut_at_its_floor() -> None:
    search = CoordinateDescent(generate("strong-server", 5, 0))
    assert search.best().cuts.tolist() == search.d.cut_low.tolist()


def test_families_cover_the_variants_of_the_model() -> None:
    made = [generate(name, 3, 0) for name in FAMILIES]
    assert {i.radio.power for i in made} == set(PowerLaw)
    assert {i.server_order for i in made} == set(ServerOrder)
    assert {i.radio.downlink.value for i in made} == {"kept", "dense"}
    assert {i.radio.adapter_downlink.value for i in made} == {"unicast", "multicast"}
    assert {i.accuracy.scope.value for i in made} >= {"mean", "each"}
    for instance in made:  # so that the problem contains the schemes that send the boundary whole
        assert [mode.label for mode in instance.compression.modes][-2:] == ["dense8", "none"]
        sigma = instance.compression.modes[-2].side_bits_per_element
        assert sigma == pytest.approx(16.0 / instance.workload.hidden, rel=1e-5)
    assert made[0].compression.modes[0].kind is ModeKind.TOPK


def test_equal_devices_are_equal() -> None:
    rows = [device.model_dump(exclude={"id"}) for device in generate("equal-devices", 5, 2).devices]
    assert all(row == rows[0] for row in rows)


def test_path_loss_is_3gpp_umi() -> None:
    """TR 38.901 Table 7.4.1-1 at 100 m and 3.5 GHz: 35.3*2 + 22.4 + 21.3*lg 3.5 = 104.59 dB."""
    gains = urban_micro_gains(draws("test", 0, "shadow"), np.full(20_000, 100.0), antenna_db=0.0)
    loss_db = -10.0 * np.log10(gains)
    assert loss_db.mean() == pytest.approx(104.59, abs=0.2)
    assert np.abs(loss_db - 104.59).max() <= 2 * 7.82 + 0.01
    # a standard normal clipped at 2: variance P(|z| < 2) - 4 phi(2) + 4 P(|z| > 2) = 0.9205
    assert loss_db.std() == pytest.approx(7.82 * 0.9205**0.5, abs=0.15)


def test_named_parts_do_not_disturb_one_another() -> None:
    first = draws("family", 1, "a").random(3).tolist()
    assert first == draws("family", 1, "a").random(3).tolist()
    assert first != draws("family", 1, "b").random(3).tolist()
    assert first != draws("other", 1, "a").random(3).tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("jetson-vit-b", 0, 0), ["devices", "0", "10000"]),
        (("jetson-vit-b", 10_001, 0), ["devices", "10001", "10000"]),
        (("jetson-vit-b", 3, -1), ["seed", "-1"]),
        (("jetson", 3, 0), ["unknown family", "jetson-vit-b"]),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[str, int, int], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        generate(*arguments)
    for word in words:
        assert word in str(caught.value)


# --- bundled instances --------------------------------------------------------------------------


def test_bundled_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    shipped = {path.name: path.read_bytes() for path in DATA.glob("*.json")}
    fresh = {path.name: path.read_bytes() for path in write_bundled(tmp_path)}
    assert fresh == shipped


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_instances_load_by_name(name: str) -> None:
    assert load(name).hash == generate(name).hash


def test_descriptions_name_every_bundled_instance() -> None:
    rows = descriptions()
    assert [row.name for row in rows] == bundled_names()
    for row in rows:
        assert row.devices == len(load(row.name).devices)
        assert row.model
        assert row.blocks >= 2
        assert 20 < len(row.text) < 110
        assert row.text.endswith(".")


def test_a_file_wins_over_a_bundled_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = generate("weichen", 2, 5)
    (tmp_path / "jetson-vit-b").write_text(json.dumps(other.to_dict()))
    monkeypatch.chdir(tmp_path)
    assert load("jetson-vit-b").hash == other.hash
    assert load(tmp_path / "jetson-vit-b").hash == other.hash


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'jetson-vit-b'"):
        load("jetson-vit")


@pytest.mark.parametrize("path", ["missing.json", "no/such/file"])
def test_a_missing_file_is_called_missing(path: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load(path)
