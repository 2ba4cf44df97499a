"""What an experiment may say about a causal language model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.metrics import LOSS, PERPLEXITY, Metric
from eir_seq.config.outputs import Conversation, DocumentLayout
from eir_seq.config.strict import ignored
from eir_seq.errors import Fault
from eir_seq.outputs.language.conversation_config import ANSWERS, WRITTEN, ConversationOutputBase

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class CausalLmOutputConfig(ConversationOutputBase):
    """Each token of a sequence input from those before it, by the backbone's own language-model head; or the answers
    in conversations: of prompts and responses, or of messages."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.causal_lm.output:CausalLm"
    REPORT: ClassVar[str] = "eir_seq.outputs.language.answers_report:section"
    METRICS: ClassVar[tuple[Metric, ...]] = (
        LOSS,
        PERPLEXITY,
        Metric("bits_per_byte", "Bits per byte", "min", "bits per byte", aliases=("bpb", "bpc", "bits_per_character")),
        Metric("exact_match", "Exact match", "max", aliases=("em", "exact")),
        Metric("rougeL", "ROUGE-L", "max", aliases=("rouge", "rouge_l")),
    )
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("exact_match", "rougeL", "perplexity", "loss"),
        ("bits_per_byte", "perplexity", "loss"),
        ("perplexity", "loss"),
    )
    TARGET: ClassVar[str] = "answer"
    UNLABELLED: ClassVar[str] = "they have no loss"

    type: Literal["causal_lm"] = "causal_lm"
    response: str | None = Field(None, description="column of the answer to prompt")
    train_on: Literal["answers", "last", "all"] = Field(
        "answers", description="what has a loss in conversations: all answers, the last one, or all tokens"
    )
    documents: DocumentLayout | None = Field(
        None,
        description="packed (default): all texts concatenated and cut into blocks of max_length tokens that may "
        "span texts; separate: blocks of one text only. Next to other outputs, rows are read as those need them. Of "
        "conversations, separate (default): one per row; packed: as many per training row as max_length tokens hold, "
        "which do not see each other",
    )
    prompts: list[str] = Field(
        default=[""],
        description="prompts of the texts that are generated at each evaluation; '' is the empty prompt. In "
        "conversations, what the user says; none by default",
    )
    generation: dict[str, Any] = Field(
        default={"max_new_tokens": 200, "do_sample": True},
        description="how texts are generated, there and by `predict`: options of generate; by default 200 sampled "
        "tokens, of an answer the most probable ones, 256 at most; models from scratch write texts of max_length "
        "tokens at most",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_conversations(cls, given: Any) -> Any:
        """Other defaults than those of texts."""
        if isinstance(given, Mapping) and (given.get("prompt") or given.get("messages")):
            return {"generation": ANSWERS, "prompts": [], **given}
        return given

    @property
    def conversation(self) -> Conversation | None:
        """Those of prompts and responses, or of messages."""
        if self.prompt is None and self.messages is None:
            return None
        answers = () if self.response is None else (self.response,)
        layout = self.documents or "separate"
        return Conversation(self.prompt, self.messages, answers, self.system, self.chat_template, self.train_on, layout)

    @property
    def completes(self) -> bool:
        """Where its texts are no conversations."""
        return self.conversation is None

    @property
    def layout(self) -> DocumentLayout | None:
        """Blocks that may span texts, unless the config says otherwise; conversations are no blocks."""
        return None if self.conversation is not None else self.documents or "packed"

    def columns(self) -> dict[str, Column]:
        """Of conversations what is answered, and the answer."""
        response = {} if self.response is None else {self.response: Column(ColumnType.TEXT, "response")}
        return {**response, **self.conversation_columns()}

    def unmeasured(self) -> dict[str, str]:
        """Metrics of written answers where there are none, bits per byte of conversations."""
        if self.conversation is None:
            return dict.fromkeys(WRITTEN, "without prompt and response, or messages")
        return {"bits_per_byte": "in conversations"}

    @property
    def sample_prompts(self) -> list[str]:
        """Its `prompts`."""
        return self.prompts

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Blocks of tokens alongside other outputs, and inputs that a language model cannot read."""
        from eir_seq.outputs.language.rules import block_faults, missing_head_faults

        if self.conversation is not None:
            yield from self._answer_faults(name, sections)
            return
        if self.response is not None:
            yield Fault(f"outputs.{name}.prompt", "is missing; name the column that `response` answers")
        unread = "system chat_template train_on generate_rows"
        yield from ignored(f"outputs.{name}", self, unread, "without prompt or messages")
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
        yield from missing_head_faults(source.model, f"{place}.model.model_type", "causal-lm")

    def _answer_faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """What conversations demand."""
        yield from self.conversation_faults(name, sections)
        if self.prompt is not None and self.response is None:
            yield Fault(f"outputs.{name}.response", "is missing; name the column of the answers")
        if self.messages is not None and self.response is not None:
            yield Fault(f"outputs.{name}.response", "cannot be combined with messages, which end with the answer")
        if self.prompt is not None and self.train_on == "last":
            yield Fault(f"outputs.{name}.train_on", "'last' has no effect with prompt: there is one answer")
