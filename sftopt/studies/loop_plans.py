"""The plans of a closed loop: one cell, one accuracy limit, with Top-K alone and with a menu."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sftopt.core.calibration import AccuracyCurve, Calibration, Speeds, calibrated
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.families import generate
from sftopt.core.instance import Instance, Mode, ModeKind
from sftopt.core.plan import Plan
from sftopt.core.result import Result
from sftopt.solvers.registry import get_solver
from sftopt.solvers.run import solve
from sftopt.studies.loop_settings import LoopSettings
from sftopt.training.calibrate import CalibrationSettings
from sftopt.training.data import Task

SLACK_GOAL = 1e-3
"""The accuracy limit is active: a plan leaves at most this much of it unused."""
_ROOM = 1.1
"""Least loss allowed, over the least that Top-K has on the lower curve."""
_LIMITS_TRIED = 4
"""Most accuracy limits tried until one is active."""
_GAP = 1e-5
"""Relative gap asked of the planning."""
_PLANNING_S = 60.0
"""Time limit of one planning."""
BANDS = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Shares of the cell's bandwidth at which a menu is set against Top-K alone."""
ALLOWED_LOSS = {"accuracy": 0.01, "negative_loss_nats": 0.03}
"""Below the uncompressed value: one point, about three per cent of perplexity."""


def _cell(measured: Calibration, grid: CalibrationSettings, settings: LoopSettings) -> Instance:
    """A few Jetson boards in a street; batch and steps of a round are those calibrated."""
    data = generate("jetson-vit-b", settings.devices, settings.cell_seed).to_dict()
    for device in data["devices"]:
        device["batch"] = grid.batch
        device["weight"] = 1.0 / settings.devices
    data["training"]["local_steps"] = grid.local_steps
    data["compression"]["modes"] = [
        Mode(kind=ModeKind.TOPK, bits=bits).model_dump(mode="json")
        for bits in sorted(grid.statistics_bits)
    ]
    data["compression"]["keep_min"] = None
    for link in ("uplink_bandwidth_hz", "downlink_bandwidth_hz"):
        data["radio"][link] *= settings.band
    data["name"] = f"closed-loop-{measured.source.task}"
    return Instance.model_validate(data)


def planned(
    task: Task, measured: Calibration, grid: CalibrationSettings, settings: LoopSettings
) -> tuple[Instance, Plan, dict[str, Any]]:
    """Plan the calibrated cell; return cell, plan, and whether the accuracy limit decides on it.

    Raises InputError for a calibration without fine-tunings.
    """
    fit = measured.accuracy
    if fit is None:
        raise InputError("the loop needs a calibration with fine-tunings")
    cell = _cell(measured, grid, settings)
    allowed = ALLOWED_LOSS[task.metric] + max(fit.fit.uncompressed - fit.lower.uncompressed, 0.0)
    # runs too few or too short leave a band so wide that no mode would meet the limit
    best = max(fit.lower.value(fit.keep_to, bits) for bits in (fit.bits_from, fit.bits_to))
    allowed = max(allowed, _ROOM * (fit.fit.uncompressed - best))

    def at(loss: float) -> tuple[Instance, Result]:
        instance = calibrated(
            cell, measured, curve=AccuracyCurve.LOWER, speeds=Speeds.MEASURED,
            minimum=fit.fit.uncompressed - loss,
        ).instance  # fmt: skip
        return instance, _optimal(instance)

    instance, result = at(allowed)
    # omega jumps between its intervals, and a plan may sit at such a step with some slack left: the
    # limit is ours, so it is drawn up to the plan, which stays the best one then
    for _ in range(_LIMITS_TRIED):
        if _slack(result) < SLACK_GOAL:
            break
        allowed -= _slack(result)
        instance, result = at(allowed)
    _, loose = at(1.5 * allowed)
    assert result.plan is not None
    assert loose.plan is not None
    facts = {
        "allowed_loss": allowed,
        "accuracy_minimum": instance.accuracy.minimum,
        "accuracy_slack": _slack(result),
        "round_s": result.objective_s,
        "solver": result.solver.name,
        "gap_rel": result.gap_rel,
        "loosened_by": 0.5 * allowed,
        "loosened_round_s": loose.objective_s,
        "loosening_changes_the_plan": decisions(result.plan) != decisions(loose.plan),
        "devices": decisions(result.plan),
        "payload_share": payload_share(instance, result),
    }
    return instance, result.plan, facts


def planned_with_menu(
    offered: Calibration, grid: CalibrationSettings, settings: LoopSettings, minimum: float
) -> tuple[Instance, Plan, dict[str, Any]]:
    """Plan the same cell at the same limit with the calibration's points on offer, too."""
    instance = calibrated(
        _cell(offered, grid, settings), offered, curve=AccuracyCurve.LOWER,
        speeds=Speeds.MEASURED, minimum=minimum,
    ).instance  # fmt: skip
    return instance, *proven(instance)


def proven(instance: Instance) -> tuple[Plan, dict[str, Any]]:
    """Plan a cell to the optimum; return the plan and what there is to say of it."""
    result = _optimal(instance)
    assert result.plan is not None
    return result.plan, {
        "accuracy_slack": _slack(result),
        "round_s": result.objective_s,
        "solver": result.solver.name,
        "gap_rel": result.gap_rel,
        "devices": decisions(result.plan),
        "payload_share": payload_share(instance, result),
    }


def over_bands(
    task: Task, alone: Calibration, offered: Calibration, grid: CalibrationSettings,
    settings: LoopSettings,
) -> list[dict[str, float]]:  # fmt: skip
    """Return both plans' round delays in seconds at several bands, each pair at one limit."""
    rows = []
    for band in BANDS:
        narrow = replace(settings, band=band)
        _, _, plain = planned(task, alone, grid, narrow)
        _, _, choice = planned_with_menu(offered, grid, narrow, plain["accuracy_minimum"])
        rows.append(
            {
                "band": band,
                "alone_round_s": plain["round_s"],
                "alone_payload_share": plain["payload_share"],
                "round_s": choice["round_s"],
                "less_delay": 1.0 - choice["round_s"] / plain["round_s"],
            }
        )
    return rows


def payload_share(instance: Instance, result: Result) -> float:
    """Return the share of a round that its boundary payloads take: what would go without them."""
    parts = result.breakdown
    assert parts is not None
    up = parts.tau_u_s - max(one.s1_s for one in parts.devices)
    down = parts.tau_d_s - max(one.s5_s for one in parts.devices)
    return instance.training.local_steps * (up + down) / parts.round_s


def _optimal(instance: Instance) -> Result:
    """The proven optimum, by enumeration where it is allowed: a second for a cell of two devices.

    Calibrated modes have omega by many intervals, and each counts as an option of its own.
    """
    few = get_solver("exhaustive").refusal(derive(instance)) is None
    result = solve(
        instance, solver="exhaustive" if few else None, rel_gap=_GAP, time_limit=_PLANNING_S
    )
    result.raise_if_interrupted().raise_for_status()
    return result


def _slack(result: Result) -> float:
    """What the plan leaves unused of the accuracy limit."""
    assert result.breakdown is not None
    slack = result.breakdown.accuracy_slack
    assert slack is not None, "a plan with a point has a known accuracy"
    return slack


def decisions(plan: Plan) -> list[dict[str, Any]]:
    """Return what a plan decides for each device: blocks, mode, bits and keep fraction."""
    return [
        {
            "id": part.id,
            "blocks": part.blocks,
            "mode": part.mode.value,
            "bits": part.bits,
            "keep_fraction": part.keep_fraction,
            **({} if part.mode_name is None else {"mode_name": part.mode_name}),
        }
        for part in plan.devices
    ]
