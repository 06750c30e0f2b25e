"""Which tokens matter: the attention of the CLS token in a device's last block, for token codecs.

Read off the query and key projections as the block's forward uses them, adapters included, so that
no attention kernel has to give its probabilities away. Of vision transformers: they have a CLS
token, and no token that is only there to fill up.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from sftopt.core.errors import InputError
from sftopt.training.codec import Codec
from sftopt.training.split.boundary import BoundaryCodec, DecodedTensor, EncodedTensor
from sftopt.training.split.stack import BlockStack

_QUERY = ("query", "q_proj")
"""Names of query projections in encoders."""
_KEY = ("key", "k_proj")
"""Names of key projections in encoders."""
_BY_LIKENESS = ("bert",)
"""Text encoders whose first token is read; their samples have padding, which attention skips."""


class ScoredCodec:
    """A codec that chooses tokens, told by the block before the cut which ones matter."""

    def __init__(self, inner: BoundaryCodec, block: nn.Module, heads: int) -> None:
        self.inner = inner
        self._heads = heads
        self._seen: dict[str, torch.Tensor] = {}
        for kind, names in (("query", _QUERY), ("key", _KEY)):
            found = [m for name, m in block.named_modules() if name.rpartition(".")[2] in names]
            if len(found) != 1:
                raise InputError(
                    f"tokens cannot be chosen: the block before the cut has {len(found)} {kind} "
                    f"projections of the names {' or '.join(names)}; one is needed"
                )
            found[0].register_forward_hook(
                lambda _, __, output, kind=kind: self._seen.__setitem__(kind, output.detach())
            )

    def compress(self, tensor: torch.Tensor, *, seed: int) -> EncodedTensor:
        """Encode the activation that the block's last forward pass has led to."""
        assert isinstance(self.inner, Codec)
        return self.inner.compress(tensor, seed=seed, scores=self._scores())

    def expand(self, payload: bytes) -> DecodedTensor:
        """Decode the tokens that were sent."""
        return self.inner.expand(payload)

    def compress_gradient(
        self, gradient: torch.Tensor, support: object, *, seed: int
    ) -> EncodedTensor:
        """Encode the gradient of the tokens that were sent."""
        return self.inner.compress_gradient(gradient, support, seed=seed)

    def decode_gradient(self, payload: bytes, support: object) -> torch.Tensor:
        """Decode the gradient of all tokens."""
        return self.inner.decode_gradient(payload, support)

    def _scores(self) -> torch.Tensor:
        """(samples, tokens): what CLS attends to, the mean over the heads."""
        query, key = self._seen["query"].float(), self._seen["key"].float()
        samples, tokens, width = key.shape
        key = key.reshape(samples, tokens, self._heads, -1)
        first = query[:, 0].reshape(samples, self._heads, -1)
        weights = torch.einsum("bhd,bshd->bhs", first, key) / (width / self._heads) ** 0.5
        scores: torch.Tensor = weights.softmax(dim=-1).mean(dim=1)
        return scores


def scored(
    codec: BoundaryCodec, model: PreTrainedModel, stack: BlockStack, device_id: str, cut: int
) -> BoundaryCodec:
    """Return the codec as a device with ``cut`` blocks uses it: told of scores where it needs them.

    Raises InputError for a model, or a cut, that has none.
    """
    if not (isinstance(codec, Codec) and codec.needs_scores):
        return codec
    if model.config.model_type in _BY_LIKENESS and cut > 0:
        return codec  # by the tokens' likeness to the first, padding left out: see `known`
    if model.main_input_name != "pixel_values" or cut < 1:
        why = "it holds no block" if cut < 1 else f"{type(model).__name__} is no vision transformer"
        raise InputError(
            f"device {device_id}: tokens are chosen by the attention of a CLS token in its last "
            f"block, and {why}. Take another mode or scheme for it."
        )
    block = stack.blocks(model)[cut - 1]
    return ScoredCodec(codec, block, int(model.config.num_attention_heads))
