"""A calibration in the place of an instance's declared figures, field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftopt.core.accuracy import predicted_accuracy
from sftopt.core.calibration import (
    AccuracyCurve,
    Calibration,
    Speeds,
    apply,
    calibrated,
    load_calibration,
)
from sftopt.core.errors import InputError
from sftopt.core.files import write_json
from sftopt.core.instance import Instance, Mode
from tests.calibration_samples import sample_calibration
from tests.face.command_line import small_data

CALIBRATION = sample_calibration()


def instance(modes: list[dict[str, Any]] | None = None, **sections: Any) -> Instance:
    data = small_data()
    data["compression"] = {"modes": modes or [{"bits": 4}, {"kind": "none", "bits": 32}]}
    for section, fields in sections.items():
        data[section] = {**data.get(section, {}), **fields}
    return Instance.model_validate(data)


def test_every_section_is_replaced_or_stays_as_documented() -> None:
    given = instance()
    made = apply(given, CALIBRATION)
    assert made.workload == CALIBRATION.workload
    assert made.radio == given.radio
    assert made.training == given.training
    assert made.server == given.server
    topk, none = made.compression.modes
    assert topk == CALIBRATION.codec.modes[1]
    assert none == given.compression.modes[1]
    stays = {"compute_flops_per_s", "memory_bytes", "batch", "weight", "uplink_gain", "blocks_min"}
    for before, after in zip(given.devices, made.devices, strict=True):
        assert all(getattr(before, name) == getattr(after, name) for name in stays)
        # a processor so many times as fast codes so many times as fast
        assert after.codec_s_per_element == pytest.approx(
            2e-8 * 2.1e10 / before.compute_flops_per_s
        )
    assert made.accuracy.band == 0.004
    assert CALIBRATION.hash[:12] in made.accuracy.provenance
    assert CALIBRATION.hash[:12] in made.source.text


def test_the_applied_instance_has_its_own_hash_which_reads_back(tmp_path: Path) -> None:
    given, made = instance(), apply(instance(), CALIBRATION)
    hashes = {
        given.hash,
        made.hash,
        apply(given, CALIBRATION, curve=AccuracyCurve.FIT).hash,
        apply(given, CALIBRATION, speeds=Speeds.MEASURED).hash,
    }
    assert len(hashes) == 4
    path = tmp_path / "c.json"
    CALIBRATION.save(path)
    read = load_calibration(path)
    assert read == CALIBRATION
    assert apply(given, read).hash == made.hash
    assert Instance.model_validate(made.to_dict()).hash == made.hash


def test_what_was_allowed_to_be_lost_stays_whatever_the_curve() -> None:
    given = instance(accuracy={"minimum_each": 0.86})  # 0.9 uncompressed, 0.88 and 0.86 needed
    for curve in AccuracyCurve:
        made = apply(given, CALIBRATION, curve=curve).accuracy
        assert made.minimum == pytest.approx(0.8 - 0.02)
        assert made.minimum_each == pytest.approx(0.8 - 0.04)
    assert apply(given, CALIBRATION, minimum=0.77).accuracy.minimum == pytest.approx(0.77)
    assert apply(given, CALIBRATION, minimum=0.77).accuracy.minimum_each == pytest.approx(0.75)


def test_the_default_is_the_lower_curve() -> None:
    mode = Mode(bits=4)
    lower = apply(instance(), CALIBRATION).accuracy
    fit = apply(instance(), CALIBRATION, curve=AccuracyCurve.FIT).accuracy
    assert lower.keep_loss == 0.25
    assert fit.keep_loss == 0.2
    for keep in (0.1, 0.3, 0.5):
        assert predicted_accuracy(fit, mode, keep, 1) == CALIBRATION.accuracy_fit().fit.value(
            keep, 4
        )
        assert predicted_accuracy(lower, mode, keep, 1) < predicted_accuracy(fit, mode, keep, 1)


def test_keep_is_cut_to_the_calibrated_range_and_said() -> None:
    applied = calibrated(instance(), CALIBRATION)
    assert (applied.instance.keep_min, applied.instance.compression.keep_max) == (0.1, 0.5)
    assert "compression.keep_max" in {notice.field for notice in applied.notices}
    inside = instance()
    inside = inside.model_copy(
        update={"compression": inside.compression.model_copy(update={"keep_min": 0.2,
                                                                     "keep_max": 0.4})}
    )  # fmt: skip
    applied = calibrated(inside, CALIBRATION)
    assert (applied.instance.keep_min, applied.instance.compression.keep_max) == (0.2, 0.4)
    assert not [notice for notice in applied.notices if "keep" in notice.field]


def test_modes_beyond_the_grid_are_left_out_and_said() -> None:
    offered = [{"bits": bits} for bits in (2, 4, 6, 8)] + [{"kind": "dense", "bits": 8}]
    fit = {"bits_from": 4, "bits_to": 8}
    applied = calibrated(instance(offered), sample_calibration(accuracy=fit))
    # 2 was not fine-tuned with, the bytes of 6 not measured, dense neither
    assert [mode.label for mode in applied.instance.compression.modes] == ["topk4", "topk8"]
    told = [notice.value for notice in applied.notices if notice.field == "compression.modes"]
    assert told == ["topk2", "topk6", "dense8"]


def test_nothing_left_is_an_error_that_names_what_is_calibrated() -> None:
    with pytest.raises(InputError, match="topk2, topk4, topk8"):
        apply(instance([{"bits": 3}]), CALIBRATION)
    beyond = instance(compression={"modes": [{"bits": 4}], "keep_min": 0.6})
    with pytest.raises(InputError, match=r"0\.6 to 1 lie outside the calibrated 0\.1 to 0\.5"):
        apply(beyond, CALIBRATION)


def test_extrapolation_only_when_asked_and_never_silently() -> None:
    offered = [{"bits": 3}, {"bits": 4}]
    applied = calibrated(instance(offered), CALIBRATION, extrapolate=True)
    assert [mode.label for mode in applied.instance.compression.modes] == ["topk3", "topk4"]
    assert applied.instance.compression.modes[0] == Mode(bits=3)
    assert applied.instance.compression.keep_max == 1.0
    texts = [str(notice) for notice in applied.notices]
    assert sum("extrapolation" in text for text in texts) == 2


def test_measured_speeds_make_the_median_device_the_machine() -> None:
    given = instance(server={"compute_min_flops_per_s": 1e12, "compute_max_flops_per_s": 4e12})
    made = apply(given, CALIBRATION, speeds=Speeds.MEASURED)
    speeds = [device.compute_flops_per_s for device in made.devices]
    assert sorted(speeds)[0] < 2.1e10 < sorted(speeds)[1]
    assert (speeds[0] + speeds[1]) / 2 == pytest.approx(2.1e10)
    before, after = given.server, made.server
    ratio = speeds[0] / given.devices[0].compute_flops_per_s
    assert after.compute_flops_per_s == pytest.approx(ratio * before.compute_flops_per_s)
    assert after.compute_max_flops_per_s == pytest.approx(ratio * 4e12)
    # one block of one sample on the machine itself takes what was measured, 4e-4 s for 4 samples
    work = made.workload
    assert work.block_forward_flops / 2.1e10 == pytest.approx(1e-4)
    assert work.block_backward_flops / 2.1e10 == pytest.approx(1e-4)
    assert work.block_activation_bytes == CALIBRATION.workload.block_activation_bytes


def test_limits_in_another_metric_must_be_said() -> None:
    language = sample_calibration(accuracy={"metric": "negative_loss_nats"})
    with pytest.raises(InputError, match="negative_loss_nats"):
        apply(instance(), language)
    made = apply(instance(), language, minimum=-1.3).accuracy
    assert (made.metric, made.minimum) == ("negative_loss_nats", -1.3)


def test_a_floor_the_measured_model_cannot_hold_is_an_error() -> None:
    data = small_data()
    data["workload"]["blocks"] = 12
    data["devices"][0]["blocks_min"] = 7
    data["compression"] = {"modes": [{"bits": 4}]}
    with pytest.raises(InputError, match="dev0: blocks_min is 7"):
        apply(Instance.model_validate(data), CALIBRATION)


def test_what_a_calibration_cannot_know_is_dropped_with_a_word() -> None:
    given = instance(accuracy={"cut_factor": [1.0, 1.1, 1.2, 1.3]})
    given = given.model_copy(
        update={"devices": tuple(d.model_copy(update={"batch": 64}) for d in given.devices)}
    )
    applied = calibrated(given, CALIBRATION)
    assert applied.instance.accuracy.cut_factor is None
    fields = {notice.field for notice in applied.notices}
    assert {"accuracy.cut_factor", "batch", "workload"} <= fields


def test_without_fine_tunings_the_accuracy_stays_declared() -> None:
    profile_only = sample_calibration().model_copy(update={"accuracy": None})
    given = instance()
    applied = calibrated(given, profile_only)
    assert applied.instance.accuracy == given.accuracy
    assert applied.instance.compression.keep_max == 1.0
    assert applied.instance.compression.modes[0] == CALIBRATION.codec.modes[1]
    assert "accuracy" in {notice.field for notice in applied.notices}


def level(target: float, loss: float) -> dict[str, Any]:
    return {"target_bits": target, "value_bits": target + 0.01, "side_bits_per_element": 0.05,
            "metric": [0.8 - loss] * 2, "loss": [loss] * 2, "mean_loss": loss,
            "half_width": 0.001}  # fmt: skip


@pytest.mark.parametrize("curve", list(AccuracyCurve))
def test_dead_zone_levels_are_named_so_that_the_plan_is_on_the_safe_side(
    curve: AccuracyCurve,
) -> None:
    levels = [level(0.5, 0.5), level(1.0, 0.04), level(2.0, 0.003), level(2.4, 0.0029)]
    calibration = sample_calibration(accuracy={"ecsq": levels})
    fit = calibration.accuracy_fit()
    found = fit.ecsq_levels(curve)
    assert found  # a loss of 0.5 is more than the curve has at 1 bit: never offered
    assert 0.5 not in {cell.target_bits for cell in found.values()}
    for bits, cell in found.items():
        extra = cell.half_width if curve is AccuracyCurve.LOWER else 0.0
        assert fit.curve(curve).value(1.0, bits) <= 0.8 - cell.mean_loss - extra + 1e-12
        assert fit.curve(curve).value(1.0, bits + 1) > 0.8 - cell.mean_loss - extra
    # of levels that could bear the same name the one of fewest bits is offered
    assert 2.4 not in {cell.target_bits for cell in found.values()}
    bits = max(found)
    made = apply(instance([{"kind": "dense", "bits": bits}]), calibration, curve=curve)
    assert made.compression.modes[0].value_bits == found[bits].value_bits


def test_faults_of_a_file_are_named_together(tmp_path: Path) -> None:
    data = CALIBRATION.to_dict()
    data["codec"]["seconds_per_element"] = -1.0
    del data["profile"]["speed_flops_per_s"]
    data["acuracy"] = None
    path = tmp_path / "c.json"
    write_json(path, data)
    with pytest.raises(InputError) as caught:
        load_calibration(path)
    fields = {fault.field for fault in caught.value.faults}
    assert fields == {"codec.seconds_per_element", "profile.speed_flops_per_s", "acuracy"}


def test_the_hash_is_of_the_content() -> None:
    assert CALIBRATION.hash == Calibration.model_validate(CALIBRATION.to_dict()).hash
    assert CALIBRATION.hash != sample_calibration(name="other").hash
