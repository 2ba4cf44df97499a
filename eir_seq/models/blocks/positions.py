"""Where a token stands: numbering of positions, tables of them, rotations by them, biases by distance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eir_seq.models.blocks.build import Configured
from eir_seq.models.blocks.rotary_scaling import RotaryScaling, plain_speeds

# --------------------------------------------------------------------------------------------------- numbering


@dataclass(frozen=True)
class CountAll:
    """Positions 0, 1, 2 ... whatever the tokens are, moved by `offset`."""

    offset: int = 0

    def __call__(
        self, shape: tuple[int, int], ids: Tensor | None, mask: Tensor | None, start: int, device: torch.device
    ) -> Tensor:
        """Position ids of shape (1, length)."""
        return torch.arange(start, start + shape[1], device=device)[None] + self.offset


@dataclass(frozen=True)
class CountReal:
    """Real tokens are counted from `padding_id` + 1; padding keeps `padding_id` itself (roberta).

    Tokens given as embeddings all count as real; which cached ones are, the mask says.
    """

    padding_id: int

    def __call__(
        self, shape: tuple[int, int], ids: Tensor | None, mask: Tensor | None, start: int, device: torch.device
    ) -> Tensor:
        """Position ids of shape (batch or 1, length)."""
        if ids is None:
            return torch.arange(start, start + shape[1], device=device)[None] + self.padding_id + 1
        real = (ids != self.padding_id).long()
        earlier = start if mask is None else mask[:, :start].bool().sum(1, keepdim=True)
        return (real.cumsum(1) + earlier) * real + self.padding_id


@dataclass(frozen=True)
class CountMasked:
    """Tokens that the attention mask leaves are counted from `offset`; what it masks has `offset` - 1 (opt)."""

    offset: int = 0

    def __call__(
        self, shape: tuple[int, int], ids: Tensor | None, mask: Tensor | None, start: int, device: torch.device
    ) -> Tensor:
        """Position ids of shape (batch or 1, length); the mask holds the cached tokens too."""
        if mask is None:
            return torch.arange(start, start + shape[1], device=device)[None] + self.offset
        real = mask.bool().long()
        return (real.cumsum(1) * real - 1 + self.offset)[:, start:]


Numbering = CountAll | CountReal | CountMasked

# ------------------------------------------------------------------------------------------------------ tables


class LearnedPositions(nn.Embedding):
    """A learned vector per position id."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`count`: rows of the table from position 0 on. `offset`: rows in front of them."""

        count: int
        numbering: Numbering = CountAll()
        offset: int = 0

        def build(self, size: int) -> LearnedPositions:
            """A table of vectors of width `size`."""
            return LearnedPositions(self.count, size, self.offset)

    def __init__(self, count: int, size: int, offset: int = 0) -> None:
        super().__init__(count + offset, size)
        self.offset = offset

    def forward(self, positions: Tensor) -> Tensor:
        """Position ids (...) -> (..., size)."""
        return super().forward(positions + self.offset if self.offset else positions)


class SinusoidalPositions(nn.Embedding):
    """Fixed sine and cosine waves, alternating over the channels (https://arxiv.org/abs/1706.03762, 3.5)."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`count`: rows of the table."""

        count: int
        numbering: Numbering = CountAll()

        def build(self, size: int) -> SinusoidalPositions:
            """A frozen table of vectors of width `size`."""
            return SinusoidalPositions(self.count, size)

    def __init__(self, count: int, size: int) -> None:
        super().__init__(count, size)
        self.weight.requires_grad_(False)

    @staticmethod
    def waves(positions: Tensor, size: int) -> Tensor:
        """(...,) positions -> (..., size): channel 2j holds sin(p / 10000^(2j/size)), channel 2j+1 the cosine."""
        channel = torch.arange(0, size, 2, dtype=torch.float64, device=positions.device)
        angles = positions[..., None] * 10000 ** (-channel / size)
        return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)[..., :size].float()


class SinesThenCosines(SinusoidalPositions):
    """The same waves, all sines in front of all cosines."""

    @dataclass(frozen=True, kw_only=True)
    class Config(SinusoidalPositions.Config):
        """The same options."""

        def build(self, size: int) -> SinesThenCosines:
            """A frozen table of vectors of width `size`."""
            return SinesThenCosines(self.count, size)

    @staticmethod
    def waves(positions: Tensor, size: int) -> Tensor:
        """(...,) positions -> (..., size): sines of the even channels' angles, then their cosines."""
        alternating = SinusoidalPositions.waves(positions, size)
        return torch.cat((alternating[..., 0::2], alternating[..., 1::2]), -1)


def closed_waves(positions: Tensor, size: int) -> Tensor:
    """(...,) positions -> (..., size): sines in front of cosines, whose slowest wave has exactly 1/10000 of the speed.

    All of it in float32, as published weights were trained; a last odd channel is zero.
    """
    half = size // 2
    speed = torch.exp(torch.arange(half, device=positions.device).float() * -(math.log(10000) / (half - 1)))
    angles = positions[..., None].float() * speed
    return nn.functional.pad(torch.cat((angles.sin(), angles.cos()), -1), (0, size % 2))


@dataclass(frozen=True, kw_only=True)
class WavePositions:
    """Waves computed for any length, without a table.

    `waves`: positions (...,) and a width -> (..., width). `offset`: the first position. `blank`: position whose vector
    is zero, that of padding.
    """

    numbering: Numbering = CountAll()
    waves: Callable[[Tensor, int], Tensor] = SinusoidalPositions.waves
    offset: int = 0
    blank: int | None = None

    def build(self, size: int) -> nn.Module:
        """A module without parameters."""
        return _Waves(self, size)


class _Waves(nn.Module):
    def __init__(self, config: WavePositions, size: int) -> None:
        super().__init__()
        self.config, self.size = config, size

    def forward(self, positions: Tensor) -> Tensor:
        positions = positions + self.config.offset
        waves = self.config.waves(positions, self.size)
        return waves if self.config.blank is None else waves * (positions != self.config.blank)[..., None]


PositionsConfig = LearnedPositions.Config | SinusoidalPositions.Config | WavePositions

# ------------------------------------------------------------------------------------------------------ rotary


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """Queries and keys turned by their position, halves of the head paired (https://arxiv.org/abs/2104.09864).

    `fraction`: share of a head's channels that are turned, its first ones; or their number, as `channels`.
    `scaling`: slows them down in longer texts.
    """

    base: float = 10000.0
    fraction: float = 1.0
    channels: int | None = None
    scaling: RotaryScaling | None = None

    def tables(self, positions: Tensor, head_size: int, longest: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, each (..., 1, turned channels), for position ids (...,).

        `longest`: a scalar, tokens of the longest text of this pass.
        """
        turned = self.channels or int(head_size * self.fraction)
        if self.scaling is None:
            speed, gain = plain_speeds(self.base, turned, positions.device), 1.0
        else:
            speed, gain = self.scaling.speeds(self.base, turned, longest), self.scaling.gain
        angles = self.paired((positions[..., None].float() * speed)[..., None, :])
        return angles.cos() * gain, angles.sin() * gain

    @staticmethod
    def paired(angles: Tensor) -> Tensor:
        """(..., pairs) angles -> (..., channels)."""
        return torch.cat((angles, angles), -1)

    @staticmethod
    def turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """(..., heads, head_size) -> the same, its first channels turned."""
        turned = cosines.shape[-1]
        first, second = x[..., : turned // 2], x[..., turned // 2 : turned]
        rotated = x[..., :turned] * cosines + torch.cat((-second, first), -1) * sines
        return torch.cat((rotated, x[..., turned:]), -1).to(x.dtype)


class NeighbourRotary(Rotary):
    """The same with neighbouring channels paired."""

    @staticmethod
    def paired(angles: Tensor) -> Tensor:
        """(..., pairs) angles -> (..., channels)."""
        return angles.repeat_interleave(2, -1)

    @staticmethod
    def turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """(..., heads, head_size) -> the same, its first channels turned."""
        turned = cosines.shape[-1]
        front = x[..., :turned]
        crossed = torch.stack((-front[..., 1::2], front[..., 0::2]), -1).flatten(-2)
        return torch.cat((front * cosines + crossed * sines, x[..., turned:]), -1).to(x.dtype)


# ---------------------------------------------------------------------------------------------- score biases


def distances(queries: int, keys: int, device: torch.device) -> Tensor:
    """(queries, keys) key position minus query position; the queries are the last of the keys."""
    return torch.arange(keys, device=device)[None] - torch.arange(keys - queries, keys, device=device)[:, None]


def by_distance(scores: Tensor) -> Tensor:
    """Scores of queries against distances -> against keys, as a view.

    Args:
        scores: (..., queries, keys + queries - 1); column c is for the distance (key minus query) c - (keys - 1),
            where the queries are the last of the keys.

    Returns:
        (..., queries, keys).
    """
    queries, columns = scores.shape[-2:]
    keys = columns - queries + 1
    if queries < 2:
        return scores[..., :keys]
    flat = scores.flatten(-2)[..., queries - 1 : queries - 1 + queries * (columns - 1)]
    return flat.unflatten(-1, (queries, columns - 1))[..., :keys]


def distance_buckets(distance: Tensor, count: int, max_distance: int) -> Tensor:
    """Distances from 0 on -> classes 0 .. `count` - 1, of the same shape; see `RelativeBuckets`."""
    exact = count // 2
    growth = math.log(max_distance / exact)
    far = exact + (torch.log(distance.float() / exact) / growth * (count - exact)).long()
    return torch.where(distance < exact, distance, far.clamp(max=count - 1))


class RelativeBuckets(Configured):
    """A learned bias per head and bucket of distance (T5, https://arxiv.org/abs/1910.10683, 2.1).

    Half of the buckets are exact distances, the other half grow logarithmically up to `max_distance`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`bidirectional`: half of the buckets are for keys behind the query."""

        num_buckets: int
        max_distance: int
        num_heads: int
        bidirectional: bool

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.num_buckets, config.num_heads)

    def bucket(self, distance: Tensor) -> Tensor:
        """Buckets of distances (key minus query), of the same shape."""
        count, base = self.config.num_buckets, torch.zeros_like(distance)
        if self.config.bidirectional:
            count //= 2
            base = (distance > 0).long() * count
            distance = distance.abs()
        else:
            distance = (-distance).clamp(min=0)
        return base + distance_buckets(distance, count, self.config.max_distance)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Queries and keys (batch, heads, length, head_size) -> (1, heads, queries, keys)."""
        distance = distances(query.shape[2], key.shape[2], query.device)
        bias: Tensor = self.table(self.bucket(distance)).permute(2, 0, 1)[None]
        return bias


class LearnedDistances(Configured):
    """A learned vector per distance that is multiplied with the query, and optionally with the key, into the score.

    Sources: https://arxiv.org/abs/1803.02155 (query), https://arxiv.org/abs/2009.13658 method 4 (query and key).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`max_positions`: distances reach from -(max_positions - 1) to max_positions - 1."""

        max_positions: int
        head_size: int
        with_key: bool

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(2 * config.max_positions - 1, config.head_size)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Queries and keys (batch, heads, length, head_size) -> (batch, heads, queries, keys), unscaled."""
        keys = key.shape[2]
        distance = torch.arange(1 - keys, query.shape[2], device=query.device)
        vectors: Tensor = self.table(self.config.max_positions - 1 - distance)
        bias = by_distance(query @ vectors.t())
        if self.config.with_key:
            bias = bias + by_distance(key @ vectors.flip(0).t()).transpose(-1, -2)
        return bias
