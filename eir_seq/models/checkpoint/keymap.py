"""Maps published parameter names to those used here, in both directions.

A row moves a parameter, or the weight and bias of a module, from its published to its native name, and exactly back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
LEAVES = ("", ".weight", ".bias")


@dataclass(frozen=True)
class Same:
    """One tensor (or module) under two names; `transpose` where the published weight is (in, out)."""

    published: str
    native: str
    transpose: bool = False

    def pull(self, published: Tensors) -> Iterator[tuple[str, Tensor]]:
        """Take this row's tensors out of `published`, yield them under our names."""
        for leaf in LEAVES:
            if self.published + leaf in published:
                yield self.native + leaf, _transposed(published.pop(self.published + leaf), self.transpose)

    def push(self, native: Tensors) -> Iterator[tuple[str, Tensor]]:
        """The inverse of `pull`."""
        yield from Same(self.native, self.published, self.transpose).pull(native)


@dataclass(frozen=True)
class Computed(Same):
    """A tensor that a whole checkpoint may leave out: `make` gives it then."""

    make: Callable[[], Tensor] = field(kw_only=True)


@dataclass(frozen=True)
class Alias(Same):
    """Another published name of a tensor that has its own row: read, never written.

    Where a file holds both names, the first row counts.
    """

    def push(self, native: Tensors) -> Iterator[tuple[str, Tensor]]:  # noqa: ARG002
        """The other row writes it."""
        yield from ()


@dataclass(frozen=True)
class Tree(Same):
    """All tensors below a name, parameters and buffers."""

    def pull(self, published: Tensors) -> Iterator[tuple[str, Tensor]]:
        """Take this row's tensors out of `published`, yield them under our names."""
        for name in [name for name in published if name.startswith(f"{self.published}.")]:
            yield self.native + name.removeprefix(self.published), published.pop(name)

    def push(self, native: Tensors) -> Iterator[tuple[str, Tensor]]:
        """The inverse of `pull`."""
        yield from Tree(self.native, self.published).pull(native)


@dataclass(frozen=True)
class Fused:
    """One published module that holds several modules along its output.

    The output is `groups` equal pieces; each holds a piece of every part, one part after the other, which are
    as large as their `shares` of it (equal ones if there are none). So there are

    * queries, keys and values one after the other: no options; with fewer keys than queries, ``shares=(q, kv, kv)``
      of their numbers of heads;
    * the query, key and value of each head in turn: ``groups=heads``;
    * for each head of keys its queries, then its key and value: ``groups=kv``, ``shares=(heads // kv, 1, 1)``.
    """

    published: str
    native: tuple[str, ...]
    transpose: bool = False
    groups: int = 1
    shares: tuple[int, ...] = ()

    def pull(self, published: Tensors) -> Iterator[tuple[str, Tensor]]:
        """Take this row's tensors out of `published`, yield the parts under our names."""
        shares = self.shares or (1,) * len(self.native)
        for leaf in (".weight", ".bias"):
            if self.published + leaf in published:
                whole = _transposed(published.pop(self.published + leaf), self.transpose)
                pieces = whole.unflatten(0, (self.groups, sum(shares), -1)).split(shares, 1)
                for name, part in zip(self.native, pieces, strict=True):
                    yield name + leaf, part.flatten(0, 2).contiguous()

    def push(self, native: Tensors) -> Iterator[tuple[str, Tensor]]:
        """The inverse of `pull`."""
        for leaf in (".weight", ".bias"):
            if self.native[0] + leaf in native:
                parts = [native.pop(name + leaf).unflatten(0, (self.groups, -1)) for name in self.native]
                yield self.published + leaf, _transposed(torch.cat(parts, 1).flatten(0, 1), self.transpose)


@dataclass(frozen=True)
class Stacked:
    """Several published tensors (``*`` in the name is 0, 1, 2 ...) that are one tensor here, with a further axis."""

    published: str
    native: str
    count: int

    def pull(self, published: Tensors) -> Iterator[tuple[str, Tensor]]:
        """Take this row's tensors out of `published`, yield them as one under our name."""
        names = self._names()
        if all(name in published for name in names):
            yield self.native, torch.stack([published.pop(name) for name in names])

    def push(self, native: Tensors) -> Iterator[tuple[str, Tensor]]:
        """The inverse of `pull`."""
        if self.native in native:
            for name, part in zip(self._names(), native.pop(self.native), strict=True):
                yield name, part.clone()  # files take no tensors that share their memory

    def _names(self) -> list[str]:
        return [self.published.replace("*", str(number)) for number in range(self.count)]


@dataclass(frozen=True)
class Unused:
    """A published tensor that the architecture never reads: dropped on loading, zeros on saving."""

    published: str
    shape: tuple[int, ...]

    def pull(self, published: Tensors) -> Iterator[tuple[str, Tensor]]:
        """Take the tensor out of `published`."""
        published.pop(self.published, None)
        yield from ()

    def push(self, native: Tensors) -> Iterator[tuple[str, Tensor]]:  # noqa: ARG002
        """Zeros in its place."""
        yield self.published, torch.zeros(self.shape)


@dataclass(frozen=True)
class Constant:
    """A published tensor that follows from the options: dropped on loading, written on saving."""

    published: str
    value: Tensor

    def pull(self, published: Tensors) -> Iterator[tuple[str, Tensor]]:
        """Take the tensor out of `published`."""
        published.pop(self.published, None)
        yield from ()

    def push(self, native: Tensors) -> Iterator[tuple[str, Tensor]]:  # noqa: ARG002
        """The value in its place."""
        yield self.published, self.value


Row = Same | Fused | Stacked | Unused | Constant


def for_layers(count: int, *rows: Row) -> Iterator[Row]:
    """The rows once per layer, ``{i}`` in their names replaced by its number."""
    for i in range(count):
        for row in rows:
            published = row.published.format(i=i)
            if isinstance(row, Fused):
                yield replace(row, published=published, native=tuple(name.format(i=i) for name in row.native))
            elif isinstance(row, Same | Stacked):
                yield replace(row, published=published, native=row.native.format(i=i))
            else:
                yield replace(row, published=published)


NEVER_PARAMETERS = re.compile(r"(^|\.)(position_ids|token_type_ids|attn\.bias|attn\.masked_bias|inv_freq)$")
"""Buffers that old files hold and that no model needs."""


def modern(name: str) -> str:
    """A name in today's spelling; very old files call the weight and bias of a norm gamma and beta."""
    return re.sub(r"\.beta$", ".bias", re.sub(r"\.gamma$", ".weight", name))


class Watched(dict[str, Tensor]):
    """A dict that keeps which names were taken out of it."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__(tensors)
        self.taken: list[str] = []

    def pop(self, name: str, *default: Any) -> Any:
        """As that of a dict."""
        if name in self:
            self.taken.append(name)
        return super().pop(name, *default)


def to_published(rows: Iterable[Row], native: Tensors) -> Tensors:
    """Tensors under their published names; every tensor must have a row."""
    left = dict(native)
    moved = {name: tensor for row in rows for name, tensor in row.push(left)}
    assert not left, f"no row of the key map names {sorted(left)[:3]}"
    return moved


def _transposed(tensor: Tensor, transpose: bool) -> Tensor:
    return tensor.t().contiguous() if transpose and tensor.dim() == 2 else tensor
