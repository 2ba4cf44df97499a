"""What an experiment may say about a causal language model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from eir_seq.config.metrics import LOSS, PERPLEXITY, Metric
from eir_seq.config.outputs import DocumentLayout, GeneratingOutputBase
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class CausalLmOutputConfig(GeneratingOutputBase):
    """Each token of a sequence input from those before it, by the backbone's own language-model head."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.causal_lm.output:CausalLm"
    METRICS: ClassVar[tuple[Metric, ...]] = (
        LOSS,
        PERPLEXITY,
        Metric("bits_per_byte", "Bits per byte", "min", "bits per byte", aliases=("bpb", "bpc", "bits_per_character")),
    )
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = (("bits_per_byte", "perplexity", "loss"), ("perplexity", "loss"))
    COMPLETES: ClassVar[bool] = True

    type: Literal["causal_lm"] = "causal_lm"
    documents: DocumentLayout | None = Field(
        None,
        description="packed (default): all texts concatenated and cut into blocks of max_length tokens that may "
        "span texts; separate: blocks of one text only. Next to other outputs, rows are read as those need them",
    )
    prompts: list[str] = Field(
        default=[""],
        description="prompts of the texts that are generated at each evaluation; '' is the empty prompt",
    )
    generation: dict[str, Any] = Field(
        default={"max_new_tokens": 200, "do_sample": True},
        description="how texts are generated, there and by `predict`: options of generate; "
        "models from scratch write texts of max_length tokens at most",
    )

    @property
    def layout(self) -> DocumentLayout:
        """Blocks that may span texts, unless the config says otherwise."""
        return self.documents or "packed"

    @property
    def sample_prompts(self) -> list[str]:
        """Its `prompts`."""
        return self.prompts

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Blocks of tokens alongside other outputs, and inputs that a language model cannot read."""
        from eir_seq.outputs.language.rules import block_faults, headless

        inputs, layout = sections.token_inputs, sections.layout
        source = sections.text_of(name)
        models = [other for other, config in sections.outputs.items() if config.type == self.type]
        if [inputs[other] for other in models].count(inputs[name]) > 1:
            yield Fault(f"outputs.{name}.input", f"{inputs[name]!r} has two language models; one learns all there is")
        if (layout is None or len(sections.output_names) > 1) and self.documents is not None:
            reason = "rows hold what other tensors, inputs and outputs need and cannot be cut into blocks of tokens"
            yield Fault(f"outputs.{name}.documents", f"{self.documents!r} is for a language model alone; {reason}")
        if source is None:
            return
        place = f"inputs.{inputs[name]}"
        if source.pair_column is not None:
            yield Fault(f"{place}.pair_column", "a language model reads one text, not a pair")
        if layout is not None:
            yield from block_faults(source, place)
        yield from headless(source.model, f"{place}.model.model_type", "causal-lm")
