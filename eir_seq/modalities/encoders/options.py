"""Options of encoders that several kinds of inputs have. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from eir_seq.config.strict import Positive, Strict

Probability = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(gt=0)]
Sides = Annotated[list[Positive], Field(min_length=1, max_length=3)]


class GridIdentityOptions(Strict):
    """None."""


class PenaltyOptions(Strict):
    """What encoders have that can be held sparse."""

    l1: float = Field(
        0.0, ge=0, description="added to the loss: this times the sum of the absolute weights of the first layer"
    )


class GridLinearOptions(PenaltyOptions):
    """Options of a linear layer."""

    output_size: Positive = Field(32, description="size of the vector")


class BlockOptions(PenaltyOptions):
    """What networks of residual blocks have."""

    channel_exp_base: int = Field(2, ge=0, le=12, description="two to this power channels")
    first_channel_expansion: Positive = Field(1, description="factor on the channels of the first layer")
    dropout: Probability = Field(0.0, description="dropout in the residual blocks")
    stochastic_depth: Probability = Field(
        0.0, description="probability that a row skips the last block in training; smaller in earlier ones"
    )
    output_size: Positive | None = Field(
        None, description="size of the vector, by a linear layer; by default all features side by side"
    )


class CnnOptions(BlockOptions):
    """Options of a residual convolutional network."""

    layers: list[Positive] | None = Field(
        None, description="residual blocks between reductions of the size; by default as many as cutoff asks for"
    )
    kernel_width: Positive = Field(12, description="width of the kernels; at most that of what they read")
    kernel_height: Positive = Field(4, description="height of the kernels; at most that of what they read")
    first_kernel_expansion_width: Factor = Field(1.0, description="factor on the first kernel's width")
    first_kernel_expansion_height: Factor = Field(1.0, description="factor on the first kernel's height")
    down_stride_width: Positive = Field(4, description="stride along the width where the size is reduced")
    down_stride_height: Positive = Field(1, description="stride along the height where the size is reduced")
    first_stride_expansion_width: Factor = Field(1.0, description="factor on the first stride along the width")
    first_stride_expansion_height: Factor = Field(1.0, description="factor on the first stride along the height")
    dilation_factor_width: Positive = Field(1, description="dilation of the kernels along the width")
    dilation_factor_height: Positive = Field(1, description="dilation of the kernels along the height")
    first_conv_reduces: bool = Field(True, description="whether the first layer reduces the size")
    down_sample_every_n_blocks: Positive = Field(
        2, description="blocks from one reduction of the size to the next, where layers does not say"
    )
    cutoff: Positive = Field(32, description="blocks are added until at most so many positions are left")
    attention_cutoff: int = Field(0, ge=0, description="self-attention follows blocks with at most so many positions")


class LclOptions(BlockOptions):
    """Options of locally connected residual blocks."""

    num_blocks: Positive | None = Field(None, description="residual blocks; by default as many as cutoff asks for")
    kernel_width: Positive = Field(16, description="features that a unit of a block reads")
    first_kernel_width: Positive | None = Field(
        None, description="positions that a unit of the first layer reads; by default kernel_width / 2 features"
    )
    num_chunks: Positive | None = Field(None, description="units of the first layer, in place of first_kernel_width")
    cutoff: Positive = Field(1024, description="blocks are added until at most so many features are left")
    dropout: Probability = Field(0.1, description="dropout in the residual blocks")


class PatchLclOptions(LclOptions):
    """The same over patches."""

    patch_size: Sides | None = Field(
        None, description="size along the last axes of the patches that the first layer reads, one unit for each"
    )


class PatchTransformerOptions(Strict):
    """Options of a transformer over patches."""

    patch_size: Sides = Field(description="size of a patch along the last axes; it takes the whole of others")
    embedding_dim: Positive = Field(64, description="width of the states")
    num_heads: Positive = Field(8, description="attention heads; they divide embedding_dim")
    num_layers: Positive = Field(2, description="layers")
    dim_feedforward: Positive | None = Field(None, description="width of the feed-forward blocks; 4 embedding_dim")
    dropout: Probability = Field(0.1, description="dropout in each layer")
    position: Literal["encode", "embed"] = Field(
        "encode", description="positions of patches: sines, or embeddings that are learned"
    )
    position_dropout: Probability = Field(0.1, description="dropout on patches with their positions")
    pool: Literal["avg", "max", "none"] = Field(
        "avg", description="how states become one vector: their mean, their maximum, or all side by side"
    )
