"""What an experiment may say about a sequence-to-sequence output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.config.column_types import ColumnType
from eir_seq.config.kinds import TokenizerConfig
from eir_seq.config.metrics import LOSS, PERPLEXITY, Metric
from eir_seq.config.outputs import ColumnOutputBase, GeneratingOutputBase, TargetText
from eir_seq.config.strict import Name, ignored
from eir_seq.errors import Fault, nearest

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class Seq2SeqLmOutputConfig(GeneratingOutputBase, ColumnOutputBase):
    """A text: a translation or a summary by the decoder of the input's backbone, or one that its own decoder
    (`model`) writes from any inputs."""

    COLUMN_TYPE: ClassVar[ColumnType] = ColumnType.TEXT
    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.seq2seq_lm.output:Seq2SeqLm"
    REPORT: ClassVar[str] = "eir_seq.outputs.seq2seq_lm.report:section"
    METRICS: ClassVar[tuple[Metric, ...]] = (
        LOSS,
        PERPLEXITY,
        Metric("bleu", "BLEU", "max", "BLEU and chrF", aliases=("sacrebleu", "bleu_score")),
        Metric("chrf", "chrF", "max", "BLEU and chrF", aliases=("chrf2",)),
        Metric("rouge1", "ROUGE-1", "max", aliases=("rouge_1",)),
        Metric("rouge2", "ROUGE-2", "max", aliases=("rouge_2",)),
        Metric("rougeL", "ROUGE-L", "max", aliases=("rouge", "rouge_l")),
        Metric("rougeLsum", "ROUGE-L by lines", "max", aliases=("rouge_lsum",)),
        Metric("exact_match", "Exact match", "max", aliases=("em", "exact", "sequence_accuracy")),
    )
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("bleu", "chrf", "rougeL", "exact_match", "perplexity"),
        ("perplexity", "loss"),
    )
    TARGET: ClassVar[str] = "text"
    UNLABELLED: ClassVar[str] = "there is no loss, and the others alone are compared"
    OF_TOKENS: ClassVar[tuple[str, ...]] = ("loss", "perplexity")
    """Metrics that no text has to be written for."""

    type: Literal["seq2seq_lm"] = "seq2seq_lm"
    model: SequenceModelConfig | None = Field(
        None,
        description="its own decoder, which attends to the states of the inputs: an encoder-decoder of the "
        "catalogue, of which the encoder is left out, or a causal model with cross-attention; by default the "
        "backbone of the sequence input writes",
    )
    inputs: list[Name] | None = Field(None, min_length=1, description="inputs that `model` attends to; by default all")
    tokenizer: TokenizerConfig | None = Field(
        None, description="of what `model` writes; by default words, with a pretrained model the published one"
    )
    max_length: int = Field(
        512, ge=3, description="tokens per target, special tokens included; longer ones are truncated"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target spread over the whole vocabulary, in training only"
    )
    generation: dict[str, Any] = Field(
        default_factory=dict,
        description="how texts are generated, in evaluations and by `predict`: options of generate; "
        "max_new_tokens is by default the length of the longest training target",
    )
    generate_rows: int = Field(
        200, ge=0, description="evenly spaced validation rows for which texts are generated at each evaluation; 0: none"
    )
    bleu_tokenizer: Literal["13a", "intl", "zh", "char", "none"] = Field(
        "13a", description="tokenization for BLEU: as in mteval, by Unicode, for Chinese, ..."
    )

    @property
    def reads_tokens(self) -> bool:
        """Whether the backbone of an input writes."""
        return self.model is None

    def state_inputs(self, inputs: Sequence[str]) -> Sequence[str]:
        """What its own decoder attends to."""
        if self.model is None:
            return ()
        return list(inputs) if self.inputs is None else self.inputs

    @property
    def own_model(self) -> SequenceModelConfig | None:
        """Its decoder."""
        return self.model

    @property
    def writes_texts(self) -> bool:
        """It always does."""
        return True

    @property
    def target_text(self) -> TargetText | None:
        """The column of the targets, and their longest length, where the backbone of an input writes."""
        return self if self.model is None else None

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Other outputs next to one with an exclusive backbone, no decoder, metrics of texts that nothing generates."""
        from eir_seq.outputs.language.rules import missing_head_faults, standalone_faults

        if self.model is None:
            yield from standalone_faults(sections, name, self.type)
            yield from ignored(f"outputs.{name}", self, "inputs tokenizer", "without its own model")
            here = sections.token_inputs[name]
            source = sections.inputs.get(here)
            if source is not None and source.backbone is not None:
                yield from missing_head_faults(source.backbone, f"inputs.{here}.model.model_type", "seq2seq-lm")
        else:
            yield from self._decoder_faults(name, self.model, sections)
        if self.generate_rows == 0 and sections.trainer is not None:
            monitor = sections.trainer.monitor
            if monitor.metric in self.metrics() and monitor.metric not in self.OF_TOKENS:
                message = f"{monitor.metric!r} is measured on written texts; outputs.{name}.generate_rows is 0"
                yield Fault("trainer.monitor.metric", message)

    def preflight(self, place: str) -> Iterator[Fault]:
        """What its own model and tokenizer need."""
        from eir_seq.modalities.sequence.config import tokenizer_preflight

        if self.model is not None:
            yield from self.model.preflight(f"{place}.model")
            yield from tokenizer_preflight(place, self.model, self.tokenizer)

    def _decoder_faults(self, name: str, model: SequenceModelConfig, sections: Sections) -> Iterator[Fault]:
        from eir_seq.outputs.language.rules import missing_decoder_faults

        place = f"outputs.{name}"
        for number, source in enumerate(self.inputs or ()):
            if source not in sections.input_names:
                listed = ", ".join(map(repr, sections.input_names))
                message = f"{source!r} is no input (there are: {listed}){nearest(source, sections.input_names)}"
                yield Fault(f"{place}.inputs[{number}]", message)
        yield from ignored(place, self, "input", "with its own model; `inputs` names what it attends to")
        for source in sorted({source for source in self.inputs or () if (self.inputs or []).count(source) > 1}):
            yield Fault(f"{place}.inputs", f"names {source!r} twice")
        yield from missing_decoder_faults(model, f"{place}.model.model_type")
        yield from model.faults(f"{place}.model")
        yield from ignored(f"{place}.model", model, "pool pretrained_parts", "on the decoder of an output")
        if model.lora is not None and not model.lora.merge:
            message = "must be true on the decoder of an output, whose bundle holds the merged weights"
            yield Fault(f"{place}.model.lora.merge", message)
        if self.tokenizer is not None:
            yield from self.tokenizer.faults(f"{place}.tokenizer")
