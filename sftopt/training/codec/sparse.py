"""Top-K, quantise, code: the published chain of [SFT], and its relatives.

[SFT] arXiv 2501.09237 keeps the elements of largest magnitude, quantises them stochastically and
codes mask and values without loss; its level placing and coder are not public, ours are in
``quantiser`` and ``mask``. Rand-Top-k keeps a random part from outside the Top-K, as proposed for
split learning in arXiv 2305.18469. ``quantise`` keeps everything.

Down the link only the kept positions travel, without a mask: equation (2).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sftopt.training.codec.accelerator.quantiser import dequantised
from sftopt.training.codec.accelerator.top_k import packed, placed, top_k_mask
from sftopt.training.codec.accelerator.transfer import fetched, is_on_host, sent
from sftopt.training.codec.base import (
    ConfigT,
    Decoded,
    Encoded,
    FloatArray,
    Parts,
    Support,
    WireCodec,
    flag_faults,
    in_dtype,
    number_within,
    register,
    to_array,
    to_tensor,
)
from sftopt.training.codec.container import Direction, Header, Reader
from sftopt.training.codec.entropy import Decoder, Encoder
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.mask import MaskModel, pop_mask, push_mask_bits
from sftopt.training.codec.quantiser import (
    LARGEST_PATTERN,
    Symbols,
    dequantise,
    from_bfloat16,
    to_bfloat16,
)
from sftopt.training.codec.selection import (
    Selection,
    kept_elements,
    positions_of,
    random_top_k,
    top_k,
)
from sftopt.training.codec.symbols import quantised_there, symbols_at
from sftopt.training.codec.values import (
    QuantisedConfig,
    ValuesBody,
    group_of,
    push_values,
    quantised,
)

_LAYOUT = struct.Struct("<IB")
"""Layout of the head of a body: number of kept elements, and whether they are centred."""


@dataclass(frozen=True)
class QuantiseConfig(QuantisedConfig):
    """Stochastic quantisation of every element; mode ``dense``."""

    codec = "quantise"


@dataclass(frozen=True)
class TopKConfig(QuantisedConfig):
    """Top-K by magnitude, then quantisation of the kept values; mode ``topk``."""

    codec = "topk"

    keep: float = 0.1
    """rho: fraction of elements kept, rounded to whole elements."""
    per_sample: bool = False
    """Keep that fraction of each sample (first dimension) instead of the whole tensor."""
    centre: bool = False
    """Beyond the published chain: take each channel's mean off first. What is dropped becomes the
    mean instead of zero, for 16 bits per channel."""

    def faults(self) -> list[str]:
        """List the faults of all parameters."""
        faults = super().faults()
        if not number_within(self.keep, 1e-9, 1.0):
            faults.append(f"keep = {self.keep!r}, more than 0 and at most 1 expected")
        faults += flag_faults("per_sample", self.per_sample)
        return faults + flag_faults("centre", self.centre)


@dataclass(frozen=True)
class RandTopKConfig(TopKConfig):
    """Top-K in which each kept element comes from outside the Top-K with a small probability."""

    codec = "rand-topk"

    outside: float = 0.05
    """Probability of an element from outside the Top-K."""

    def faults(self) -> list[str]:
        """List the faults of all parameters."""
        faults = super().faults()
        if not number_within(self.outside, 0.0, 0.999):
            faults.append(f"outside = {self.outside!r}, 0 to 0.999 expected")
        return faults


@dataclass(frozen=True)
class Chosen:
    """A Top-K as the entropy coder is given it."""

    mask_bits: NDArray[np.uint8]
    """Packed as ``np.packbits`` does."""
    positions: NDArray[np.int64]
    symbols: Symbols
    centres: NDArray[np.uint16] | None
    """Channels' means taken off first, as bfloat16 patterns."""


class _QuantisedCodec(WireCodec[ConfigT]):
    """The gradient's way back is the same for all: values at known positions."""

    def _compress_gradient(
        self, gradient: torch.Tensor, support: Support, generator: np.random.Generator
    ) -> Encoded:
        return self._coded(gradient, support, Direction.GRADIENT, generator)

    def _coded(
        self,
        tensor: torch.Tensor,
        support: Support,
        direction: Direction,
        generator: np.random.Generator,
    ) -> Encoded:
        """The values of ``tensor`` at the positions of ``support``."""
        config = self.config
        assert isinstance(config, QuantisedConfig)
        symbols = symbols_at(tensor, support.positions, config, generator)
        encoder = Encoder()
        coded = push_values(encoder, symbols, group_of(config, support.shape))
        payload = self._seal(tensor, direction, [coded.body, encoder.to_bytes()])
        kept = symbols.symbols.size
        parts = Parts(tensor.numel(), kept, coded.value_bits, 0.0, coded.scale_bits)
        return Encoded(payload, support, parts)

    @classmethod
    def expand_gradient_body(
        cls, header: Header, reader: Reader, support: Support, device: torch.device
    ) -> torch.Tensor:
        """Return values at the support's positions, zero elsewhere."""
        if header.shape != support.shape:
            raise CodecError(f"gradient of {header.shape} for a tensor of {support.shape}")
        body = ValuesBody.read(reader)
        decoder = Decoder(reader)
        coded = body.pop(decoder, support.positions, header.elements)
        decoder.end()
        return _placed(coded, support.positions, header, device)


@register
class Quantise(_QuantisedCodec[QuantiseConfig]):
    """Every element quantised, no mask."""

    name = "quantise"
    wire_id = 2
    config_class = QuantiseConfig

    def _compress(
        self, tensor: torch.Tensor, generator: np.random.Generator, scores: torch.Tensor | None
    ) -> Encoded:
        return self._coded(tensor, Support(tuple(tensor.shape)), Direction.FORWARD, generator)

    @classmethod
    def expand_body(cls, header: Header, reader: Reader, device: torch.device) -> Decoded:
        """Read all values in order."""
        body = ValuesBody.read(reader)
        decoder = Decoder(reader)
        coded = body.pop(decoder, None, header.elements)
        decoder.end()
        return Decoded(_placed(coded, None, header, device), Support(header.shape))


@register
class TopK(_QuantisedCodec[TopKConfig]):
    """Top-K by magnitude, over the tensor or per sample."""

    name = "topk"
    wire_id = 3
    config_class = TopKConfig

    def _select(self, values: FloatArray, kept: int, generator: np.random.Generator) -> Selection:
        """The kept elements of a flat array."""
        return top_k(values, kept)

    def _chosen(self, tensor: torch.Tensor, generator: np.random.Generator) -> Chosen:
        """What the entropy coder is given."""
        if is_on_host(tensor):
            return self._chosen_on_host(tensor, generator)
        return chosen_on_accelerator(tensor, self.config, generator)

    def _chosen_on_host(self, tensor: torch.Tensor, generator: np.random.Generator) -> Chosen:
        config, shape = self.config, tuple(tensor.shape)
        array = to_array(tensor).ravel()
        centres = None
        if config.centre:
            rows = array.reshape(-1, shape[-1])
            centres = _as_centres(rows.mean(axis=0, dtype=np.float64))
            array = (rows - from_bfloat16(centres)).ravel()
        samples = array.reshape(shape[0] if config.per_sample else 1, -1)
        kept = kept_elements(samples.shape[1], config.keep)
        selections = [self._select(sample, kept, generator) for sample in samples]
        mask, positions, values = _joined(selections, samples.shape[1])
        symbols = quantised(values, positions, shape, config, generator, from_threshold=True)
        return Chosen(np.packbits(mask), positions, symbols, centres)

    def _compress(
        self, tensor: torch.Tensor, generator: np.random.Generator, scores: torch.Tensor | None
    ) -> Encoded:
        shape, elements = tuple(tensor.shape), tensor.numel()
        chosen = self._chosen(tensor, generator)
        kept = chosen.positions.size
        encoder = Encoder()
        model = push_mask_bits(encoder, chosen.mask_bits, elements, kept, shape[-1])
        mask_bits = encoder.bits + 8 * len(model)
        coded = push_values(encoder, chosen.symbols, group_of(self.config, shape))
        centres = b"" if chosen.centres is None else chosen.centres.astype("<u2").tobytes()
        head = _LAYOUT.pack(kept, self.config.centre)
        body = [head, centres, model, coded.body, encoder.to_bytes()]
        side_bits = coded.scale_bits + 8.0 * len(centres)
        return Encoded(
            self._seal(tensor, Direction.FORWARD, body),
            Support(shape, chosen.positions),
            Parts(elements, kept, coded.value_bits, mask_bits, side_bits),
        )

    @classmethod
    def expand_body(cls, header: Header, reader: Reader, device: torch.device) -> Decoded:
        """Read the mask, then the values at its positions."""
        kept, centred = reader.unpack(_LAYOUT, "the number of kept elements")
        width = header.shape[-1]
        centres = _read_means(reader, width) if centred else None
        model = MaskModel.read(reader, width)
        body = ValuesBody.read(reader)
        decoder = Decoder(reader)
        mask = pop_mask(decoder, model, header.elements, width)
        found = int(np.count_nonzero(mask))
        if kept != found or kept == 0:
            raise CodecError(f"payload damaged: {kept} elements stated, {found} in the mask")
        positions = positions_of(mask, kept)
        coded = body.pop(decoder, positions, header.elements)
        decoder.end()
        tensor = _placed(coded, positions, header, device, centres)
        return Decoded(tensor, Support(header.shape, positions))


@register
class RandTopK(TopK):
    """Top-K with a random part from outside; its draws are made on the host."""

    name = "rand-topk"
    wire_id = 4
    config_class = RandTopKConfig

    def _chosen(self, tensor: torch.Tensor, generator: np.random.Generator) -> Chosen:
        return self._chosen_on_host(tensor, generator)

    def _select(self, values: FloatArray, kept: int, generator: np.random.Generator) -> Selection:
        if not np.all(np.isfinite(values)):
            raise CodecError("the tensor holds NaN or infinity")
        assert isinstance(self.config, RandTopKConfig)
        return random_top_k(values, kept, self.config.outside, generator)


def _joined(selections: list[Selection], size: int) -> Selection:
    """One selection from those of consecutive samples of ``size`` elements."""
    if len(selections) == 1:
        return selections[0]
    positions = [one.positions + index * size for index, one in enumerate(selections)]
    return Selection(
        np.concatenate([one.mask for one in selections]),
        np.concatenate(positions),
        np.concatenate([one.values for one in selections]),
    )


def chosen_on_accelerator(
    tensor: torch.Tensor, config: TopKConfig, generator: np.random.Generator
) -> Chosen:
    """Select and quantise where ``tensor`` is; integers come to the host in one transfer."""
    shape = tuple(tensor.shape)
    flat = tensor.detach().float().reshape(-1)
    centres = None
    if config.centre:
        rows = flat.reshape(-1, shape[-1])
        centres = _as_centres(fetched(rows.mean(0, dtype=torch.float64))[0])
        flat = (rows - sent(from_bfloat16(centres), flat.device)).reshape(-1)
    samples = flat.reshape(shape[0] if config.per_sample else 1, -1)
    kept = kept_elements(samples.shape[1], config.keep)
    mask = top_k_mask(samples, kept).reshape(-1)
    positions = mask.nonzero().reshape(-1)
    values = quantised_there(
        flat[positions], positions, shape, config, generator, from_threshold=True
    )
    bits, found, *arrays = fetched(packed(mask), positions.int(), *values.tensors)
    return Chosen(bits, found.astype(np.int64), values.on_host(arrays), centres)


def _as_centres(means: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Channels' means as bfloat16 patterns."""
    if not np.all(np.abs(means) < 2.0**120):
        raise CodecError("the tensor holds NaN, infinity or magnitudes above 1.3e36")
    return to_bfloat16(means.astype(np.float32))


def _read_means(reader: Reader, channels: int) -> FloatArray:
    patterns = reader.array("<u2", channels, "channel means").astype(np.uint16)
    if np.any(patterns & 0x7FFF > LARGEST_PATTERN):
        raise CodecError("payload damaged: a channel's mean is above 2^120")
    return from_bfloat16(patterns)


def _placed(
    coded: Symbols,
    positions: NDArray[np.int64] | None,
    header: Header,
    device: torch.device,
    centres: FloatArray | None = None,
) -> torch.Tensor:
    """Values at their positions, on top of the channels' means where there are any."""
    if not is_on_host(device):
        return _placed_there(coded, positions, header, device, centres)
    values = dequantise(coded)
    if positions is not None:
        full = np.zeros(header.elements, dtype=np.float32)
        full[positions] = values
        values = full
    if centres is not None:
        values = (values.reshape(-1, header.shape[-1]) + centres).ravel()
    return to_tensor(values, header.dtype, header.shape)


def _placed_there(
    coded: Symbols,
    positions: NDArray[np.int64] | None,
    header: Header,
    device: torch.device,
    centres: FloatArray | None,
) -> torch.Tensor:
    values = dequantised(coded, device)
    if positions is not None:
        at = sent(positions.astype(np.int32), device).long()
        values = placed(values, at, header.elements)
    values = values.reshape(header.shape)
    if centres is not None:
        values = values + sent(centres, device)
    return in_dtype(values, header.dtype)
