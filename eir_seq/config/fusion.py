"""How the features of several inputs become one vector, as typed data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from eir_seq.config.strict import Positive, Strict


class FusionBase(Strict):
    """What every fusion has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:Class`` of the `eir_seq.fusion.Fusion`, called as ``(config, sizes, outputs)``."""

    if TYPE_CHECKING:
        type: str


class ConcatFusionConfig(FusionBase):
    """The features of all inputs side by side."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.layers:ConcatFusion"

    type: Literal["concat"] = "concat"


class MlpResidualFusionConfig(FusionBase):
    """Residual feed-forward blocks on the concatenated features (EIR's default)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.layers:MlpResidualFusion"

    type: Literal["mlp-residual"] = "mlp-residual"
    num_layers: Positive = Field(2, description="residual blocks")
    hidden_size: Positive = Field(256, description="width of the fused features")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in each block")
    stochastic_depth: float = Field(0.1, ge=0, lt=1, description="probability of leaving a block out in training")


class AttentionFusionConfig(FusionBase):
    """A small transformer over one token per input."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.layers:AttentionFusion"

    type: Literal["attention"] = "attention"
    num_layers: Positive = Field(2, description="transformer layers")
    hidden_size: Positive = Field(256, description="width of the tokens")
    num_heads: Positive = Field(8, description="attention heads; they divide hidden_size")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in each layer")


class GatedExpertsFusionConfig(FusionBase):
    """Experts shared by all outputs, mixed by one gate per output (MMoE)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.layers:GatedExpertsFusion"

    type: Literal["gated-experts"] = "gated-experts"
    num_experts: Positive = Field(8, description="experts that all outputs share")
    hidden_size: Positive = Field(64, description="width of each expert")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in each expert")
