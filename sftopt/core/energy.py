"""The judge's energy of one round in joules, section 7 of MODEL.md, and what devices radiate.

Server: kappa_s f_s^2 FLOP, at the speed it has for each device. Devices: kappa_n f_n^2 FLOP and the
radio, p_n x (seconds sent) under ``total``, x_n p_n x (seconds sent) under ``psd``, where the power
goes with the share; boundary, side bits, adapters and heads. A coefficient that is not known makes
its sum unknown, never 0. Not counted: the server's radio, idle power and codecs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sftopt.core.delay import Conduct, Decision
from sftopt.core.instance import Instance, PowerLaw
from sftopt.core.orders import RoundDelay


def server_energy_j(
    instance: Instance, decisions: Sequence[Decision], delay: RoundDelay
) -> float | None:
    """Return what the server's compute takes in one round, in joules; None: kappa_s is null."""
    kappa = instance.server.energy_coefficient_j_s2_per_flop3
    if kappa is None:
        return None
    speeds = [d.server_flops_per_s or instance.server.compute_flops_per_s for d in decisions]
    work = math.fsum(
        speed * speed * times.server_flops
        for speed, times in zip(speeds, delay.devices, strict=True)
    )
    return kappa * instance.training.local_steps * work


def device_energy_j(
    instance: Instance, decisions: Sequence[Decision], delay: RoundDelay, conduct: Conduct
) -> float | None:
    """Return what all devices' compute and radio take in one round, in joules; None: a kappa_n is
    null.
    """
    steps, total = instance.training.local_steps, []
    psd = instance.radio.power is PowerLaw.PSD
    rows = zip(instance.devices, decisions, delay.devices, delay.exchange.up_s,
               delay.exchange.up_shares, strict=True)  # fmt: skip
    for device, decision, times, adapters_s, adapter_share in rows:
        kappa = device.energy_coefficient_j_s2_per_flop3
        if kappa is None:
            return None
        speed = device.compute_flops_per_s
        sent_s = steps * times.s2_s * (decision.uplink_share if psd else 1.0)
        sent_s += adapters_s * (adapter_share if psd else 1.0)
        compute_j = kappa * speed * speed * steps * times.device_flops
        total.append(compute_j + conduct.power_w(instance, device) * sent_s)
    return math.fsum(total)


def radiated_w_max(
    instance: Instance, decisions: Sequence[Decision], delay: RoundDelay, conduct: Conduct
) -> float:
    """Return the most that any device radiates in the round, in watts."""
    psd = instance.radio.power is PowerLaw.PSD
    most = 0.0
    rows = zip(instance.devices, decisions, delay.devices, delay.exchange.up_shares, strict=True)
    for device, decision, times, adapter_share in rows:
        share = max(decision.uplink_share if times.s2_s > 0.0 else 0.0, adapter_share)
        on = share if psd else float(share > 0.0)
        most = max(most, on * conduct.power_w(instance, device))
    return most
