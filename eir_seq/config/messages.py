"""What messages between layers are made of: projections to the shape of their target, and fusions with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from eir_seq.config.strict import Positive, Strict

Probability = Annotated[float, Field(ge=0, lt=1)]


class ProjectionBase(Strict):
    """What every projection has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:Class`` of the `eir_seq.broker.projections.Projection`, called as ``(config, source, target)`` with the
    `eir_seq.broker.shapes.Shape` of both."""
    KEEPS_POSITIONS: ClassVar[bool] = False
    """Whether the message has the positions of its source, to which a target attends."""

    if TYPE_CHECKING:
        type: str


class AutoProjectionConfig(ProjectionBase):
    """`identity` for equal shapes, `sequence` for cross-attention, `pointwise` between layers of one text, else
    `linear`, or `lcl` where that would have more than a million weights."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:LinearProjection"

    type: Literal["auto"] = "auto"


class IdentityProjectionConfig(ProjectionBase):
    """The tensor as it is; both shapes are the same."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:Identity"

    type: Literal["identity"] = "identity"


class LinearProjectionConfig(ProjectionBase):
    """One linear layer from all values to all values."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:LinearProjection"

    type: Literal["linear"] = "linear"


class PointwiseProjectionConfig(ProjectionBase):
    """The same linear layer at each position; both places have the same positions."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:Pointwise"

    type: Literal["pointwise"] = "pointwise"


class GroupedLinearProjectionConfig(ProjectionBase):
    """Values in groups of neighbours, each with a linear layer of its own."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:GroupedLinear"

    type: Literal["grouped-linear"] = "grouped-linear"
    num_groups: Positive = Field(8, description="groups, as far as there are values")


class MlpResidualProjectionConfig(ProjectionBase):
    """Residual feed-forward blocks on all values, and a linear layer."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:MlpResidual"

    type: Literal["mlp-residual"] = "mlp-residual"
    hidden_size: Positive = Field(128, description="width of the blocks")
    num_layers: Positive = Field(1, description="blocks")
    dropout: Probability = Field(0.0, description="dropout in each block")


class LclOptions(ProjectionBase):
    """What every locally connected projection has."""

    kernel_width: Positive | None = Field(
        None, description="values that a unit reads; by default those of about 64 units"
    )
    kernel_width_divisible_by: Positive = Field(
        1, description="the width is raised to a multiple, so that no unit cuts what belongs together"
    )


class LclProjectionConfig(LclOptions):
    """A locally connected layer: units read neighbouring values, each with weights of its own."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:Lcl"

    type: Literal["lcl"] = "lcl"


class LclResidualProjectionConfig(LclOptions):
    """A residual block of locally connected layers."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:LclResidual"

    type: Literal["lcl-residual"] = "lcl-residual"
    dropout: Probability = Field(0.0, description="dropout in the block")


class LclMlpResidualProjectionConfig(LclOptions):
    """A locally connected layer, then `mlp-residual`."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:LclMlpResidual"

    type: Literal["lcl+mlp-residual"] = "lcl+mlp-residual"
    hidden_size: Positive = Field(128, description="width of the feed-forward blocks")
    num_layers: Positive = Field(1, description="feed-forward blocks")
    dropout: Probability = Field(0.0, description="dropout in each of them")


class PoolProjectionConfig(ProjectionBase):
    """Means over neighbouring positions (adaptive average pooling), and a linear layer at each."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:Pool"

    type: Literal["pool"] = "pool"


class InterpolateProjectionConfig(ProjectionBase):
    """Positions by linear interpolation (bilinear between pictures), and a linear layer at each."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:Interpolate"

    type: Literal["interpolate"] = "interpolate"


class CnnProjectionConfig(ProjectionBase):
    """A convolution along the positions (both axes of pictures), then pooling or interpolation to their number."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:Cnn"

    type: Literal["cnn"] = "cnn"
    kernel_width: Positive = Field(3, description="positions that a unit reads, along each axis")


class SequenceProjectionConfig(ProjectionBase):
    """Positions as they are, with a linear layer at each, for cross-attention."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.projections:SequenceProjection"
    KEEPS_POSITIONS: ClassVar[bool] = True

    type: Literal["sequence"] = "sequence"
    num_tokens: Positive = Field(1, description="states that each position becomes, such as those of a single vector")


# ------------------------------------------------------------------------------------------------------- fusions


class MessageFusionBase(Strict):
    """What every fusion of a message has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:Class`` of the `eir_seq.broker.fusions.MessageFusion`, called as ``(config, size)`` with the width of
    the states of the target."""
    ATTENDS: ClassVar[bool] = False
    """Whether it reads messages that keep the positions of their source."""

    if TYPE_CHECKING:
        type: str


class AdditiveConfig(MessageFusionBase):
    """The sum of the tensor and the message."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.fusions:Additive"

    type: Literal["additive"] = "additive"


class GatedSumConfig(MessageFusionBase):
    """The sum, with a learned gate on each feature of the message.

    A gate is a hyperbolic tangent and begins at zero (Alayrac et al. 2022, arXiv:2204.14198): the network begins as it
    is without the message.
    """

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.fusions:GatedSum"

    type: Literal["gated-sum"] = "gated-sum"


class ConcatConfig(MessageFusionBase):
    """A linear layer (a convolution of width one) on both, side by side; it begins as the sum."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.fusions:Concat"

    type: Literal["concat"] = "concat"


class MessageCrossAttentionConfig(MessageFusionBase):
    """Each position attends to all positions of the message, as a residual branch that begins at zero."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.broker.fusions:CrossAttention"
    ATTENDS: ClassVar[bool] = True

    type: Literal["cross-attention"] = "cross-attention"
    num_heads: Positive | None = Field(
        None, description="attention heads; by default the most up to 8 that divide the width"
    )
    dropout: Probability = Field(0.0, description="dropout of the attention weights")
