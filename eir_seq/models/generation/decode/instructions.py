"""What a step consists of: each instruction in torch's operations, and for the native kernels, if they know it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from eir_seq.models.generation.decode.attention import TokenAttention, TokenContext
from eir_seq.models.generation.decode.layers import LightMlp
from eir_seq.models.generation.decode.products import Joined, LightLinear
from eir_seq.models.layers.feed_forward.activations import native_name
from eir_seq.models.layers.residual_sum import HasTerms
from eir_seq.native import decoding

Places = list[Any]
"""The values (rows, width) of a step, by place."""
Run = Callable[[TokenContext], None]
Inputs = dict[Any, Callable[[TokenContext], Tensor]]


_NOTHING = torch.empty(0)


class Segment:
    """Instructions that the kernels run in one call, and the tensors that they need from step to step."""

    def __init__(self) -> None:
        self.program = decoding.program()
        self._numbers: dict[Any, int] = {}
        self._makers: list[Callable[[TokenContext], Tensor | None]] = []

    def input(self, key: Any, make: Callable[[TokenContext], Tensor | None]) -> int:
        """The number of a tensor that differs from step to step; one for all instructions with that `key`."""
        if key not in self._numbers:
            self._numbers[key] = len(self._makers)
            self._makers.append(make)
        return self._numbers[key]

    def __call__(self, ctx: TokenContext) -> None:
        """Run."""
        inputs = [_NOTHING if (made := make(ctx)) is None else made.contiguous() for make in self._makers]
        self.program.run(inputs, ctx.past.first, ctx.past.columns)


@dataclass
class Instruction:
    """Makes the value of place `y` of that of place `x`."""

    x: int
    y: int
    takes_context = False
    """Whether the function of `plain` takes the context after the value."""
    repeats = True
    """Whether every step launches the same kernels on the same addresses, but for `inputs`."""

    def reads(self) -> tuple[int, ...]:
        """Places whose values it needs."""
        return (self.x,)

    def moved(self, to: Mapping[int, int]) -> Self:
        """The same with other places."""
        return replace(self, x=to[self.x], y=to[self.y])

    def function(self, rows: int) -> Callable[..., Tensor]:
        """What it does with a value (rows, width), in torch's operations."""
        raise NotImplementedError

    def plain(self, at: Places, rows: int) -> Run:
        """What runs it in torch's operations."""
        x, y, function = self.x, self.y, self.function(rows)

        def run(_: TokenContext) -> None:
            at[y] = function(at[x])

        def run_with_context(ctx: TokenContext) -> None:
            at[y] = function(at[x], ctx)

        return run_with_context if self.takes_context else run

    def inputs(self) -> Inputs:
        """What it reads in the memo of a step's context, by key, and what makes it."""
        return {}

    def is_native(self) -> bool:
        """Whether the kernels know it."""
        return False

    def native(self, to: Segment, at: Sequence[Tensor]) -> None:
        """Add it to what the kernels run; every place has its buffer."""
        raise NotImplementedError


@dataclass
class Product(Instruction):
    """Linear layers of one input, their outputs side by side."""

    layers: list[LightLinear]

    def function(self, rows: int) -> Callable[..., Tensor]:
        """See `Instruction`."""
        return Joined([(layer.weight, layer.bias) for layer in self.layers], self.layers[0].few).of_rows(rows)

    def is_native(self) -> bool:
        """See `Instruction`."""
        weights = [layer.weight for layer in self.layers]
        plain = all(weight.dtype is torch.float32 and weight.is_contiguous() for weight in weights)
        return plain and decoding.fits(self.layers[0].in_features)

    def native(self, to: Segment, at: Sequence[Tensor]) -> None:
        """See `Instruction`."""
        begin, x = 0, at[self.x]
        for layer in self.layers:
            width, weight = layer.out_features, layer.weight.detach()
            if len(x) > decoding.MOST_ROWS and layer.few.transposes and layer.few.copies(weight.nbytes):
                weight = weight.t().contiguous().t()
            bias = None if layer.bias is None else layer.bias.detach()
            to.program.product(x, weight, bias, at[self.y].narrow(1, begin, width))
            begin += width


@dataclass
class Norm(Instruction):
    """A norm over channels."""

    norm: HasTerms

    def function(self, rows: int) -> Callable[..., Tensor]:  # noqa: ARG002
        """See `Instruction`."""
        return self.norm

    def is_native(self) -> bool:
        """See `Instruction`."""
        weight = self.norm.terms().weight
        return decoding.fits(weight.numel()) and weight.dtype is torch.float32

    def native(self, to: Segment, at: Sequence[Tensor]) -> None:
        """See `Instruction`."""
        weight, bias, eps, centered = self.norm.terms()
        to.program.norm(at[self.x], weight.detach(), None if bias is None else bias.detach(), eps, centered, at[self.y])


@dataclass
class Sum(Instruction):
    """Of two values."""

    other: int

    def reads(self) -> tuple[int, ...]:
        """See `Instruction`."""
        return self.x, self.other

    def moved(self, to: Mapping[int, int]) -> Self:
        """See `Instruction`."""
        return replace(self, x=to[self.x], other=to[self.other], y=to[self.y])

    def plain(self, at: Places, rows: int) -> Run:  # noqa: ARG002
        """See `Instruction`."""
        x, other, y = self.x, self.other, self.y

        def run(_: TokenContext) -> None:
            at[y] = at[x] + at[other]

        return run

    def is_native(self) -> bool:
        """See `Instruction`."""
        return True

    def native(self, to: Segment, at: Sequence[Tensor]) -> None:
        """See `Instruction`."""
        to.program.sum_of(at[self.x], at[self.other], at[self.y])


@dataclass
class Shift(Instruction):
    """A vector (width,) is added."""

    vector: Tensor

    def function(self, rows: int) -> Callable[..., Tensor]:  # noqa: ARG002
        """See `Instruction`."""
        return self.vector.__radd__

    def is_native(self) -> bool:
        """See `Instruction`."""
        return self.vector.dtype is torch.float32

    def native(self, to: Segment, at: Sequence[Tensor]) -> None:
        """See `Instruction`."""
        to.program.sum_of(at[self.x], self.vector.detach().view(1, -1), at[self.y])


@dataclass
class Scale(Instruction):
    """A value times a number."""

    factor: float

    def function(self, rows: int) -> Callable[..., Tensor]:  # noqa: ARG002
        """See `Instruction`."""
        return lambda x: x * self.factor

    def is_native(self) -> bool:
        """See `Instruction`."""
        return True

    def native(self, to: Segment, at: Sequence[Tensor]) -> None:
        """See `Instruction`."""
        to.program.scaled(at[self.x], self.factor, at[self.y])


@dataclass
class Activate(Instruction):
    """The activation function of a feed-forward block, and the gate of one that has it."""

    mlp: LightMlp

    def function(self, rows: int) -> Callable[..., Tensor]:  # noqa: ARG002
        """See `Instruction`."""
        return self.mlp.active

    def is_native(self) -> bool:
        """See `Instruction`."""
        return native_name(self.mlp.activation_name) is not None and decoding.fits(self.mlp.up.out_features)

    def native(self, to: Segment, at: Sequence[Tensor]) -> None:
        """See `Instruction`."""
        x, factor = at[self.x], None
        if self.mlp.gate is not None:
            x, factor = x.chunk(2, -1)
        to.program.activated(x, factor, native_name(self.mlp.activation_name), at[self.y])


@dataclass
class Attend(Instruction):
    """Attention of heads side by side: queries, and where they are kept, keys and values after them."""

    attention: TokenAttention
    takes_context = True

    def function(self, rows: int) -> Callable[..., Tensor]:  # noqa: ARG002
        """See `Instruction`."""
        return self.attention.attend

    def inputs(self) -> Inputs:
        """See `Instruction`."""
        attention, rotary, size = self.attention, self.attention.config.rotary, self.attention.head_size
        found: Inputs = {}
        if not attention.crosses:
            found[attention.seen_key] = attention.seen
            if rotary is not None:
                found["rotation", rotary, size] = lambda ctx: ctx.rotation(rotary, size)
        return found

    def is_native(self) -> bool:
        """See `Instruction`."""
        size = self.attention.head_size
        return self.attention.config.head_norm is None and decoding.fits(size) and size <= decoding.WIDEST_HEAD

    def native(self, to: Segment, at: Sequence[Tensor]) -> None:
        """See `Instruction`."""
        attention, rotary, rotation = self.attention, self.attention.config.rotary, -1
        kept = to.input(attention.kept, lambda ctx: attention.kept.with_room(ctx.past))
        added = to.input(attention.added_key, attention.added)
        if rotary is not None and not attention.crosses:
            size = attention.head_size
            rotation = to.input(("rotation", rotary, size), lambda ctx: ctx.rotation(rotary, size))
        heads = attention.config.num_heads, attention.shared, attention.head_size
        how = attention.scale, not attention.crosses
        to.program.attend(at[self.x], at[self.y], kept, added, rotation, *heads, *how)


@dataclass
class Call(Instruction):
    """A part of the model that is called at every step; with the context, its output is as wide as its input."""

    part: nn.Module
    with_context: bool
    takes_context = True
    repeats = False  # it may wait for the device, or keep a state

    def function(self, rows: int) -> Callable[..., Tensor]:  # noqa: ARG002
        """See `Instruction`."""
        part: Any = self.part
        if self.with_context:
            return lambda x, ctx: part(x[:, None], ctx)[:, 0]
        return lambda x, ctx: part(x[:, None])[:, 0]  # noqa: ARG005
