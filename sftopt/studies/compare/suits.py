"""Whether a scheme suits an instance at all, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from sftopt.core.errors import InputError
from sftopt.core.faults import Fault
from sftopt.core.instance import Instance
from sftopt.core.schemes.base import CompressionRule, RankRule
from sftopt.studies.compare.request import Request, check_range

_KEPT_OF_197 = 40
"""Tokens that TSFLora keeps of a ViT's 197, CLS included; of other lengths as large a share."""
_VIT_TOKENS = 197
"""Tokens of a ViT of 224 pixels in patches of 16, CLS included."""


def check_named(instance: Instance, requests: Sequence[Request]) -> None:
    """Refuse a scheme that was named and has no meaning on this instance. Raises InputError."""
    for request in requests:
        if request.named:
            check_suits(instance, request)


def check_suits(instance: Instance, request: Request) -> None:
    """Refuse a scheme that has no meaning on this instance. Raises InputError with the way out."""
    name, scheme = request.scheme.name, request.scheme
    work = instance.workload
    if "cut" in request.options:
        cut = float(request.options["cut"])
        check_range(f"{name}:cut", cut, 0, work.blocks - 1, "blocks; the server holds the rest")
    if scheme.ranks is not RankRule.WORKLOAD:
        _check_ranks(instance, request)
    if scheme.compression is CompressionRule.TOKENS:
        _check_tokens(instance, request)


def _check_ranks(instance: Instance, request: Request) -> None:
    """A rank above the width of the adapted matrices adds nothing: refuse it."""
    work = instance.workload
    text = "rank of an adapter; the hidden size is as far as it goes"
    if "rank" in request.options:
        what = f"{request.scheme.name}:rank"
        check_range(what, float(request.options["rank"]), 1, work.hidden, text)
    for device in instance.devices:
        if device.lora_rank is not None:
            what = f"device {device.id}: lora_rank"
            check_range(what, device.lora_rank, 1, work.hidden, text)


def _check_tokens(instance: Instance, request: Request) -> None:
    name, work = request.scheme.name, instance.workload
    if work.is_decoder:
        message = (
            f"scheme '{name}': '{work.name}' is a decoder; tokens are chosen by the attention of "
            "a CLS token, which only encoders have. Leave the scheme out"
        )
        raise InputError(message, [Fault(field="workload.is_decoder", value="true",
                                         limit="false", message=message)])  # fmt: skip
    most = work.tokens - 2
    if most < 2:
        text = f"scheme '{name}': {work.tokens} tokens are too few to keep 2 and merge the rest"
        raise InputError(text, [Fault(field="workload.tokens", value=work.tokens, limit=4,
                                      unit="tokens", message=text)])  # fmt: skip
    kept = kept_tokens(instance, request)
    check_range(f"{name}:kept_tokens", kept, 2, most,
                f"of {work.tokens} tokens; one more holds what is merged")  # fmt: skip


def kept_tokens(instance: Instance, request: Request) -> int:
    """Return the number of tokens kept, CLS included: the option, or 40 in 197."""
    if "kept_tokens" in request.options:
        return int(request.options["kept_tokens"])
    tokens = instance.workload.tokens
    return max(2, min(tokens * _KEPT_OF_197 // _VIT_TOKENS, tokens - 2))
