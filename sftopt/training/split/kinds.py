"""Kinds of models that cannot be split, told by their configuration before anything is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel

from sftopt.core.errors import InputError
from sftopt.core.plan import Order
from sftopt.training.split.config import SplitConfig
from sftopt.training.split.forward_keys import ROUTER_LOSS

_AUDIO_INPUTS = frozenset({"input_features", "input_values", "audio_values", "input_audio"})
"""Main inputs of models of sound."""
_LAYER_TYPE_KEYS = ("layer_types", "layers_block_type", "block_types", "hybrid_override_pattern")
"""Where configurations name the kind of each block."""
_TOWERS = frozenset({"vision", "audio"})
"""Parts of a configuration that are a stack beside the main one, wherever they stand."""
_MAIN_INPUTS = ("input_ids", "pixel_values")
"""What a model's data may be: tokens or images."""


def refuse_kind(model: PreTrainedModel) -> None:
    """Raise InputError where ``model`` is of a kind that has no single stack of equal blocks."""
    for test, reason in _REFUSED:
        found = test(model)
        if found:
            kind = model.config.model_type or type(model).__name__
            raise InputError(f"model type '{kind}' {reason.format(found)}")


def refuse_router_loss(model: PreTrainedModel, config: SplitConfig) -> None:
    """Raise InputError where a loss of the routers of experts would lie on both sides of a cut."""
    cut = config.order is not Order.FEDERATED and any(config.cut_layers.values())
    if cut and getattr(model.config.get_text_config(), "output_router_logits", False):
        raise InputError(ROUTER_LOSS.format(model_type=model.config.model_type))


def _is_encoder_decoder(model: PreTrainedModel) -> Any:
    return model.config.is_encoder_decoder


def _audio_input(model: PreTrainedModel) -> Any:
    name = model.main_input_name
    return name if name in _AUDIO_INPUTS else None


def _video(model: PreTrainedModel) -> Any:
    if model.main_input_name not in _MAIN_INPUTS:
        return model.main_input_name == "pixel_values_videos"
    return any(
        getattr(model.config, name, None) is not None
        for name in ("num_frames", "tubelet_size", "frames_per_clip")
    )


def _towers(model: PreTrainedModel) -> Any:
    names = sorted(name.removesuffix("_config") for name in model.config.sub_configs)
    several = len(names) > 1 or any(name in _TOWERS for name in names)
    return ", ".join(names) if several else None


def _other_input(model: PreTrainedModel) -> Any:
    name = model.main_input_name
    return None if name in _MAIN_INPUTS else name


def _stages(model: PreTrainedModel) -> Any:
    depths = getattr(model.config, "depths", None)
    return len(depths) if isinstance(depths, (list, tuple)) else None


def _shared(model: PreTrainedModel) -> Any:
    return getattr(model.config, "num_hidden_groups", None)


def _mixture(model: PreTrainedModel) -> Any:
    """The kinds of blocks that are no attention, beside those that are."""
    for name in _LAYER_TYPE_KEYS:
        kinds = getattr(model.config, name, None)
        if isinstance(kinds, (list, tuple, str)):
            odd = sorted({kind for kind in kinds if not _is_attention(kind)})
            if odd and name != "hybrid_override_pattern":
                return ", ".join(map(str, odd))
            if odd and len(set(kinds)) > 1:
                return ", ".join(map(str, sorted(set(kinds))))
    return None


def _is_attention(kind: Any) -> bool:
    text = str(kind)
    return text.endswith("attention") and text != "linear_attention"


def _choices(model: PreTrainedModel) -> Any:
    return type(model).__name__.endswith("ForMultipleChoice")


_REFUSED: tuple[tuple[Callable[[PreTrainedModel], Any], str], ...] = (
    (_is_encoder_decoder, "is an encoder-decoder; only one stack can be split."),
    (_audio_input, "is a model of sound (its input is '{0}'); models of text and of images can be "
     "split."),
    (_video, "is a model of video; models of text and of single images can be split."),
    (_towers, "has several towers ({0}), as CLIP has; only one stack can be split. Load the text "
     "or the vision model alone."),
    (_other_input, "takes '{0}'; models whose input is one text (input_ids) or one image "
     "(pixel_values) can be split."),
    (_stages, "is hierarchical: {0} stages of different shapes, not one stack of equal blocks."),
    (_shared, "shares its blocks' weights ({0} groups of parameters for all blocks), so that no "
     "block can belong to one side of a cut."),
    (_mixture, "is a hybrid stack (blocks of kind {0} among or instead of attention); the blocks "
     "of a split have to be equal in size and work."),
    (_choices, "with a head for multiple choice runs several texts for one label, which the "
     "messages of a split do not carry; use a classification head."),
)  # fmt: skip
"""A test that gives what it found, or nothing, and the reason it makes."""
