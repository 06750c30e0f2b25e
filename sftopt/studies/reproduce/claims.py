"""What the papers claim, as data: the figure, its source, what is public, what we assume.

Tags of sources: [A] abstract or bibliographic record, [F] full text, [Q] figure quoted in a public
note. A claim is tried against several baselines, the one that its text names first.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Trial:
    """One comparison: a figure of ``scheme`` against the same of ``against``.

    ``figure`` names what is compared; the claim's value is a reduction 1 - ours/theirs or a factor
    theirs/ours. ``note`` says what the baseline stands for.
    """

    figure: str
    against: str
    note: str
    scheme: str = ""


@dataclass(frozen=True)
class Claim:
    """One claim. ``at_least`` is its figure: a fraction where ``reduces``, else a factor."""

    name: str
    system: str
    text: str
    source: str
    at_least: float
    reduces: bool
    scheme: str
    trials: tuple[Trial, ...]
    assumed: str
    public: str = "the figure alone"
    families: tuple[str, ...] = field(default=())
    """Families it can be tried on; empty: all."""

    def schemes(self) -> list[str]:
        """List the schemes that its trials need."""
        named = [self.scheme, *(t.scheme for t in self.trials), *(t.against for t in self.trials)]
        return [name for name in dict.fromkeys(named) if name]


_SFT = "SFT, arXiv 2501.09237 and JSTSP 2025 [A]"
"""Where SFT was published."""
_OUR_CELLS = "cells, model, accuracy curve and baselines are ours; no table of parameters is public"
"""What every claim of SFT rests on here."""
_PLAIN = (
    Trial("round_s", "splitlora", "fixed cut, 32 bits (16 where the cell's reference is), equal "
          "shares"),
    Trial("round_s", "int8:shares=best", "fixed cut, 8 bits, best shares"),
    Trial("round_s", "one-for-all", "one best cut and compression for all, best shares"),
)  # fmt: skip
"""Baselines of a claim about delay, the weakest first."""

CLAIMS = (
    Claim(
        name="sft-delay",
        system="sft",
        text="80.2 % less delay than the benchmark (arXiv version)",
        source=_SFT,
        at_least=0.802,
        reduces=True,
        scheme="sft",
        trials=_PLAIN,
        assumed=_OUR_CELLS,
    ),
    Claim(
        name="sft-delay-journal",
        system="sft",
        text="66.4 % less delay than the benchmark (journal version)",
        source=_SFT,
        at_least=0.664,
        reduces=True,
        scheme="sft",
        trials=_PLAIN,
        assumed=_OUR_CELLS,
    ),
    Claim(
        name="sft-traffic",
        system="sft",
        text="93.6 % less communication overhead",
        source=_SFT,
        at_least=0.936,
        reduces=True,
        scheme="sft",
        trials=(
            Trial("boundary", "splitlora", "32 bits (16 where the cell's reference is)"),
            Trial("boundary", "fp16", "16 bits"),
            Trial("boundary", "int8", "8 bits"),
            Trial("all", "splitlora", "adapters and labels counted on both sides"),
        ),
        assumed="boundary bytes up and down; " + _OUR_CELLS,
    ),
    Claim(
        name="card-delay",
        system="card",
        text="70.8 % less mean training delay (with 53.1 % less server energy)",
        source="CARD, arXiv 2412.00090, IEEE Netw. Lett. 7(3) 2025 [A]",
        at_least=0.708,
        reduces=True,
        scheme="card",
        trials=(
            Trial("round_s", "device-only", "the highest cut that fits, w = 0.2"),
            Trial("round_s", "device-only", "w = 0.9", scheme="card:w=0.9"),
        ),
        assumed="weight 0.2, f_min = f_s/4, the reading of its benchmarks, cells",
    ),
    Claim(
        name="card-energy",
        system="card",
        text="53.1 % less server energy (with 70.8 % less delay)",
        source="CARD, arXiv 2412.00090, IEEE Netw. Lett. 7(3) 2025 [A]",
        at_least=0.531,
        reduces=True,
        scheme="card",
        trials=(
            Trial("server_j", "server-only", "the lowest cut that fits, w = 0.2"),
            Trial("server_j", "server-only", "w = 0.9", scheme="card:w=0.9"),
        ),
        assumed="weight 0.2, f_min = f_s/4, the reading of its benchmarks, cells",
    ),
    Claim(
        name="tsflora-traffic",
        system="tsflora",
        text="up to 6.8 times less communication",
        source="TSFLora, arXiv 2605.23988 [A]",
        at_least=6.8,
        reduces=False,
        scheme="tsflora",
        trials=(
            Trial("up", "splitlora", "uplink, 40 tokens in 8 bits"),
            Trial("boundary", "splitlora", "both directions, 40 tokens in 8 bits"),
            Trial(
                "up",
                "splitlora",
                "uplink, 115 tokens in 8 bits (60 % of 197)",
                scheme="tsflora:kept_tokens=115",
            ),
        ),
        assumed="tokens and bits behind the figure; accuracy over tokens is not calibrated",
        families=("jetson-vit-b",),
    ),
    Claim(
        name="tsflora-memory",
        system="tsflora",
        text="41 % less memory",
        source="TSFLora, arXiv 2605.23988 [A]",
        at_least=0.41,
        reduces=True,
        scheme="tsflora",
        trials=(
            Trial("server_memory", "splitlora", "the server's"),
            Trial("device_memory", "splitlora", "a device's, which works on all tokens"),
        ),
        assumed="whose memory is meant; 40 tokens in 8 bits",
        families=("jetson-vit-b",),
    ),
    Claim(
        name="splitlora-speed",
        system="splitlora",
        text="FedLoRA needs 1.7 times the time of SplitLoRA (GPT-2 small)",
        source="SplitLoRA, arXiv 2407.00952 [Q]",
        at_least=1.7,
        reduces=False,
        scheme="splitlora",
        trials=(Trial("round_s", "fedlora", "rounds alone, with a radio"),),
        assumed="equal rounds to the target; the paper has no radio",
    ),
    Claim(
        name="hsplitlora-speed",
        system="hsplitlora",
        text="1.5 times faster than SplitLoRA",
        source="HSplitLoRA, arXiv 2505.02795 [Q]",
        at_least=1.5,
        reduces=False,
        scheme="hsplitlora",
        trials=(
            Trial("round_s", "splitlora", "rounds alone"),
            Trial(
                "round_s",
                "splitlora",
                "rounds alone, the most blocks that fit",
                scheme="hsplitlora:cuts=memory",
            ),
        ),
        assumed="cuts and ranks by speed and memory; equal rounds to the target",
    ),
)
"""Every claim that is tried on cells."""
