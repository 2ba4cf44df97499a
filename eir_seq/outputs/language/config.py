"""What outputs share that learn from texts alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from eir_seq.config.metrics import LOSS, PERPLEXITY, Metric
from eir_seq.config.outputs import DocumentLayout, GeneratingOutputBase, TokenOutputBase
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections
    from eir_seq.modalities.sequence.config import SequenceInputConfig


class CorruptedOutputBase(TokenOutputBase):
    """What every output has that learns from the texts of an input alone, by restoring what was changed in them."""

    TASK: ClassVar[str]
    """The task whose head the backbone has."""
    FILLS: ClassVar[bool] = True

    @property
    def pretrains(self) -> bool:
        """A run publishes the backbone."""
        return True

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Other outputs alongside it, a backbone without the head, texts that cannot be corrupted so."""
        from eir_seq.outputs.language.rules import standalone_faults

        yield from standalone_faults(sections, name, self.type)
        yield from self.own_faults(f"outputs.{name}")
        here, source = sections.token_inputs[name], sections.text_of(name)
        if source is not None:
            yield from self.backbone_faults(source, f"inputs.{here}.model.model_type", f"outputs.{name}")
            yield from self.text_faults(sections, source, f"inputs.{here}", f"outputs.{name}")

    def own_faults(self, output: str) -> Iterator[Fault]:
        """Options that contradict each other."""
        del output
        yield from ()

    def backbone_faults(self, source: SequenceInputConfig, place: str, output: str) -> Iterator[Fault]:
        """A backbone, named at `place`, that cannot learn this."""
        from eir_seq.outputs.language.rules import missing_head_faults

        del output
        yield from missing_head_faults(source.model, place, self.TASK)

    def text_faults(self, sections: Sections, source: SequenceInputConfig, place: str, output: str) -> Iterator[Fault]:
        """Texts of the input at `place` that cannot be corrupted so."""
        raise NotImplementedError


class MaskedOutputBase(CorruptedOutputBase):
    """What outputs have that hide single tokens."""

    mask_probability: float = Field(0.15, gt=0, lt=1, description="fraction of a text's tokens that are selected")
    whole_words: bool = Field(False, description="mask all tokens of a word together")
    mean_span_length: float = Field(1.0, ge=1, description="mean length of masked spans in tokens; 1: single tokens")
    documents: DocumentLayout | None = Field(
        None,
        description="as of causal_lm, full blocks of max_length tokens; by default one text per row, as other inputs",
    )

    @property
    def layout(self) -> DocumentLayout | None:
        """How texts are laid out in rows; None for one text per row."""
        return self.documents

    def text_faults(self, sections: Sections, source: SequenceInputConfig, place: str, output: str) -> Iterator[Fault]:
        """Which tokens are hidden, and how texts are laid out in rows."""
        from eir_seq.config.tokenizers import ByteTokenizerConfig, CharacterTokenizerConfig, WordTokenizerConfig
        from eir_seq.outputs.language.rules import block_faults

        if self.whole_words and self.mean_span_length > 1:
            yield Fault(f"{output}.mean_span_length", "has no effect with whole_words: true")
        kinds = WordTokenizerConfig | CharacterTokenizerConfig | ByteTokenizerConfig
        single = source.tokenizer is None and not source.model.pretrained_model
        if self.whole_words and not source.is_split_into_words and (single or isinstance(source.tokenizer, kinds)):
            kind = "word" if source.tokenizer is None else source.tokenizer.type
            message = f"has no use with a {kind!r} tokenizer, which does not cut words into subwords"
            yield Fault(f"{output}.whole_words", message)
        if self.documents is None:
            return
        if sections.layout is None or source.pair_column is not None:
            reason = "rows hold what other tensors, inputs and columns need and cannot be cut into blocks of tokens"
            yield Fault(f"{output}.documents", f"{self.documents!r} is for single texts alone; {reason}")
        else:
            yield from block_faults(source, place)


class RestoredOutputBase(CorruptedOutputBase, GeneratingOutputBase):
    """What outputs have by which an encoder-decoder writes what was taken out of a text."""

    METRICS: ClassVar[tuple[Metric, ...]] = (LOSS, PERPLEXITY)
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = (("perplexity", "loss"),)
    TASK: ClassVar[str] = "seq2seq-lm"

    mean_span_length: float = Field(3.0, ge=1, description="mean length of a masked span in tokens")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target spread over the whole vocabulary, in training only"
    )
    generation: dict[str, Any] = Field(default_factory=dict, description="how `predict` writes: options of generate")

    def text_faults(self, sections: Sections, source: SequenceInputConfig, place: str, output: str) -> Iterator[Fault]:
        """What belongs to words and pairs would no longer fit a text."""
        del sections, output
        reason = f"must be left out: a {self.type} output takes parts out of one text"
        if source.pair_column is not None:
            yield Fault(f"{place}.pair_column", reason)
        if source.is_split_into_words:
            yield Fault(f"{place}.is_split_into_words", reason)
        yield from (Fault(f"{place}.tensors.{kind}", reason) for kind in source.tensors.given())
