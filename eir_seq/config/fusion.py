"""How the features of several inputs become one vector, as typed data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from eir_seq.config.strict import Name, Positive, Strict, ignored
from eir_seq.errors import Fault, nearest

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections

Probability = Annotated[float, Field(ge=0, lt=1)]


class FusionBase(Strict):
    """What every fusion has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:Class`` of the `eir_seq.fusion.Fusion`, called as ``(config, sizes, outputs)``."""

    if TYPE_CHECKING:
        type: str

    @property
    def reads_states(self) -> bool:
        """Whether it reads the states of inputs (tokens, patches, columns), not one vector of each."""
        return False

    def chosen(self, inputs: Sequence[str]) -> FusionBase:
        """The fusion that it stands for where these are the inputs: itself, but for `auto`."""
        del inputs
        return self

    def read(self, inputs: Sequence[str]) -> list[str]:
        """Of these inputs those that any output gets something of."""
        return list(inputs)

    def describe(self, inputs: Sequence[str]) -> str:
        """For people: its type, and that of the fusion that it stands for."""
        chosen = self.chosen(inputs)
        return self.type if chosen is self else f"{chosen.type} (by {self.type})"

    def faults(self, sections: Sections) -> Iterator[Fault]:
        """What its options demand of each other and of the rest of the experiment."""
        del sections
        yield from ()


class ConcatFusionConfig(FusionBase):
    """The features of all inputs side by side."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.layers:ConcatFusion"

    type: Literal["concat"] = "concat"


class IdentityFusionConfig(FusionBase):
    """The features of all inputs side by side, as `concat`."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.layers:ConcatFusion"

    type: Literal["identity"] = "identity"


class LinearFusionConfig(FusionBase):
    """One linear layer on the features of all inputs side by side."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.layers:LinearFusion"

    type: Literal["linear"] = "linear"
    hidden_size: Positive | None = Field(None, description="width of the fused features; that of all inputs if absent")
    dropout: Probability = Field(0.0, description="dropout of the fused features")


class PassThroughFusionConfig(FusionBase):
    """Each output reads the features of one input."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.layers:PassThroughFusion"

    type: Literal["pass-through"] = "pass-through"
    inputs: dict[Name, Name] = Field(
        default_factory=dict, description="by output, the input that it reads; not needed where there is only one"
    )

    def read(self, inputs: Sequence[str]) -> list[str]:
        """Those that are named."""
        return [name for name in inputs if not self.inputs or name in self.inputs.values()]

    def faults(self, sections: Sections) -> Iterator[Fault]:
        """Outputs and inputs that do not exist, and outputs of which it is not said what they read."""
        own = {name for name, output in sections.outputs.items() if output.own_inputs(sections.input_names)}
        reading = [name for name in sections.output_names if name not in {*own, *sections.token_inputs}]
        for output, source in self.inputs.items():
            if output not in sections.output_names:
                message = f"{output!r} is not an output (there are: {', '.join(map(repr, sections.output_names))})"
                yield Fault("fusion.inputs", message + nearest(output, sections.output_names))
            elif output not in reading:
                yield Fault(f"fusion.inputs.{output}", "has no effect: the output reads the tokens of its own input")
            if source not in sections.input_names:
                message = f"{source!r} is not an input (there are: {', '.join(map(repr, sections.input_names))})"
                yield Fault(f"fusion.inputs.{output}", message + nearest(source, sections.input_names))
        silent = [name for name in reading if name not in self.inputs]
        if silent and len(sections.input_names) > 1:
            listed, example = ", ".join(sections.input_names), f"{{{silent[0]}: {sections.input_names[0]}}}"
            message = f"does not say which input outputs.{', outputs.'.join(silent)} read; name one of {listed}"
            yield Fault("fusion.inputs", f"{message}, as in {example}")


class ResidualFusionBase(FusionBase):
    """What every fusion of residual blocks has."""

    num_layers: Positive = Field(2, description="residual blocks")
    hidden_size: Positive | None = Field(
        None, description="width of the fused features; that of all inputs, but 256 at most, if absent"
    )
    dropout: Probability = Field(0.1, description="dropout in each block, wherever no option of its own says another")
    input_dropout: Probability = Field(0.0, description="dropout of the features that are fused")
    hidden_dropout: Probability | None = Field(
        None, description="dropout between the two linear layers of a block; `dropout` if absent"
    )
    branch_dropout: Probability | None = Field(
        None, description="dropout of what a block adds to its input; `dropout` if absent"
    )
    output_dropout: Probability = Field(0.0, description="dropout of the fused features")
    output_norm: bool = Field(
        False, description="normalise the fused features; slows learning where those of all rows are much alike"
    )
    stochastic_depth: Probability = Field(0.1, description="probability of leaving a block out in training")


class MlpResidualFusionConfig(ResidualFusionBase):
    """Residual feed-forward blocks on the concatenated features."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.layers:MlpResidualFusion"

    type: Literal["mlp-residual"] = "mlp-residual"


class AutoFusionConfig(ResidualFusionBase):
    """One input: its features as they are. Several, or any of these options: `mlp-residual`."""

    IMPLEMENTATION: ClassVar[str] = MlpResidualFusionConfig.IMPLEMENTATION

    type: Literal["auto"] = "auto"

    def chosen(self, inputs: Sequence[str]) -> FusionBase:
        """`concat` for one input where no option is set, else `mlp-residual`."""
        if len(inputs) == 1 and self == type(self)():
            return ConcatFusionConfig()
        return MlpResidualFusionConfig(**self.model_dump(exclude={"type"}))


class MlpResidualSumFusionConfig(ResidualFusionBase):
    """Residual feed-forward blocks on the sum of the inputs, each normalised and projected."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.layers:MlpResidualSumFusion"

    type: Literal["mlp-residual-sum"] = "mlp-residual-sum"
    hidden_size: Positive | None = Field(
        None, description="width of the fused features; that of the widest input, but 256 at most, if absent"
    )


class TransformerFusionBase(FusionBase):
    """What every fusion by attention has."""

    num_layers: Positive = Field(1, description="transformer layers")
    hidden_size: Positive | None = Field(
        None, description="width of the tokens; that of the widest input, but 256 at most, if absent"
    )
    num_heads: Positive = Field(8, description="attention heads; they divide hidden_size")
    feed_forward_size: Positive | None = Field(
        None, description="width inside of feed-forward layers; 4 times hidden_size if absent"
    )
    dropout: Probability = Field(0.1, description="dropout in each layer")
    output_norm: bool = Field(
        False, description="normalise what the layers give; slows learning where that of all rows is much alike"
    )
    project_always: bool = Field(
        False, description="project inputs by a linear layer even where they are as wide as the tokens"
    )


class AttentionFusionConfig(TransformerFusionBase):
    """A small transformer over one token per input, or over all states of all inputs."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.attention:AttentionFusion"

    type: Literal["attention"] = "attention"
    over: Literal["vectors", "states"] = Field(
        "vectors",
        description="what the tokens are: one vector per input, or the states of its tokens, patches, columns",
    )
    pool: Literal["attention", "avg", "summary"] = Field(
        "attention",
        description="what the fused features are: attention pooling by a learned query, the mean over all tokens, or a "
        "learned token in front (summary)",
    )

    @property
    def reads_states(self) -> bool:
        """Whether the tokens are states."""
        return self.over == "states"


class CrossAttentionFusionConfig(TransformerFusionBase):
    """Late fusion: the states of one input attend to those of the others."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.attention:CrossAttentionFusion"

    type: Literal["cross-attention"] = "cross-attention"
    query: Name | None = Field(
        None, description="the input whose states attend to those of the others; the first if absent"
    )
    pool: Literal["attention", "avg"] = Field(
        "attention", description="what the fused features are: attention pooling by a learned query, or the mean"
    )

    @property
    def reads_states(self) -> bool:
        """Always."""
        return True

    def faults(self, sections: Sections) -> Iterator[Fault]:
        """A query that is no input, or alone."""
        if self.query is not None and self.query not in sections.input_names:
            message = f"{self.query!r} is not an input (there are: {', '.join(map(repr, sections.input_names))})"
            yield Fault("fusion.query", message + nearest(self.query, sections.input_names))
        elif len(sections.input_names) == 1:
            yield Fault("fusion.type", "'cross-attention' needs a second input that the first can attend to")


class GatedExpertsFusionConfig(FusionBase):
    """Experts shared by all outputs, mixed by one gate per output (MMoE)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.fusion.layers:GatedExpertsFusion"

    type: Literal["gated-experts"] = "gated-experts"
    num_experts: Positive = Field(8, description="experts that all outputs share")
    hidden_size: Positive = Field(64, description="width of each expert")
    num_layers: int = Field(0, ge=0, description="residual blocks of each expert, after its two linear layers")
    dropout: Probability = Field(0.1, description="dropout in each expert")
    stochastic_depth: Probability = Field(0.0, description="probability of leaving a block out in training")
    output_dropout: Probability = Field(0.0, description="dropout of the fused features")

    def faults(self, sections: Sections) -> Iterator[Fault]:
        """Options without effect."""
        del sections
        if self.num_layers == 0:
            yield from ignored("fusion", self, "stochastic_depth", "without blocks (fusion.num_layers)")


def of_earlier_version(fusion: Mapping[str, Any], inputs: Sequence[str]) -> Mapping[str, Any]:
    """The section of a stored config with the keys that say what an earlier version did where it had none.

    Args:
        fusion: the section, as plain data.
        inputs: that are fused, by name.

    Example:
        >>> of_earlier_version({"type": "attention", "num_layers": 1}, ["text"])
        {'pool': 'summary', 'num_layers': 1, 'output_norm': True, 'project_always': True, 'type': 'attention'}
    """
    kind = fusion.get("type")
    if kind in ("attention", "cross-attention"):
        pool = {"pool": "summary"} if kind == "attention" else {}
        return {**pool, "num_layers": 2, "output_norm": True, "project_always": True, **fusion}
    normed = {config.model_fields["type"].default for config in (MlpResidualFusionConfig, MlpResidualSumFusionConfig)}
    concatenated = kind == "auto" and len(inputs) == 1 and fusion == AutoFusionConfig().model_dump(include=set(fusion))
    if kind in (*normed, "auto") and not concatenated:
        return {"output_norm": True, **fusion}
    return fusion
