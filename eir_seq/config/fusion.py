"""How the features of several inputs become one vector, as typed data."""

from __future__ import annotations

from typing import Annotated, Literal, Union

from pydantic import Field

from eir_seq.config.strict import Positive, Strict


class ConcatFusionConfig(Strict):
    """The features of all inputs side by side."""

    type: Literal["concat"] = "concat"


class MlpResidualFusionConfig(Strict):
    """Residual feed-forward blocks on the concatenated features (EIR's default)."""

    type: Literal["mlp-residual"] = "mlp-residual"
    num_layers: Positive = Field(2, description="residual blocks")
    hidden_size: Positive = Field(256, description="width of the fused features")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in each block")
    stochastic_depth: float = Field(0.1, ge=0, lt=1, description="probability of leaving a block out in training")


class AttentionFusionConfig(Strict):
    """A small transformer over one token per input."""

    type: Literal["attention"] = "attention"
    num_layers: Positive = Field(2, description="transformer layers")
    hidden_size: Positive = Field(256, description="width of the tokens")
    num_heads: Positive = Field(8, description="attention heads; they divide hidden_size")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in each layer")


class GatedExpertsFusionConfig(Strict):
    """Experts shared by all outputs, mixed by one gate per output (MMoE)."""

    type: Literal["gated-experts"] = "gated-experts"
    num_experts: Positive = Field(8, description="experts that all outputs share")
    hidden_size: Positive = Field(64, description="width of each expert")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in each expert")


FusionConfig = Annotated[
    Union[  # noqa: UP007
        ConcatFusionConfig, MlpResidualFusionConfig, AttentionFusionConfig, GatedExpertsFusionConfig
    ],
    Field(discriminator="type"),
]
