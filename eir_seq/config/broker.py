"""Tensors that travel between layers: messages, and adversaries that take information out of a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ConfigDict, Field

from eir_seq.config.kinds import MessageFusionConfig, ProjectionConfig
from eir_seq.config.messages import AutoProjectionConfig, GatedSumConfig, Probability
from eir_seq.config.optimization import Warmup
from eir_seq.config.outputs import HeadOutputBase
from eir_seq.config.strict import Positive, Strict
from eir_seq.errors import Fault, nearest

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections

Side = Literal["input", "output"]
Layer = Annotated[str, Field(min_length=1)]


class MessageConfig(Strict):
    """A tensor of one layer, projected to the shape of another layer's and fused with that."""

    model_config = ConfigDict(serialize_by_alias=True)

    source: Layer = Field(
        alias="from",
        description="layer whose tensor is sent: inputs.NAME, fusion, outputs.NAME, or a module within; * stands for "
        "any text where one module fits",
    )
    at: Side = Field("output", description="whether what that layer gives or what it reads is sent")
    to: Layer = Field(description="layer that gets the message, named likewise; it runs later in a forward pass")
    into: Side = Field("input", description="whether the message is fused with what that layer reads or gives")
    projection: ProjectionConfig = Field(
        AutoProjectionConfig(), description="how the tensor comes to the shape of its target"
    )
    fusion: MessageFusionConfig = Field(GatedSumConfig(), description="how the message joins what is there")
    dropout: Probability = Field(0.0, description="share of the training rows that get no message")


class AdversaryConfig(Strict):
    """A small network that predicts something from a layer whose gradient it reverses, so that the layer forgets it.

    Ganin et al. 2016, "Domain-adversarial training of neural networks", arXiv:1505.07818.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    source: Layer = Field(alias="from", description="layer that is to carry no information about `predict`")
    at: Side = Field("output", description="whether that is what the layer gives or what it reads")
    predict: Layer = Field(
        description="what is predicted: the targets of outputs.NAME by its loss, or what another layer gives, by the "
        "mean squared error"
    )
    weight: float = Field(1.0, gt=0, le=1000, description="factor on the reversed gradient, after the warm-up")
    warmup: Warmup = Field(
        5000,
        description="steps (integer) or fraction of all steps over which the factor rises, as 2 / (1 + exp(-10 p)) - 1",
    )
    probe: bool = Field(
        True,
        description="the head of outputs.NAME learns from what it reads without changing it: its metrics then tell "
        "what is left; false: it is an output as any other",
    )
    hidden_size: Positive = Field(128, description="width of its hidden layers")
    num_layers: Positive = Field(1, description="hidden layers")
    dropout: Probability = Field(0.0, description="dropout after each of them")

    @property
    def output(self) -> str | None:
        """The output whose targets are predicted; None for a layer."""
        section, _, name = self.predict.partition(".")
        return name if section == "outputs" and "." not in name and name else None


def connected_inputs(messages: Sequence[MessageConfig], adversaries: Sequence[AdversaryConfig]) -> list[str]:
    """The inputs in whose encoders messages and adversaries have an end, each once."""
    layers = [layer for message in messages for layer in (message.source, message.to)]
    layers += [layer for adversary in adversaries for layer in (adversary.source, adversary.predict)]
    names = [layer.split(".")[1] for layer in layers if layer.startswith("inputs.")]
    return [name for name in dict.fromkeys(names) if "*" not in name]


def broker_faults(sections: Sections) -> Iterator[Fault]:
    """Layers in parts that do not exist, and what cannot be combined."""
    for number, message in enumerate(sections.broker):
        place = f"broker[{number}]"
        found = [
            *_part_faults(f"{place}.from", message.source, sections),
            *_part_faults(f"{place}.to", message.to, sections),
        ]
        yield from found
        if message.source == message.to and message.at == message.into:
            yield Fault(f"{place}.to", "is where the message comes from")
        if message.to.count(".") == 1 and message.to.startswith("inputs.") and message.into == "input":
            hint = "name a layer within it, or into: output"
            yield Fault(f"{place}.to", f"{message.to} reads what is in the rows; {hint}")
        if not found:
            yield from _writing_faults(place, message.to, sections)
        attends, keeps = message.fusion.ATTENDS, message.projection.KEEPS_POSITIONS
        if keeps and not attends:
            yield Fault(f"{place}.projection", f"{message.projection.type!r} needs fusion: cross-attention")
        if attends and not keeps and message.projection.type != "auto":
            yield Fault(f"{place}.projection", f"{message.fusion.type!r} attends to a 'sequence'")
    for number, adversary in enumerate(sections.adversaries):
        yield from _adversary_faults(f"adversaries[{number}]", adversary, sections)
    if sections.trainer is not None and sections.trainer.compile and (sections.broker or sections.adversaries):
        what = " and ".join(name for name in ("broker", "adversaries") if getattr(sections, name))
        reason = "torch.compile does not trace what their hooks do between layers"
        yield Fault("trainer.compile", f"cannot be combined with {what}: {reason}")


def _adversary_faults(place: str, adversary: AdversaryConfig, sections: Sections) -> Iterator[Fault]:
    yield from _part_faults(f"{place}.from", adversary.source, sections)
    yield from _part_faults(f"{place}.predict", adversary.predict, sections)
    if adversary.source == adversary.predict:
        yield Fault(f"{place}.predict", "is what the adversary reads")
    if adversary.output is None:
        if not adversary.probe:
            yield Fault(f"{place}.probe", "has no effect where a layer is predicted")
    elif (output := sections.outputs.get(adversary.output)) is not None:
        own = output.reads_tokens or output.own_inputs(sections.input_names)
        if own or not isinstance(output, HeadOutputBase) or not output.has_row_losses:
            message = f"outputs.{adversary.output} ({output.type}) has no targets of whole rows"
            yield Fault(f"{place}.predict", f"{message} that a small network could predict")
        weighting = None if sections.trainer is None else sections.trainer.loss_weighting.type
        if adversary.probe and weighting == "gradnorm":
            message = "'gradnorm' needs a layer that all outputs share, and a probe shares none; set probe: false"
            yield Fault(f"{place}.probe", message)
        inside = adversary.source.startswith(f"{adversary.predict}.") or adversary.source == adversary.predict
        if inside:
            yield Fault(f"{place}.from", f"is in the head of {adversary.predict} itself")


def _part_faults(place: str, layer: str, sections: Sections) -> Iterator[Fault]:
    """A layer in no part of the network."""
    part, _, rest = layer.partition(".")
    name = rest.partition(".")[0]
    known = {"inputs": sections.input_names, "outputs": sections.output_names}
    parts = [*(f"{section}.{name}" for section, names in known.items() for name in names), "fusion"]
    sharing = {name for other, config in sections.inputs.items() if config.share for name in (other, config.share)}
    if part == "inputs" and name in sharing and "." in rest:
        message = f"{layer!r} is a layer of an encoder that several inputs share, which runs for each of them"
        yield Fault(place, f"{message}; name inputs.{name} itself")
    if part == "fusion" or name in known.get(part, ()) or (part in known and "*" in name):
        return
    named = f"{part}.{name}" if part in known else layer
    yield Fault(place, f"{layer!r} is in none of {', '.join(parts)}{nearest(named, parts)}")


def _writing_faults(place: str, layer: str, sections: Sections) -> Iterator[Fault]:
    """A message into a language model that reads and writes by itself when its texts are predicted."""
    for name, output in sections.outputs.items():
        source = sections.token_inputs.get(name)
        writes = output.pretrains or output.completes or output.generation_options is not None
        if source is not None and writes and (layer == f"inputs.{source}" or layer.startswith(f"inputs.{source}.")):
            reason = f"outputs.{name} writes by inputs.{source} alone, without the rest of the network"
            yield Fault(f"{place}.to", f"{reason}; a seq2seq_lm output with a model of its own takes messages")
        if getattr(output, "generates", False) and layer.startswith(f"outputs.{name}"):
            reason = f"outputs.{name} is drawn in many steps, which run without the rest of the network"
            yield Fault(f"{place}.to", f"{reason}; send the message to what it reads: to: fusion, into: output")
