"""Boundary compression to real bytes and back; equations (1) and (2)."""

from __future__ import annotations

from sftopt.training.codec.autograd import through_boundary
from sftopt.training.codec.base import (
    Codec,
    CodecConfig,
    Decoded,
    Encoded,
    Parts,
    Support,
    codec_from,
    decode,
)
from sftopt.training.codec.basis_file import BASES_NAME, Bases, load_bases
from sftopt.training.codec.codebook import Codebook, CodebookConfig
from sftopt.training.codec.container import Direction
from sftopt.training.codec.ecsq import Ecsq, EcsqConfig
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.low_rank import LowRank, LowRankConfig
from sftopt.training.codec.modes import config_of_mode
from sftopt.training.codec.plain import NoneCodec, NoneConfig
from sftopt.training.codec.quantiser import Rate
from sftopt.training.codec.rest import Known, Rest, RestConfig
from sftopt.training.codec.rotated import (
    Rotated,
    RotatedConfig,
    RotatedTopK,
    RotatedTopKConfig,
)
from sftopt.training.codec.singular import Singular, SingularConfig
from sftopt.training.codec.sparse import (
    Quantise,
    QuantiseConfig,
    RandTopK,
    RandTopKConfig,
    TopK,
    TopKConfig,
)
from sftopt.training.codec.statistics import (
    PayloadStatistics,
    calibrated_mode,
    compression_ratio,
    measure,
    statistics_of,
)
from sftopt.training.codec.tokens import TokensConfig, TokenSelection

__all__ = [
    "BASES_NAME",
    "Bases",
    "Codebook",
    "CodebookConfig",
    "Codec",
    "CodecConfig",
    "CodecError",
    "Decoded",
    "Direction",
    "Ecsq",
    "EcsqConfig",
    "Encoded",
    "Known",
    "LowRank",
    "LowRankConfig",
    "NoneCodec",
    "NoneConfig",
    "Parts",
    "PayloadStatistics",
    "Quantise",
    "QuantiseConfig",
    "RandTopK",
    "RandTopKConfig",
    "Rate",
    "Rest",
    "RestConfig",
    "Rotated",
    "RotatedConfig",
    "RotatedTopK",
    "RotatedTopKConfig",
    "Singular",
    "SingularConfig",
    "Support",
    "TokenSelection",
    "TokensConfig",
    "TopK",
    "TopKConfig",
    "calibrated_mode",
    "codec_from",
    "compression_ratio",
    "config_of_mode",
    "decode",
    "load_bases",
    "measure",
    "statistics_of",
    "through_boundary",
]
