"""What an experiment may say about a sequence-to-sequence output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import ColumnType
from eir_seq.config.metrics import LOSS, PERPLEXITY, Metric
from eir_seq.config.outputs import ColumnOutputBase, GeneratingOutputBase, TargetText
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class Seq2SeqLmOutputConfig(GeneratingOutputBase, ColumnOutputBase):
    """A text written from that of a sequence input, by the backbone's own decoder: a translation, a summary."""

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
    def target_text(self) -> TargetText:
        """The column of the targets, and their longest length."""
        return self

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Other outputs beside it, a backbone without a decoder, metrics of texts that are not written."""
        from eir_seq.outputs.language.rules import alone, headless

        yield from alone(sections, name, self.type)
        here = sections.token_inputs[name]
        source = sections.inputs.get(here)
        if source is not None:
            yield from headless(source, f"inputs.{here}.model.model_type", "seq2seq-lm")
        if self.generate_rows == 0 and sections.trainer is not None:
            monitor = sections.trainer.monitor
            if monitor.metric in self.metrics() and monitor.metric not in self.OF_TOKENS:
                message = f"{monitor.metric!r} is measured on written texts; outputs.{name}.generate_rows is 0"
                yield Fault("trainer.monitor.metric", message)
