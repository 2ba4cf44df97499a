"""From the config to a broker: which layers there are, when they run, and what shapes they have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.broker.adversary import Adversary
from eir_seq.broker.broker import Broker, Shapes, hook
from eir_seq.broker.message import Message
from eir_seq.broker.places import Layers, Place, found_layer
from eir_seq.broker.shapes import Shape, tensor_in
from eir_seq.config.broker import AdversaryConfig, MessageConfig
from eir_seq.errors import Fault, UserError


@dataclass
class Seen:
    """What trial runs saw of a place.

    Attributes:
        calls: of its layer in each run.
        times: at which it has its tensor, in each run.
        shapes: with the rows, in each run; None where there is no tensor.
    """

    calls: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    shapes: list[tuple[int, ...] | None] = field(default_factory=list)


class _Observer(Broker):
    """Notes when places have their tensors."""

    def __init__(self, seen: dict[Place, Seen]) -> None:
        super().__init__([], [])
        self.seen, self.clock = seen, 0

    def encoded(self, name: str, value: Any) -> Any:
        place = Place(f"inputs.{name}", "output")
        if place in self.seen:
            self.note(place, value)
        return value

    def note(self, place: Place, value: Any) -> None:
        self.clock += 1
        seen, x = self.seen[place], tensor_in(value)
        seen.calls[-1] += 1
        if seen.calls[-1] == 1:
            seen.times[-1], seen.shapes[-1] = self.clock, None if x is None else tuple(x.shape)


class _Note:
    def __init__(self, observer: _Observer, place: Place) -> None:
        self.observer, self.place = observer, place

    def __call__(self, value: Any) -> Any:
        self.observer.note(self.place, value)
        return value


class _Uncalled:
    """A pre-hook that counts a call whose arguments hold no tensor of numbers."""

    def __init__(self, observer: _Observer, place: Place) -> None:
        self.observer, self.place = observer, place

    def __call__(self, _module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if all(tensor_in(value) is None for value in (*arguments, *named.values())):
            self.observer.note(self.place, None)


def measured_shapes(
    network: Any,
    layers: Layers,
    messages: Sequence[MessageConfig],
    adversaries: Sequence[AdversaryConfig],
    batches: Sequence[Mapping[str, Any]],
) -> Shapes:
    """Run batches through a network, and give the shapes of all layers that are connected.

    Args:
        network: runs batches; has `broker`, and is in evaluation mode.
        layers: by public name.
        messages: of the experiment.
        adversaries: of the experiment.
        batches: with different numbers of rows, and texts of different lengths where there are texts.

    Raises:
        UserError: with all that is wrong: layers that are not there, not run, run several times or too late, or have no
            tensor of rows.
    """
    faults: list[Fault] = []
    places: dict[str, Place] = {}
    for key, name, side in _wanted(messages, adversaries):
        try:
            place = Place(found_layer(name, layers), side)
            if place.input is not None and place.layer == place.part and side == "input":
                raise ValueError(f"{place.layer} reads what is in the rows; name a layer within it")
            places[key] = place
        except ValueError as error:
            faults.append(Fault(key, str(error)))
    seen = {place: Seen() for place in places.values()}
    unpack(layers, seen)
    _observe(network, layers, seen, batches)
    shapes: dict[str, Shape] = {}
    for key, place in places.items():
        try:
            shapes[_key(place)] = _shape(place, seen[place], batches, network)
        except ValueError as error:
            faults.append(Fault(key, f"{place} {error}"))
    for key, place in places.items():
        shape = shapes.get(_key(place)) if key.endswith(".from") else None
        if shape is not None and shape.positions is None and not _has_mask(place, seen[place], batches):
            hint = "name a layer of another length, or of vectors"
            faults.append(Fault(key, f"{place} has positions whose padding cannot be told; {hint}"))
    for number in range(len(messages)):
        source, target = places.get(f"broker[{number}].from"), places.get(f"broker[{number}].to")
        if source is None or target is None:
            continue
        if seen[source].times[0] >= seen[target].times[0] > 0:
            message = f"{target} runs before {source}"
            hint = "; inputs run in the order of the config" if source.input and target.input else ""
            faults.append(Fault(f"broker[{number}].to", message + hint))
    if faults:
        raise UserError(*faults)
    return shapes


def build_broker(
    network: Any,
    layers: Layers,
    messages: Sequence[MessageConfig],
    adversaries: Sequence[AdversaryConfig],
    outputs: Mapping[str, Any],
    shapes: Shapes,
) -> Broker:
    """The broker of a network, connected to its layers.

    Args:
        network: whose broker it is going to be.
        layers: by public name.
        messages: of the experiment.
        adversaries: of the experiment.
        outputs: fitted, by name.
        shapes: by layer and side.

    Raises:
        UserError: projections and fusions that do not fit shapes.
    """
    faults: list[Fault] = []
    found: list[Message] = []
    for number, config in enumerate(messages):
        source, target = (
            Place(found_layer(name, layers), side)
            for name, side in ((config.source, config.at), (config.to, config.into))
        )
        try:
            found.append(Message(number, config, source, shapes[_key(source)], target, shapes[_key(target)]))
        except ValueError as error:
            faults.append(Fault(f"broker[{number}]", str(error)))
    opponents = []
    for number, own in enumerate(adversaries):
        source = Place(found_layer(own.source, layers), own.at)
        if own.output is not None:
            head = outputs[own.output].build_head
            opponents.append(Adversary(number, own, source, shapes[_key(source)], head=head))
        else:
            predicted = Place(found_layer(own.predict, layers), "output")
            shape = shapes[_key(predicted)]
            opponents.append(Adversary(number, own, source, shapes[_key(source)], predicted, shape))
    if faults:
        raise UserError(*faults)
    broker = Broker(found, opponents)
    unpack(layers, [place for part in broker.parts for place, _ in part.shapes()])
    broker.connect(network, layers)
    return broker


def unpack(layers: Layers, places: Mapping[Place, Any] | Sequence[Place]) -> None:
    """Have texts keep their padding where layers within their models are connected: rows must be told apart."""
    for part in {place.part for place in places if not place.is_encoder}:
        for module in layers[part].modules() if part in layers else ():
            if getattr(module, "pack", False) is True:
                module.pack = False  # type: ignore[assignment]


def _wanted(
    messages: Sequence[MessageConfig], adversaries: Sequence[AdversaryConfig]
) -> Iterator[tuple[str, str, str]]:
    """The config path, layer and side of all that is connected."""
    for number, message in enumerate(messages):
        yield f"broker[{number}].from", message.source, message.at
        yield f"broker[{number}].to", message.to, message.into
    for number, adversary in enumerate(adversaries):
        yield f"adversaries[{number}].from", adversary.source, adversary.at
        if adversary.output is None:
            yield f"adversaries[{number}].predict", adversary.predict, "output"


def _observe(network: Any, layers: Layers, seen: dict[Place, Seen], batches: Sequence[Mapping[str, Any]]) -> None:
    observer, handles = _Observer(seen), []
    for place in seen:
        if not place.is_encoder:
            handles.append(hook(layers[place.layer], place.side, _Note(observer, place)))
            if place.side == "input":
                uncalled = _Uncalled(observer, place)
                handles.append(layers[place.layer].register_forward_pre_hook(uncalled, with_kwargs=True))
    training = network.training
    network.broker = observer
    network.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            for batch in batches:
                for own in seen.values():
                    own.calls.append(0)
                    own.times.append(0)
                    own.shapes.append(None)
                network.run(batch)
    finally:
        network.broker = None
        network.train(training)
        for handle in handles:
            handle.remove()


def _shape(place: Place, seen: Seen, batches: Sequence[Mapping[str, Any]], network: Any) -> Shape:
    """The shape of one row; raises `ValueError` where there is none, or several."""
    if not all(seen.calls):
        raise ValueError("does not run in a forward pass; name a layer within it or around it")
    if max(seen.calls) > 1:
        raise ValueError(f"runs {max(seen.calls)} times in a forward pass; name a layer that runs once")
    found = [shape for shape in seen.shapes if shape is not None]
    verb = "gives" if place.side == "output" else "reads"
    if len(found) < len(batches):
        raise ValueError(f"{verb} no tensor of numbers; name a layer within it or around it")
    if any(len(shape) < 2 or shape[0] != len(batch["id"]) for shape, batch in zip(found, batches, strict=True)):
        listed = " x ".join(map(str, found[0]))
        raise ValueError(f"{verb} a tensor of shape {listed} for {len(batches[0]['id'])} rows")
    if len({len(shape) for shape in found}) > 1:
        raise ValueError(f"{verb} tensors with different numbers of axes")
    sizes = [None if len(set(axis)) > 1 else axis[0] for axis in zip(*(shape[1:] for shape in found), strict=True)]
    if len(sizes) == 2 and sizes[0] is not None and _is_text(place, found, batches, network):
        sizes[0] = None
    if any(size is None and not (len(sizes) == 2 and axis == 0) for axis, size in enumerate(sizes)):
        shown = " and ".join(" x ".join(map(str, shape[1:])) for shape in found)
        raise ValueError(f"{verb} tensors whose shape varies with the rows ({shown})")
    return Shape(tuple(sizes))


def _is_text(
    place: Place, shapes: Sequence[tuple[int, ...]], batches: Sequence[Mapping[str, Any]], network: Any
) -> bool:
    """Whether positions are those of tokens, whose number may vary with other rows."""
    section, _, name = place.part.partition(".")
    if section == "outputs":
        return name in network.token_inputs or name in network.state_inputs
    masks: list[Tensor | None] = [batch["inputs"].get(place.input or "", {}).get("attention_mask") for batch in batches]
    return any(mask is not None and shape[1] == mask.shape[1] for shape, mask in zip(shapes, masks, strict=True))


def _has_mask(place: Place, seen: Seen, batches: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it is known which positions are real: those of the tokens of the input, or of its states."""
    if place.input is None or place.is_encoder:
        return place.is_encoder
    for shape, batch in zip(seen.shapes, batches, strict=True):
        mask = batch["inputs"].get(place.input, {}).get("attention_mask")
        if shape is None or mask is None or mask.shape != shape[:2]:
            return False
    return True


def _key(place: Place) -> str:
    return f"{place.layer}:{place.side}"
