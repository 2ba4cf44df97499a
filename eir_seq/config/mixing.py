"""Mixing the rows of training batches in pairs, as typed data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from eir_seq.config.strict import Name, Strict, ignored
from eir_seq.errors import Fault, nearest

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections

Way = Literal["mixup", "cutmix-block", "cutmix-uniform"]
"""How two rows of an input become one."""


class MixingConfig(Strict):
    """Train on mixtures of two rows each, with the losses of both targets by their shares."""

    type: Literal["mixup", "cutmix", "cutmix-block", "cutmix-uniform", "manifold"] = Field(
        "mixup",
        description="mixup: weighted sums of inputs, of tokens and categories those of their embeddings; cutmix-block "
        "(or cutmix), cutmix-uniform: a block or single positions of the other row; manifold: weighted sums of what "
        "encoders or `layers` give",
    )
    alpha: float = Field(0.2, gt=0, le=1000, description="shares are drawn from the distribution Beta(alpha, alpha)")
    probability: float = Field(1.0, gt=0, le=1, description="share of the training rows that are mixed")
    inputs: dict[Name, Way] = Field(
        default_factory=dict, description="inputs that are mixed in another way than `type` says"
    )
    layers: list[str | list[str]] = Field(
        default_factory=list,
        description="manifold: layers whose outputs are mixed, by names such as inputs.NAME, inputs.NAME.layer.0 and "
        "fusion.blocks.0, or lists of layers that are mixed together; each batch draws one of them. What all encoders "
        "give if empty",
    )

    def way(self, name: str) -> Way:
        """How an input is mixed; not of `manifold`."""
        assert self.type != "manifold"
        return self.inputs.get(name, "cutmix-block" if self.type == "cutmix" else self.type)

    @property
    def groups(self) -> list[list[str]]:
        """Layers that are mixed together; empty where what all encoders give is mixed."""
        return [[entry] if isinstance(entry, str) else entry for entry in self.layers]

    def faults(self, sections: Sections) -> Iterator[Fault]:
        """Options without effect, unknown inputs, and outputs whose targets cannot be mixed."""
        place = "trainer.mixing"
        if self.type == "manifold":
            yield from ignored(place, self, "inputs", "with type 'manifold', which mixes no inputs")
        else:
            yield from ignored(place, self, "layers", f"with type {self.type!r} (manifold has it)")
        for name in self.inputs:
            if name not in sections.input_names:
                message = f"{name!r} is not an input (there are: {', '.join(map(repr, sections.input_names))})"
                yield Fault(f"{place}.inputs", message + nearest(name, sections.input_names))
        for group in self.groups:
            if not group:
                yield Fault(f"{place}.layers", "holds an empty list of layers")
            for layer in group:
                part, _, rest = layer.partition(".")
                name = rest.partition(".")[0]
                if part not in ("inputs", "fusion") or (part == "inputs" and name not in sections.input_names):
                    named = ", ".join(f"inputs.{name}" for name in sections.input_names)
                    yield Fault(f"{place}.layers", f"{layer!r} is in none of {named}, fusion")
        for name, config in sections.inputs.items():
            if config.share is not None and (self.type != "manifold" or self.layers):
                reason = f"inputs.{name} has the encoder of inputs.{config.share}, in which each would be mixed twice"
                yield Fault(place, f"{reason}; use type: manifold, without layers")
        for name, output in sections.outputs.items():
            read = sections.token_inputs.get(name) or ", inputs.".join(output.own_inputs(sections.input_names))
            if read and (self.type != "manifold" or self.layers):
                what = "compares rows" if output.vector_inputs(sections.input_names) else "reads the states"
                reason = f"outputs.{name} {what} of inputs.{read}"
                yield Fault(place, f"{reason}, which must stay as they are; use type: manifold, without layers")
            elif not read and not output.has_row_losses:
                yield Fault(place, f"the loss of outputs.{name} ({output.type}) is not defined for mixed targets")
        if sections.trainer is not None and sections.trainer.compile and (self.type != "manifold" or self.layers):
            yield Fault("trainer.compile", f"cannot be combined with {place} but for type: manifold, without layers")
        measured = sections.trainer is not None and sections.trainer.train_metrics
        if measured and self.probability == 1 and any(output.has_row_losses for output in sections.outputs.values()):
            message = f"needs rows that are not mixed; set {place}.probability below 1"
            yield Fault("trainer.train_metrics", message)
        whole = len(sections.outputs) == len(sections.output_names) > 0
        if whole and not any(output.has_row_losses for output in sections.outputs.values()):
            yield Fault(place, "has no effect: no output has targets that could be mixed")
