"""The broker: takes tensors from layers while a network runs, and brings them to others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from eir_seq.broker.adversary import Adversary
from eir_seq.broker.message import Message
from eir_seq.broker.places import Layers, Place
from eir_seq.broker.shapes import Shape, tensor_in, with_tensor
from eir_seq.errors import Fault, UserError
from eir_seq.models.output import TokenStates

Shapes = Mapping[str, Shape]
"""Shapes of one row by layer and side, ``LAYER:SIDE``."""


@dataclass(frozen=True)
class Taken:
    """What was taken from a layer.

    Attributes:
        states: (batch, positions, size); what is at padding and in rows that lack the input of the layer means nothing.
        mask: (batch, positions), True at real positions; None: all are.
        there: (batch,), the rows that have that input; None: all have it.
    """

    states: Tensor
    mask: Tensor | None = None
    there: Tensor | None = None

    def clean(self) -> Tensor:
        """The states, zeros at padding and of rows that lack the input.

        Made anew each time: an operation where the tensor is taken would be missing in the second pass of a layer under
        activation checkpointing.
        """
        states = self.states
        if self.mask is not None:
            states = states.masked_fill(~self.mask[..., None], 0.0)
        return states if self.there is None else states.masked_fill(~self.there[:, None, None], 0.0)

    def of_rows(self, rows: int) -> Taken:
        """For a batch with several copies of each row, one after the other, such as those of beams.

        Raises:
            ValueError: the number of rows is no multiple.
        """
        own = len(self.states)
        if own == rows:
            return self
        if rows % own:
            raise ValueError(f"{own} rows were sent and {rows} are received")
        parts = (self.states, self.mask, self.there)
        return Taken(*(None if x is None else x.repeat_interleave(rows // own, 0) for x in parts))  # type: ignore[arg-type]


class _Held(dict[Place, Taken]):
    """What was taken in the last forward pass; copies of a network do not copy it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Held:
        return _Held()


class Broker(nn.Module):
    """Messages and adversaries of a network.

    It works by hooks on the layers, so that a network without a broker is as it was. A forward pass begins with what
    the network's own hook notes: which rows have which input. Tensors stay until the next one, as layers under
    activation checkpointing run once more in the backward pass, and decoders after it.

    Args:
        messages: by what they are called.
        adversaries: by what they are called.
    """

    calls_layers = False
    """Messages are shards together with the rest of the network, not each by itself."""

    def __init__(self, messages: Sequence[Message], adversaries: Sequence[Adversary]) -> None:
        super().__init__()
        self.messages, self.adversaries = nn.ModuleList(messages), nn.ModuleList(adversaries)
        self._messages, self._adversaries = list(messages), list(adversaries)
        self.held = _Held()
        self._open = False
        self._present: Mapping[str, Tensor] = {}
        self._masks: dict[str, Tensor] = {}
        self._sources: dict[Place, tuple[str, Shape]] = {}
        for part in self.parts:
            self._sources |= {place: (part.name, shape) for place, shape in part.read()}

    # ------------------------------------------------------------------------------------------------- connecting

    def connect(self, network: nn.Module, layers: Layers) -> None:
        """Register the hooks of a network, whose broker this is.

        What messages do to a layer comes before what is taken from it.
        """
        network.register_forward_pre_hook(_Begin(self), with_kwargs=True)
        network.register_forward_hook(_End(self), always_call=True)
        for message in self._messages:
            if not message.target.is_encoder:
                hook(layers[message.target.layer], message.target.side, _Merge(self, message))
            part: Any = layers[message.target.part]
            if hasattr(part, "hold"):  # a decoder, which writes outside of forward passes
                part.hold = self.hold
        for place in self._sources:
            if not place.is_encoder:
                hook(layers[place.layer], place.side, _Take(self, place))
        for adversary in self._adversaries:
            if adversary.probe is not None:
                layers[adversary.probe].register_forward_pre_hook(_detached, prepend=True)

    # -------------------------------------------------------------------------------------------- in a forward pass

    def begin(self, inputs: Mapping[str, Mapping[str, Tensor]], present: Mapping[str, Tensor]) -> None:
        """A forward pass begins."""
        self.held.clear()
        self._present, self._open = present, True
        masks = {name: tensors.get("attention_mask") for name, tensors in inputs.items()}
        self._masks = {name: mask.bool() for name, mask in masks.items() if mask is not None and mask.dim() == 2}

    def end(self) -> None:
        """It has come to its end."""
        self._open = False

    def encoded(self, name: str, value: Any) -> Any:
        """What an encoder gives, after the messages to it have come."""
        place = Place(f"inputs.{name}", "output")
        for message in self._messages:
            if message.target == place:
                value = self.merged(message, value)
        if place in self._sources:
            self.take(place, value)
        return value

    def take(self, place: Place, value: Any) -> None:
        """Keep what a layer reads or gives."""
        if not self._open:
            return
        x = tensor_in(value)
        if x is None:
            return
        name, shape = self._sources[place]
        if not shape.fits(x):
            raise UserError(Fault(name, f"{place} has the shape {_shown(x)} here; it was {shape} in training"))
        states = shape.states(x)
        mask = value.mask if isinstance(value, TokenStates) else self._mask(place, states)
        there = None if place.input is None else self._present.get(place.input)
        if mask is not None and mask.shape != states.shape[:2]:
            mask = None
        self.held[place] = Taken(states, mask, there)

    def merged(self, message: Message, value: Any) -> Any:
        """What a layer reads or gives after a message has come, or the same value where there is none."""
        taken, x = self.held.get(message.source), tensor_in(value)
        if taken is None or x is None:  # no row has the input of the source
            return value
        if not message.target_shape.fits(x):
            found = f"{message.target} has the shape {_shown(x)} here; it was {message.target_shape} in training"
            raise UserError(Fault(message.name, found))
        try:
            taken = taken.of_rows(len(x))
        except ValueError as error:
            raise UserError(Fault(message.name, f"{message.target}: {error}")) from None
        return with_tensor(value, message(x, taken.clean(), taken.mask, taken.there))

    # ---------------------------------------------------------------------------------------------------- decoders

    def tensors_for(self, output: str) -> dict[str, Tensor]:
        """What messages into an output hold of the last forward pass, each (batch, ...), for `hold`."""
        found: dict[str, Tensor] = {}
        for message in self._messages:
            if message.target.part == f"outputs.{output}" and (taken := self.held.get(message.source)) is not None:
                place = f"{message.source.layer}:{message.source.side}"
                parts = {"states": taken.states, "mask": taken.mask, "there": taken.there}
                found |= {f"message:{place}:{part}": x for part, x in parts.items() if x is not None}
        return found

    def hold(self, tensors: Mapping[str, Tensor]) -> None:
        """Take `tensors_for`, or some rows of it, for what a decoder does next."""
        places: dict[Place, dict[str, Tensor]] = {}
        for name, x in tensors.items():
            _, layer, side, part = name.split(":")
            places.setdefault(Place(layer, side), {})[part] = x
        self.held.clear()
        self.held.update({place: Taken(**parts) for place, parts in places.items()})

    # ------------------------------------------------------------------------------------------------- what there is

    def reaches(self, name: str) -> bool:
        """Whether a message goes into the encoder of an input."""
        return any(message.target.input == name for message in self._messages)

    def shapes(self) -> dict[str, list[int | None]]:
        """The shapes of all layers that it connects, as plain data for `Shape`."""
        shapes = [shape for part in self.parts for shape in part.shapes()]
        return {f"{place.layer}:{place.side}": list(shape.sizes) for place, shape in shapes}

    def count_parameters(self) -> dict[str, int]:
        """Parameters of each message and adversary."""
        return {part.name: sum(p.numel() for p in part.parameters()) for part in self.parts}

    def describe(self) -> list[dict[str, str]]:
        """The messages and adversaries in words: name, from, shape, how, to, shape and parameters."""
        counts = self.count_parameters()
        return [part.describe() | {"parameters": f"{counts[part.name]:,}"} for part in self.parts]

    def edges(self) -> Iterator[tuple[str, str, Literal["message", "adversary"], str]]:
        """The layers that each message and adversary connects, and how."""
        for message in self._messages:
            yield message.source.layer, message.target.layer, "message", message.how
        for adversary in self._adversaries:
            target = adversary.config.predict if adversary.predicted is None else adversary.predicted.layer
            yield adversary.source.layer, target, "adversary", f"weight {adversary.config.weight:g}"

    @property
    def parts(self) -> list[Message | Adversary]:
        """All messages, then all adversaries."""
        return [*self._messages, *self._adversaries]

    @property
    def listed_adversaries(self) -> list[Adversary]:
        """The adversaries."""
        return self._adversaries

    def _mask(self, place: Place, states: Tensor) -> Tensor | None:
        mask = self._masks.get(place.input or "")
        return mask if mask is not None and mask.shape == states.shape[:2] else None


class _Begin:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def __call__(self, _network: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = dict(zip(("inputs", "present"), arguments, strict=False)) | named
        self.broker.begin(given["inputs"], given.get("present", {}))


class _End:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def __call__(self, _network: nn.Module, _arguments: Any, _outputs: Any) -> None:
        self.broker.end()


class _Merge:
    def __init__(self, broker: Broker, message: Message) -> None:
        self.broker, self.message = broker, message

    def __call__(self, value: Any) -> Any:
        return self.broker.merged(self.message, value)


class _Take:
    def __init__(self, broker: Broker, place: Place) -> None:
        self.broker, self.place = broker, place

    def __call__(self, value: Any) -> Any:
        self.broker.take(self.place, value)
        return value


class _OnOutput:
    """A forward hook."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def __call__(self, _module: nn.Module, _arguments: Any, output: Any) -> Any:
        return self.act(output)


class _OnInput:
    """A forward pre-hook, which acts on the first tensor of numbers among the arguments."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def __call__(self, _module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        for place, value in enumerate(arguments):
            if tensor_in(value) is not None:
                return (*arguments[:place], self.act(value), *arguments[place + 1 :]), named
        for name, value in named.items():
            if tensor_in(value) is not None:
                return arguments, {**named, name: self.act(value)}
        return None


def hook(layer: nn.Module, side: str, act: Any) -> Any:
    """Have `act` see, and change, what a layer reads or gives."""
    if side == "output":
        return layer.register_forward_hook(_OnOutput(act))
    return layer.register_forward_pre_hook(_OnInput(act), with_kwargs=True)


def _detached(_module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The head of a probe reads features whose gradient goes nowhere."""
    return tuple(x if (found := tensor_in(x)) is None else with_tensor(x, found.detach()) for x in arguments)


def _shown(x: Tensor) -> str:
    return " x ".join(map(str, x.shape[1:])) or "of one number"
