"""The two-timescale run: order of the policies, resuming, outages, scenarios."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sftopt
from sftopt.core.channel import RoundChannel
from sftopt.core.channel_models import ChannelKind, ChannelModel, SimulatedChannel
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.verify import verify_plan
from sftopt.solvers.judge import judge
from sftopt.studies.scenarios import plan_for_scenarios
from sftopt.studies.simulate import SimulationSettings, simulate
from tests.samples import VARIANTS, sample_instance


def run(
    instance: Instance, out: Path, *, rounds: int = 4, model: ChannelModel | None = None,
    resume: bool = False, **settings: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    source = SimulatedChannel(model or ChannelModel(), 1)
    summary = simulate(
        instance, source, SimulatedChannel(ChannelModel(correlation=0.0), 2),
        SimulationSettings(rounds=rounds, **{"planner_time_limit_s": 10.0, **settings}), out,
        identity={"seed": 1, **settings}, resume=resume,
    )  # fmt: skip
    lines = (out / "rows.jsonl").read_text().splitlines()
    return summary, [json.loads(line) for line in lines]


@pytest.mark.parametrize("variant", ["plain", "total power", "parallel server", "multicast"])
def test_bound_resolved_held_and_equal_stand_in_order(tmp_path: Path, variant: str) -> None:
    instance = sample_instance(**VARIANTS[variant])
    summary, rows = run(instance, tmp_path, frame_rounds=2)
    assert [row["round"] for row in rows] == [0, 1, 2, 3]
    for row in rows:
        assert row["clairvoyant_bound_s"] <= row["resolved_s"] * (1.0 + 1e-9)
        assert row["resolved_s"] < row["held_s"]
        assert row["resolved_s"] < row["equal_s"]
        assert sum(row["shares"]["uplink"].values()) == pytest.approx(1.0)
    gains = summary["gains"]
    resolved = np.mean([row["resolved_s"] for row in rows])
    equal = np.mean([row["equal_s"] for row in rows])
    assert gains["over_equal_shares"] == pytest.approx(1.0 - resolved / equal)
    assert gains["above_clairvoyant_bound"] >= -1e-9
    saved = json.loads((tmp_path / "summary.json").read_text())
    assert saved == json.loads(json.dumps(summary))


def test_rows_are_the_judges_numbers(tmp_path: Path) -> None:
    instance = sample_instance(3, 2)
    _, rows = run(instance, tmp_path, rounds=2, clairvoyant=False)
    plan = Plan.load(tmp_path / "plans" / "frame-0000.plan.json")
    samples = SimulatedChannel(ChannelModel(), 1).samples(instance, 2, 2)
    for row, sample in zip(rows, samples, strict=True):
        shares = row["shares"]
        devices = tuple(
            part.model_copy(
                update={
                    "uplink_share": shares["uplink"][part.id],
                    "downlink_share": shares["downlink"][part.id],
                    "adapter_uplink_share": shares["adapter"][part.id],
                }
            )
            for part in plan.devices
        )
        verdict = verify_plan(
            instance, plan.model_copy(update={"devices": devices}), channel=sample.channel
        )
        assert verdict.feasible
        assert verdict.objective_s == row["resolved_s"]


@pytest.mark.parametrize("solver", ["ipopt", "clarabel"])
def test_a_round_solver_whose_default_is_another_problem_solves_the_round(
    tmp_path: Path, solver: str
) -> None:
    instance = sample_instance(3, 2)
    _, exact = run(instance, tmp_path / "exact", rounds=2)
    _, rows = run(instance, tmp_path / solver, rounds=2, round_solver=solver)
    for row, other in zip(exact, rows, strict=True):
        assert other["resolved_s"] == pytest.approx(row["resolved_s"], rel=1e-6)


def test_a_killed_run_goes_on_to_the_same_rows(tmp_path: Path) -> None:
    instance = sample_instance(3, 4)
    settings = {"frame_rounds": 2, "clairvoyant": False, "scenarios": 2}
    _, whole = run(instance, tmp_path / "whole", rounds=5, **settings)
    _, part = run(instance, tmp_path / "part", rounds=3, **settings)
    assert part == whole[:3]
    with (tmp_path / "part" / "rows.jsonl").open("a") as file:
        file.write('{"round": 3, "resol')  # what a kill leaves
    summary, again = run(instance, tmp_path / "part", rounds=5, resume=True, **settings)
    assert again == whole
    assert (
        summary["policies"] == json.loads((tmp_path / "whole/summary.json").read_text())["policies"]
    )


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_ctrl_c_inside_a_solve_ends_the_run_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """The plan of an interrupted solve is not taken for the frame's or the round's best."""
    instance = sample_instance(2, 2)
    count = 0

    def judging(*given: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == nth:
            signal.raise_signal(signal.SIGINT)
        return judge(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr("sftopt.solvers.run.judge", judging)
        with pytest.raises(KeyboardInterrupt):
            run(instance, tmp_path / "cut", rounds=2)
    _, rows = run(instance, tmp_path / "cut", rounds=2, resume=True)
    _, whole = run(instance, tmp_path / "whole", rounds=2)
    assert [row["resolved_s"] for row in rows] == [row["resolved_s"] for row in whole]


def test_a_broken_row_in_the_middle_is_run_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    instance = sample_instance(3, 4)
    _, whole = run(instance, tmp_path, rounds=4, clairvoyant=False)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    lines[1] = lines[1].replace('"status"', '"startus"')
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    _, again = run(instance, tmp_path, rounds=4, resume=True, clairvoyant=False)
    assert again == whole
    assert "line 2 cannot be read" in caplog.text


def test_rounds_are_told_by_their_number_and_not_by_how_many_there_are(tmp_path: Path) -> None:
    instance = sample_instance(3, 4)
    _, whole = run(instance, tmp_path, rounds=3, clairvoyant=False)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    (tmp_path / "rows.jsonl").write_text(f"{lines[0]}\n{lines[2]}\n")
    _, again = run(instance, tmp_path, rounds=3, resume=True, clairvoyant=False)
    assert again == whole


@pytest.mark.parametrize("name", ["frame-0000.plan.json", "frame-0000.scenario-plan.json"])
@pytest.mark.parametrize(
    "edit", [("keep_fraction", 0.9), ("blocks", 2), ("instance_hash", "ab" * 32)]
)
def test_a_plan_that_was_edited_since_is_not_gone_on_with(
    name: str, edit: tuple[str, Any], tmp_path: Path
) -> None:
    instance = sample_instance(3, 4)
    settings: dict[str, Any] = {"clairvoyant": False, "scenarios": 2, "frame_rounds": 4}
    run(instance, tmp_path, rounds=1, **settings)
    file = tmp_path / "plans" / name
    data = json.loads(file.read_text())
    place = data if edit[0] == "instance_hash" else data["devices"][0]
    place[edit[0]] = edit[1]
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match=rf"{name}' is not the plan that this run made"):
        run(instance, tmp_path, rounds=2, resume=True, **settings)


def test_resumed_in_a_later_frame_of_the_same_statistics_the_plan_is_the_same(
    tmp_path: Path,
) -> None:
    instance = sample_instance(3, 4)
    run(instance, tmp_path, rounds=2, clairvoyant=False, frame_rounds=2)
    summary, _ = run(instance, tmp_path, rounds=4, resume=True, clairvoyant=False, frame_rounds=2)
    assert [frame["frame"] for frame in summary["frames"]] == [0]
    assert len(list((tmp_path / "plans").glob("*.plan.json"))) == 1


def test_cells_are_planned_anew_every_frame(tmp_path: Path) -> None:
    model = ChannelModel(kind=ChannelKind.UMI, frame_distance_m=150.0, cell_radius_m=500.0)
    summary, rows = run(
        sample_instance(3, 1), tmp_path, rounds=4, frame_rounds=2, model=model, clairvoyant=False
    )
    assert [frame["frame"] for frame in summary["frames"]] == [0, 1]
    assert summary["frames"][0]["nominal_s"] != summary["frames"][1]["nominal_s"]
    assert all(row["resolved_s"] <= row["held_s"] for row in rows)


class Darkness:
    """A channel that leaves device 1 without gain in round 1."""

    def __init__(self) -> None:
        self.inner = SimulatedChannel(ChannelModel(), 1)

    def samples(self, instance: Instance, rounds: int, frame_rounds: int) -> Any:
        for sample in self.inner.samples(instance, rounds, frame_rounds):
            if sample.round == 1:
                up = sample.channel.uplink_gain.copy()
                up[1] = 0.0
                channel = RoundChannel(up, sample.channel.downlink_gain)
                sample = type(sample)(
                    sample.frame, 1, sample.uplink_mean_gain, sample.downlink_mean_gain, channel
                )
            yield sample


@pytest.mark.parametrize("skip", [False, True])
def test_an_outage_is_named_and_may_be_sat_out(tmp_path: Path, skip: bool) -> None:
    instance = sample_instance(3, 1)
    settings = SimulationSettings(rounds=3, skip_outage=skip)
    summary = simulate(instance, Darkness(), Darkness(), settings, tmp_path, identity={"seed": 0})
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert rows[1]["outage"] == [instance.devices[1].id]
    if skip:
        assert rows[1]["status"] == "devices_skipped"
        assert instance.devices[1].id not in rows[1]["shares"]["uplink"]
        assert summary["rounds_with_devices_skipped"] == 1
    else:
        assert rows[1]["status"] == "infeasible"
        assert "resolved_s" not in rows[1]
        assert summary["rounds_infeasible"] == 1
    assert rows[2]["status"] == "ok"


@pytest.mark.parametrize("variant", ["plain", "total power", "common", "parallel server"])
def test_the_scenario_plan_lies_between_its_bound_and_the_nominal_plan(variant: str) -> None:
    instance = sample_instance(**VARIANTS[variant])
    nominal = sftopt.solve(instance, rel_gap=1e-3, time_limit=10).plan
    assert nominal is not None
    source = SimulatedChannel(ChannelModel(correlation=0.0, coherence_blocks=1), 7)
    channels = [sample.channel for sample in source.samples(instance, 3, 3)]
    made = plan_for_scenarios(instance, nominal, channels, time_limit_s=10.0)
    assert made.bound_s <= made.average_s * (1.0 + 1e-9)
    assert made.average_s <= made.nominal_average_s * (1.0 + 1e-12)
    assert verify_plan(instance, made.plan).feasible
    again = [sftopt.solve(instance, solver="native-spectrum", x0=made.plan, channel=c)
             for c in channels]  # fmt: skip
    mean = np.mean([result.objective_s for result in again])
    assert mean == pytest.approx(made.average_s, rel=1e-6)


def test_scenarios_find_what_single_moves_can_find() -> None:
    # two devices, all cuts by hand at one option: no cut has a smaller sample average
    instance = sample_instance(2, 3, modes=(4,), accuracy={"scope": "each"})
    nominal = sftopt.solve(instance, rel_gap=1e-6).plan
    assert nominal is not None
    source = SimulatedChannel(ChannelModel(correlation=0.0, coherence_blocks=1), 3)
    channels = [sample.channel for sample in source.samples(instance, 3, 3)]
    made = plan_for_scenarios(instance, nominal, channels)
    from sftopt.core.derived import derive
    from sftopt.core.point import IntegralPoint, from_plan
    from sftopt.solvers.heuristics.polish import average_delay_s

    base = derive(instance)
    draws = [derive(instance, channel) for channel in channels]
    point = from_plan(base, made.plan)
    every = [
        average_delay_s(draws, IntegralPoint(np.array([a, b]), point.choice, point.keep))
        for a in range(base.cut_low[0], base.cut_high[0] + 1)
        for b in range(base.cut_low[1], base.cut_high[1] + 1)
    ]
    assert made.average_s == pytest.approx(min(every), rel=1e-9)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="rounds is 0"):
        SimulationSettings(rounds=0)
    with pytest.raises(InputError, match="scenarios"):
        SimulationSettings(scenarios=-1)
