"""A step as a list of instructions, which is recorded once per generation and run once per token.

Layers are recorded by calling them: their `forward` gets a `Value` in place of states, and calls, in place of its
parts, what records them. Whatever does more with states than to add them and to hand them on is not recorded, but
called at every step. So the structure of a layer stands in its `forward` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from eir_seq.models.generation.decode.attention import TokenAttention, TokenContext
from eir_seq.models.generation.decode.instructions import (
    Activate,
    Attend,
    Call,
    Inputs,
    Instruction,
    Norm,
    Product,
    Run,
    Scale,
    Segment,
    Shift,
    Sum,
)
from eir_seq.models.generation.decode.layers import LightMlp
from eir_seq.models.generation.decode.products import LightLinear
from eir_seq.models.layers.residual import Layer
from eir_seq.models.layers.residual_sum import HasTerms
from eir_seq.native import decoding as native


class Value:
    """Numbers (rows, width) that a step will compute, at a place of its own."""

    def __init__(self, program: Program, place: int, width: int) -> None:
        self.program, self.place, self.width = program, place, width

    def __add__(self, other: Any) -> Value:
        if isinstance(other, Value):
            return self.program.put(Sum, self, other.place)
        if self.program.scoring and isinstance(other, Tensor) and other.shape == (self.width,):
            return self.program.put(Shift, self, other)
        return NotImplemented

    def __mul__(self, factor: Any) -> Value:
        return self.program.put(Scale, self, factor) if isinstance(factor, float) else NotImplemented


class Program:
    """The instructions of a step.

    `scoring`: whether a head is recorded, which adds nothing that differs from step to step, as layers may.
    """

    scoring = False

    def __init__(self, width: int, ctx: TokenContext) -> None:
        """`width`: of the states that it begins with; `ctx`: a pass like those to come."""
        self._ctx = ctx
        self._widths = [width]
        self._instructions: list[Instruction] = []

    @property
    def first(self) -> Value:
        """The states that it begins with."""
        return Value(self, 0, self._widths[0])

    def put(self, kind: type[Instruction], x: Value, *given: Any, width: int | None = None) -> Value:
        """Record an instruction of that kind for `x`; its value is as wide, or of the given `width`."""
        self._widths.append(width or x.width)
        place = len(self._widths) - 1
        self._instructions.append(kind(x.place, place, *given))
        return Value(self, place, self._widths[place])

    def record(self, part: nn.Module, x: Value, *more: Any) -> Value:
        """The value of `part(x, *more)`."""
        if isinstance(part, LightLinear):
            return self._product(x, [part])
        if isinstance(part, LightMlp) and (layers := _all_light(part.inner)):
            active = self.put(Activate, self._product(x, layers), part, width=part.up.out_features)
            return self.record(part.down, active)
        if isinstance(part, TokenAttention) and (layers := _all_light(part.projections)):
            mixed = self.put(Attend, self._product(x, layers), part, width=part.out.in_features)
            return self.record(part.out, mixed)
        if isinstance(part, HasTerms):
            return self.put(Norm, x, part)
        if isinstance(part, Layer):
            found = self.attempt(lambda: self._parts_of(part)(x, *more))
            if found is not None:
                return found
        if any(other is self._ctx for other in more):
            return self.put(Call, x, part, True)
        width = part(self._ctx.past.like.new_zeros(1, 1, x.width)).shape[-1]  # a projection has another one
        return self.put(Call, x, part, False, width=width)

    def attempt(self, record: Callable[[], Any]) -> Value | None:
        """What `record` gives; None, and nothing is recorded, where a value cannot be used as states can."""
        before = len(self._instructions), len(self._widths)
        try:
            found = record()
        except (TypeError, AttributeError):
            found = None
        if not isinstance(found, Value):
            del self._instructions[before[0] :], self._widths[before[1] :]
            return None
        return found

    def scores(self, head: Any, x: Value) -> Value | None:
        """Scores of a language-model head, where they can be recorded."""
        self.scoring = True
        return self.attempt(lambda: self._parts_of(head).scores(x))

    def _parts_of(self, module: nn.Module) -> Any:
        """The module with parts that record."""
        copy = object.__new__(type(module))
        vars(copy).update(vars(module))
        for name, part in module._modules.items():
            if isinstance(part, nn.Module) and not isinstance(part, nn.Dropout | nn.Identity):
                vars(copy)[name] = partial(self.record, part)
        return copy

    def _product(self, x: Value, layers: list[LightLinear]) -> Value:
        return self.put(Product, x, layers, width=sum(layer.out_features for layer in layers))

    def compile(self, rows: int) -> Callable[[Tensor, TokenContext], Tensor]:
        """The step: states (rows, width) and its context -> the value that was recorded last."""
        like, (instructions, widths) = self._ctx.past.like, self._in_few_places()
        last = instructions[-1].y
        if native.serves(like):
            return _natively(instructions, [like.new_empty(rows, width) for width in widths], last)
        places: list[Any] = [None] * len(widths)
        calls: list[Run] = [instruction.plain(places, rows) for instruction in instructions]

        def step(x: Tensor, ctx: TokenContext) -> Tensor:
            places[0] = x
            for call in calls:
                call(ctx)
            found: Tensor = places[last]
            return found

        return step

    @property
    def repeats(self) -> bool:
        """Whether all steps launch the same kernels, see `Instruction`."""
        return all(instruction.repeats for instruction in self._instructions)

    def inputs(self) -> Inputs:
        """What instructions read in the memo of a step's context, by key."""
        return {key: make for instruction in self._instructions for key, make in instruction.inputs().items()}

    def _in_few_places(self) -> tuple[list[Instruction], list[int]]:
        """The instructions, with values in the places of those that are not read any more; the width of each place."""
        last_read = {place: number for number, made in enumerate(self._instructions) for place in made.reads()}
        moved, widths, to = list[Instruction](), self._widths[:1], {0: 0}
        free: dict[int, list[int]] = {width: [] for width in self._widths}
        for number, instruction in enumerate(self._instructions):
            width = self._widths[instruction.y]
            if not free[width]:
                free[width].append(len(widths))
                widths.append(width)
            to[instruction.y] = free[width].pop()
            moved.append(instruction.moved(to))
            for place in {place for place in instruction.reads() if last_read[place] == number}:
                free[self._widths[place]].append(to[place])
        return moved, widths


def _natively(
    instructions: Sequence[Instruction], buffers: list[Tensor], last: int
) -> Callable[[Tensor, TokenContext], Tensor]:
    """See `Program.compile`: every place has a buffer, and runs of instructions that the kernels know are one call."""
    calls: list[Run] = []
    segment: Segment | None = None
    for instruction in instructions:
        if instruction.is_native():
            if segment is None:
                segment = Segment()
                calls.append(segment)
            instruction.native(segment, buffers)
        else:
            segment = None
            calls.append(_copied(instruction, len(buffers[0]), buffers))

    def step(x: Tensor, ctx: TokenContext) -> Tensor:
        buffers[0].copy_(x)
        for call in calls:
            call(ctx)
        return buffers[last]

    return step


def _all_light(layers: Sequence[nn.Module]) -> list[LightLinear]:
    """These layers, if all of them are products; else none."""
    found = [layer for layer in layers if isinstance(layer, LightLinear)]
    return found if len(found) == len(layers) else []


def _copied(instruction: Instruction, rows: int, buffers: list[Tensor]) -> Run:
    """A plain instruction whose result goes to its buffer; what it reads is its own, as it may keep it."""
    places: list[Any] = list(buffers)
    call, x, y = instruction.plain(places, rows), instruction.x, instruction.y

    def run(ctx: TokenContext) -> None:
        places[x] = buffers[x].clone()
        call(ctx)
        buffers[y].copy_(places[y])

    return run
