"""How two rows of a batch become one: weighted sums, or parts of the one in the other.

An encoder says by `Encoder.mix` what is done with the tensors that it reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.config.mixing import Way
from eir_seq.models.output import TokenStates
from eir_seq.randomness import uniforms

CUT_AXES = {2: 1, 3: 1, 4: 2, 5: 3}
"""Axes of positions at the end of a tensor, by its number of axes: (batch, positions), (batch, channels, positions),
(batch, channels, height, width), (batch, channels, depth, height, width)."""


@dataclass(frozen=True)
class Pairs:
    """The rows of a batch with their partners.

    Attributes:
        partner: (batch,) place of the row that each is mixed with.
        share: (batch,) what the row itself has in the mixture, from 0 to 1.

    Example:
        >>> pairs = Pairs(torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
        >>> pairs.blend(torch.tensor([[4.0], [8.0]])).tolist()
        [[5.0], [8.0]]
    """

    partner: Tensor
    share: Tensor

    def blend(self, x: Tensor) -> Tensor:
        """Weighted sums (mixup, Zhang et al. 2018, arXiv:1710.09412) of the rows of x, (batch, ...)."""
        share = self.share.to(x.dtype).view(-1, *[1] * (x.dim() - 1))
        return torch.lerp(x[self.partner], x, share)

    def blend_features(self, x: Any) -> Any:
        """The same of what a layer gives: tensors (batch, ...), states, or tuples and mappings of them."""
        if isinstance(x, Tensor):
            fits = x.is_floating_point() and x.dim() > 0 and len(x) == len(self.partner)
            return self.blend(x) if fits else x
        if isinstance(x, TokenStates):
            return self._blend_states(x)
        if isinstance(x, dict):
            return type(x)((key, self.blend_features(value)) for key, value in x.items())
        return tuple(map(self.blend_features, x)) if isinstance(x, tuple) else x

    def _blend_states(self, tokens: TokenStates) -> TokenStates:
        """States that one of the two rows has are there in the mixture; those of padding count as zeros."""
        states = self.blend(tokens.states.masked_fill(~tokens.mask[..., None], 0.0))
        pooled = tokens.pooler_output
        return replace(
            tokens,
            states=states,
            mask=tokens.mask | (tokens.mask[self.partner] & (self.share < 1)[:, None]),
            pooler_output=None if pooled is None else self.blend(pooled),
        )


@dataclass(frozen=True)
class Mixing(Pairs):
    """How an input of a batch is mixed.

    Attributes:
        way: weighted sums or cuts.
        seed: of the places that are cut.
        place: (batch,) by which they are drawn for each row, whichever others are there; in order if None.
    """

    way: Way = "mixup"
    seed: int = 0
    place: Tensor | None = None

    def tensors(
        self, tensors: dict[str, Tensor], cut_axes: int | None = None, *, has_embeddings: bool = False
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The tensors of an input mixed, and what is left of each row, (batch,).

        Args:
            tensors: by name, each (batch, ...).
            cut_axes: how many of the last axes are positions, see `cut`.
            has_embeddings: whether integers are looked up in tables, whose vectors are mixed; else they are numbers.
        """
        if self.way != "mixup":
            return self.cut(tensors, cut_axes)
        if not has_embeddings:
            tensors = {name: x if x.dtype == torch.bool else x.float() for name, x in tensors.items()}
        return self.numbers(tensors), self.share

    def numbers(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted sums of numbers; masks (bool) are true where they are in one of the two rows; integers stay."""
        return {name: self._either(x) if x.dtype == torch.bool else self._sum(x) for name, x in tensors.items()}

    def _sum(self, x: Tensor) -> Tensor:
        return self.blend(x) if x.is_floating_point() else x

    def _either(self, x: Tensor) -> Tensor:
        mixed = (self.share < 1).view(-1, *[1] * (x.dim() - 1))
        return x | (x[self.partner] & mixed)

    def cut(self, tensors: dict[str, Tensor], axes: int | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Positions of the other row in the place of the own ones (CutMix, Yun et al. 2019, arXiv:1905.04899).

        Tensors with the same positions are cut alike.

        Args:
            tensors: each (batch, ..., positions).
            axes: how many of the last axes are positions; by the number of axes (`CUT_AXES`) if absent.

        Returns:
            The tensors, and what is left of each row, (batch,): the share of its positions.
        """
        found, kept, counted = dict(tensors), torch.zeros_like(self.share), 0
        for name, x in tensors.items():
            last = CUT_AXES.get(x.dim(), 0) if axes is None else axes
            if not last:
                continue
            foreign = self._foreign(x.shape[-last:]).to(x.device)
            shape = (len(x), *[1] * (x.dim() - 1 - last), *x.shape[-last:])
            found[name] = torch.where(foreign.view(shape), x[self.partner], x)
            positions = foreign[0].numel()
            kept = kept + positions - foreign.flatten(1).sum(dim=1)
            counted += positions
        return found, kept / counted if counted else self.share

    def _foreign(self, shape: torch.Size) -> Tensor:
        """Which positions (batch, *shape) become those of the other row; drawn on the CPU, whatever the device."""
        place = range(len(self.share)) if self.place is None else self.place.tolist()
        wanted, positions = 1 - self.share.double().cpu(), math.prod(shape)
        if self.way == "cutmix-uniform":
            ranks = torch.from_numpy(uniforms(self.seed, place, positions)).argsort(dim=1).argsort(dim=1)
            return (ranks < (wanted * positions).round()[:, None]).view(-1, *shape)
        drawn = torch.from_numpy(uniforms(self.seed, place, len(shape)))
        inside = torch.ones(len(wanted), *[1] * len(shape), dtype=torch.bool)
        for axis, length in enumerate(shape):  # sides in proportion to the whole, the last ones for what is left of it
            side = (length * wanted ** (1 / (len(shape) - axis))).round().clamp(max=length)
            wanted = (wanted * length / side.clamp(min=1)).clamp(max=1)
            start = (drawn[:, axis] * (length - side + 1)).floor()
            places = torch.arange(length)[None]
            within = (places >= start[:, None]) & (places < (start + side)[:, None])
            inside = inside & within.view(len(side), *[1] * axis, length, *[1] * (len(shape) - 1 - axis))
        return inside


def tables(module: nn.Module) -> list[nn.Module]:
    """All tables of vectors in a module."""
    return [part for part in module.modules() if isinstance(part, nn.Embedding)]
