"""Projections: states of a source to the positions and features of a target."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from eir_seq.broker.shapes import Shape
from eir_seq.config.messages import (
    CnnProjectionConfig,
    GroupedLinearProjectionConfig,
    IdentityProjectionConfig,
    LclMlpResidualProjectionConfig,
    LclOptions,
    LclProjectionConfig,
    LclResidualProjectionConfig,
    LinearProjectionConfig,
    MessageFusionBase,
    MlpResidualProjectionConfig,
    PointwiseProjectionConfig,
    ProjectionBase,
    SequenceProjectionConfig,
)
from eir_seq.modalities.encoders.layers.locally_connected import LocallyConnected, LocallyConnectedBlock
from eir_seq.modalities.encoders.layers.residual_mlp import ResidualMlp

WIDEST_LINEAR = 1 << 20
"""Weights of a linear layer that `auto` makes, at most."""
UNITS = 64
"""Of a locally connected layer whose width is not configured, at most."""


class Projection(nn.Module):
    """States (batch, positions, size) of a source to those of a target.

    Where the number of positions of the source varies, the mean over them is projected; where that of the target
    varies, the same message goes to all of them. So what is given has the positions of the target, or one.

    Args:
        config: of the projection.
        source: what is read.
        target: what is given.

    Raises:
        ValueError: the shapes do not go together, and why.
    """

    def __init__(self, config: Any, source: Shape, target: Shape) -> None:
        super().__init__()
        del config
        self.source, self.target = source, target
        self.varies = source.positions is None
        self.positions = target.positions or 1

    def forward(self, states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The message (batch, positions, size), and its mask where it has several positions that vary."""
        return self.project(mean_states(states, mask) if self.varies else states), None

    def project(self, states: Tensor) -> Tensor:
        """(batch, positions of the source or 1, size) to (batch, positions of the target or 1, size)."""
        raise NotImplementedError

    def shaped(self, values: Tensor) -> Tensor:
        """(batch, values) to the states of the target, of values that are too many only the first."""
        return values[:, : self.target.values].reshape(len(values), self.positions, self.target.size)


class Identity(Projection):
    """Nothing."""

    def __init__(self, config: Any, source: Shape, target: Shape) -> None:
        super().__init__(config, source, target)
        if source != target:
            raise ValueError(f"'identity' needs equal shapes, which are {source} and {target}")

    def forward(self, states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The states as they are."""
        return states, mask


class LinearProjection(Projection):
    """A linear layer from all values to all values."""

    def __init__(self, config: Any, source: Shape, target: Shape) -> None:
        super().__init__(config, source, target)
        self.linear = nn.Linear(source.values, target.values)

    def project(self, states: Tensor) -> Tensor:
        """See `Projection`."""
        return self.shaped(self.linear(states.flatten(1)))


class Pointwise(Projection):
    """A linear layer at each position."""

    def __init__(self, config: Any, source: Shape, target: Shape) -> None:
        super().__init__(config, source, target)
        if source.positions != target.positions:
            raise ValueError(f"'pointwise' needs equal positions; the shapes are {source} and {target}")
        self.linear = nn.Linear(source.size, target.size)

    def forward(self, states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The states, each projected."""
        return self.linear(states), mask


class GroupedLinear(Projection):
    """Groups of neighbouring values, each with its linear layer."""

    def __init__(self, config: GroupedLinearProjectionConfig, source: Shape, target: Shape) -> None:
        super().__init__(config, source, target)
        groups = min(config.num_groups, source.values, target.values)
        self.groups = _locally_connected(source.values, target.values, math.ceil(source.values / groups))

    def project(self, states: Tensor) -> Tensor:
        """See `Projection`."""
        return self.shaped(self.groups(states.reshape(len(states), -1, 1)).flatten(1))


class MlpResidual(Projection):
    """Residual feed-forward blocks and a linear layer."""

    def __init__(self, config: MlpResidualProjectionConfig, source: Shape, target: Shape) -> None:
        super().__init__(config, source, target)
        self.mlp = _mlp(config, source.values)
        self.linear = nn.Linear(config.hidden_size, target.values)

    def project(self, states: Tensor) -> Tensor:
        """See `Projection`."""
        return self.shaped(self.linear(self.mlp(states.flatten(1))))


class Lcl(Projection):
    """A locally connected layer on all values."""

    def __init__(self, config: LclProjectionConfig, source: Shape, target: Shape) -> None:
        super().__init__(config, source, target)
        width = _width(config, source.values, target.values)
        self.layer = _locally_connected(source.values, target.values, width)

    def project(self, states: Tensor) -> Tensor:
        """See `Projection`."""
        return self.shaped(self.layer(states.reshape(len(states), -1, 1)).flatten(1))


class LclResidual(Projection):
    """A residual block of locally connected layers on all values."""

    def __init__(self, config: LclResidualProjectionConfig, source: Shape, target: Shape) -> None:
        super().__init__(config, source, target)
        width = _width(config, source.values, target.values)
        channels = math.ceil(target.values / math.ceil(source.values / width))
        self.block = LocallyConnectedBlock(source.values, width, (1, channels), config.dropout, 0.0)

    def project(self, states: Tensor) -> Tensor:
        """See `Projection`."""
        return self.shaped(self.block(states.reshape(len(states), -1, 1)).flatten(1))


class LclMlpResidual(Projection):
    """A locally connected layer, residual feed-forward blocks, and a linear layer."""

    def __init__(self, config: LclMlpResidualProjectionConfig, source: Shape, target: Shape) -> None:
        super().__init__(config, source, target)
        width = _width(config, source.values, config.hidden_size)
        self.layer = _locally_connected(source.values, config.hidden_size, width)
        self.mlp = _mlp(config, self.layer.positions * self.layer.weight.shape[2])
        self.linear = nn.Linear(config.hidden_size, target.values)

    def project(self, states: Tensor) -> Tensor:
        """See `Projection`."""
        read = self.layer(states.reshape(len(states), -1, 1)).flatten(1)
        return self.shaped(self.linear(self.mlp(read)))


class Pool(Projection):
    """Adaptive average pooling of positions, and a linear layer at each."""

    def __init__(self, config: Any, source: Shape, target: Shape) -> None:
        super().__init__(config, source, target)
        self.linear = nn.Linear(source.size, target.size)

    def project(self, states: Tensor) -> Tensor:
        """See `Projection`."""
        projected: Tensor = self.linear(states)
        return _resized(projected, self.source, self.target, pool=True)


class Interpolate(Pool):
    """Linear interpolation of positions, and a linear layer at each."""

    def project(self, states: Tensor) -> Tensor:
        """See `Projection`."""
        projected: Tensor = self.linear(states)
        return _resized(projected, self.source, self.target, pool=False)


class Cnn(Projection):
    """A convolution, then pooling to fewer positions or interpolation to more."""

    def __init__(self, config: CnnProjectionConfig, source: Shape, target: Shape) -> None:
        super().__init__(config, source, target)
        self.is_picture = len(source.grid) == 2
        kind = nn.Conv2d if self.is_picture else nn.Conv1d
        self.convolve = kind(source.size, target.size, config.kernel_width, padding="same")
        self.pools = self.positions <= (source.positions or 1)

    def forward(self, states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The message; what stands at padding is zero, as what is beyond the ends."""
        x = states.transpose(1, 2)
        if self.is_picture:
            x = x.reshape(*x.shape[:2], *self.source.grid)
        convolved = self.convolve(x).flatten(2).transpose(1, 2)
        if self.varies:
            convolved = mean_states(convolved, mask)
        return _resized(convolved, self.source, self.target, pool=self.pools), None


class SequenceProjection(Projection):
    """A linear layer at each position, which becomes `num_tokens` states."""

    def __init__(self, config: SequenceProjectionConfig, source: Shape, target: Shape) -> None:
        super().__init__(config, source, target)
        self.num_tokens = config.num_tokens
        self.linear = nn.Linear(source.size, config.num_tokens * target.size)

    def forward(self, states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The message (batch, positions of the source x num_tokens, size), and its mask."""
        projected = self.linear(states).reshape(len(states), -1, self.target.size)
        return projected, None if mask is None else mask.repeat_interleave(self.num_tokens, dim=1)


def chosen(
    config: ProjectionBase, fusion: MessageFusionBase, source: Shape, target: Shape, *, one_text: bool
) -> ProjectionBase:
    """The projection that `auto` stands for; any other is itself.

    Args:
        config: the projection.
        fusion: of the message.
        source: where it comes from.
        target: where it goes to.
        one_text: whether both have the positions of one text, whose number varies.
    """
    if config.type != "auto":
        return config
    if fusion.ATTENDS:
        return SequenceProjectionConfig()
    if source == target and (source.positions is not None or one_text):
        return IdentityProjectionConfig()
    if source.positions is None and target.positions is None and one_text:
        return PointwiseProjectionConfig()
    small = source.values * target.values <= WIDEST_LINEAR
    return LinearProjectionConfig() if small else LclProjectionConfig()


def mean_states(states: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over positions where `mask` (batch, positions) is True, (batch, 1, size).

    Example:
        >>> import torch
        >>> mean_states(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])).tolist()
        [[[2.0]]]
    """
    if mask is None:
        return states.mean(dim=1, keepdim=True)
    real = states.masked_fill(~mask[..., None], 0.0)
    return real.sum(dim=1, keepdim=True) / mask.sum(dim=1).clamp(min=1)[:, None, None].to(states.dtype)


def _mlp(config: MlpResidualProjectionConfig | LclMlpResidualProjectionConfig, values: int) -> ResidualMlp:
    options = {"hidden_size": config.hidden_size, "num_layers": config.num_layers, "dropout": config.dropout}
    return ResidualMlp(values, **options)  # type: ignore[arg-type]  # a mapping of several types


def _width(config: LclOptions, read: int, given: int) -> int:
    """Values that a unit reads, of so many that are read and given."""
    width = config.kernel_width or math.ceil(read / min(UNITS, given))
    multiple = config.kernel_width_divisible_by
    return math.ceil(width / multiple) * multiple


def _locally_connected(read: int, given: int, width: int) -> LocallyConnected:
    """From so many values to at least as many as are to be given."""
    width = min(width, read)
    return LocallyConnected(read, width, (1, math.ceil(given / math.ceil(read / width))))


def _resized(states: Tensor, source: Shape, target: Shape, *, pool: bool) -> Tensor:
    """States (batch, positions, size) with the positions of the target, or one where that varies."""
    x = states.transpose(1, 2)
    if len(source.grid) == len(target.grid) == 2:
        picture = x.reshape(*x.shape[:2], *source.grid)
        if pool:
            picture = F.adaptive_avg_pool2d(picture, target.grid)
        else:
            picture = F.interpolate(picture, size=target.grid, mode="bilinear")
        return picture.flatten(2).transpose(1, 2)
    wanted = target.positions or 1
    x = F.adaptive_avg_pool1d(x, wanted) if pool else F.interpolate(x, size=wanted, mode="linear")
    return x.transpose(1, 2)
