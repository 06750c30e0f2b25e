"""Token selection with one merged token, in the manner of TSFLora (arXiv 2605.23988).

The tokens of highest score (for a ViT: the attention of the CLS token) are kept in their order;
the others become one token, their mean weighted by score. All are quantised densely. The receiver
sees S' = kept + 1 tokens and needs no positions; the gradient of the merged token returns to the
tokens it was made of, in the same proportions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sftopt.training.codec.base import (
    Decoded,
    Encoded,
    Parts,
    Support,
    TokenMerge,
    WireCodec,
    flag_faults,
    is_whole,
    register,
    to_array,
    to_tensor,
)
from sftopt.training.codec.container import Direction, Header, Reader
from sftopt.training.codec.entropy import Decoder, Encoder
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.quantiser import dequantise
from sftopt.training.codec.values import (
    QuantisedConfig,
    ValuesBody,
    group_of,
    push_values,
    quantised,
)


@dataclass(frozen=True)
class TokensConfig(QuantisedConfig):
    """Token selection; ``bits``, ``rate`` and ``group`` quantise the tokens that are sent."""

    codec = "tokens"

    tokens: int = 40
    """Tokens kept per sample, the first one included; the merged token comes on top."""
    keep_first: bool = True
    """Keep the first token (CLS) whatever its score."""

    def faults(self) -> list[str]:
        """List the faults of all parameters."""
        faults = super().faults()
        if not is_whole(self.tokens, 1, 2**31):
            faults.append(f"tokens = {self.tokens!r}, a positive number expected")
        return faults + flag_faults("keep_first", self.keep_first)


@register
class TokenSelection(WireCodec[TokensConfig]):
    """Kept tokens and one merged token per sample, quantised."""

    name = "tokens"
    wire_id = 5
    config_class = TokensConfig
    needs_scores = True

    def _compress(
        self, tensor: torch.Tensor, generator: np.random.Generator, scores: torch.Tensor | None
    ) -> Encoded:
        assert scores is not None  # `compress` sees to it
        if tensor.dim() != 3 or tuple(scores.shape) != tuple(tensor.shape[:2]):
            raise CodecError(
                f"token selection takes (samples, tokens, hidden) and scores (samples, tokens), "
                f"not {tuple(tensor.shape)} and {tuple(scores.shape)}"
            )
        if self.config.tokens >= tensor.shape[1]:
            raise CodecError(
                f"{self.config.tokens} tokens to keep of {tensor.shape[1]}: none is left to merge"
            )
        merge = self._merge(to_array(scores))
        values = to_array(tensor)
        kept = np.take_along_axis(values, merge.kept[:, :, None], axis=1)
        merged = np.einsum("bs,bsd->bd", merge.weights, values)[:, None]
        sent = torch.from_numpy(np.concatenate([kept, merged], axis=1)).to(tensor.dtype)
        shape = tuple(sent.shape)
        encoder = Encoder()
        symbols = quantised(to_array(sent).ravel(), None, shape, self.config, generator)
        coded = push_values(encoder, symbols, group_of(self.config, shape))
        payload = self._seal(sent, Direction.FORWARD, [coded.body, encoder.to_bytes()])
        parts = Parts(values.size, sent.numel(), coded.value_bits, 0.0, coded.scale_bits)
        return Encoded(payload, Support(shape, None, merge), parts)

    def _merge(self, scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> TokenMerge:
        if not np.all(np.isfinite(scores)) or np.any(scores < 0.0):
            raise CodecError("token scores must be finite and not negative")
        ranked = scores.astype(np.float64)
        if self.config.keep_first:
            ranked[:, 0] = np.inf
        kept = np.sort(np.argsort(-ranked, axis=1, kind="stable")[:, : self.config.tokens], axis=1)
        weights = scores.astype(np.float64)
        np.put_along_axis(weights, kept, 0.0, axis=1)
        dropped = np.ones_like(weights)
        np.put_along_axis(dropped, kept, 0.0, axis=1)
        totals = weights.sum(axis=1, keepdims=True)
        # where all dropped tokens score zero, their plain mean
        weights = np.where(totals > 0.0, weights, dropped)
        weights /= weights.sum(axis=1, keepdims=True)
        return TokenMerge(kept, weights.astype(np.float32))

    def _compress_gradient(
        self, gradient: torch.Tensor, support: Support, generator: np.random.Generator
    ) -> Encoded:
        values = to_array(gradient).ravel()
        encoder = Encoder()
        symbols = quantised(values, None, support.shape, self.config, generator)
        coded = push_values(encoder, symbols, group_of(self.config, support.shape))
        payload = self._seal(gradient, Direction.GRADIENT, [coded.body, encoder.to_bytes()])
        parts = Parts(values.size, values.size, coded.value_bits, 0.0, coded.scale_bits)
        return Encoded(payload, support, parts)

    @classmethod
    def expand_body(cls, header: Header, reader: Reader, device: torch.device) -> Decoded:
        """Read the kept tokens in order, the merged one last: (samples, kept + 1, hidden)."""
        body = ValuesBody.read(reader)
        decoder = Decoder(reader)
        values = dequantise(body.pop(decoder, None, header.elements))
        decoder.end()
        tensor = to_tensor(values, header.dtype, header.shape)
        return Decoded(tensor.to(device), Support(header.shape))

    @classmethod
    def expand_gradient_body(
        cls, header: Header, reader: Reader, support: Support, device: torch.device
    ) -> torch.Tensor:
        """Return the gradient of all tokens, (samples, tokens, hidden)."""
        if header.shape != support.shape:
            raise CodecError(f"gradient of {header.shape} for a tensor of {support.shape}")
        tensor = cls.expand_body(header, reader, torch.device("cpu")).tensor
        if support.merge is None:
            raise CodecError("only the sender of the tokens can spread their gradient")
        sent = to_array(tensor)
        kept, weights = support.merge.kept, support.merge.weights
        full = weights[:, :, None] * sent[:, -1:]
        np.put_along_axis(full, kept[:, :, None], sent[:, :-1], axis=1)
        return torch.from_numpy(full).to(device, header.dtype)
