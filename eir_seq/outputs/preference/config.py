"""What an experiment may say about preferences between answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.metrics import LOSS, Metric
from eir_seq.config.outputs import Conversation
from eir_seq.errors import Fault
from eir_seq.outputs.language.conversation_config import ANSWERS, ConversationOutputBase

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class PreferenceOutputConfig(ConversationOutputBase):
    """Answers that are preferred to others, by direct preference optimization (Rafailov et al. 2023,
    arXiv:2305.18290) of a language model that answers already."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.preference.output:Preference"
    REPORT: ClassVar[str] = "eir_seq.outputs.language.answers_report:section"
    METRICS: ClassVar[tuple[Metric, ...]] = (
        LOSS,
        Metric(
            "accuracy",
            "Reward accuracy",
            "max",
            share_of_rows=True,
            aliases=("reward_accuracy", "rewards/accuracies", "acc"),
        ),
        Metric("margin", "Reward margin", "max", aliases=("reward_margin", "rewards/margins")),
        Metric("chosen_reward", "Reward of chosen answers", "max", aliases=("rewards/chosen",)),
        Metric("rejected_reward", "Reward of rejected answers", "min", aliases=("rewards/rejected",)),
    )
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = (("accuracy", "margin", "loss"),)
    TARGET: ClassVar[str] = "answer"
    UNLABELLED: ClassVar[str] = "they are not compared"

    type: Literal["preference"] = "preference"
    chosen: str = Field(description="column of the answer that is preferred")
    rejected: str = Field(description="column of the other answer")
    beta: float = Field(0.1, gt=0, description="how closely the model stays to that at the start; the scale of rewards")
    loss: Literal["sigmoid", "ipo"] = Field(
        "sigmoid", description="sigmoid: DPO; ipo: a squared error of the mean per token (arXiv:2310.12036)"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="share of pairs whose preference is taken to be wrong (arXiv:2306.16434)"
    )
    generate_rows: int = Field(
        20, ge=0, description="evenly spaced validation rows that are answered at each evaluation; 0: none"
    )
    generation: dict[str, Any] = Field(
        default=dict(ANSWERS), description="how answers are written, there and by `predict`: options of generate"
    )

    @property
    def conversation(self) -> Conversation | None:
        """What is answered, with two answers."""
        if self.prompt is None and self.messages is None:
            return None
        answers = (self.chosen, self.rejected)
        return Conversation(self.prompt, self.messages, answers, self.system, self.chat_template, "last")

    def columns(self) -> dict[str, Column]:
        """Both answers, and what they answer."""
        answers = {
            self.chosen: Column(ColumnType.TEXT, "chosen"),
            self.rejected: Column(ColumnType.TEXT, "rejected"),
        }
        return {**self.conversation_columns(), **answers}

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """What conversations demand, and options of another loss."""
        if self.conversation is None:
            yield Fault(f"outputs.{name}.prompt", "is missing; name the column that is answered, or messages")
        yield from self.conversation_faults(name, sections)
        if self.loss == "ipo" and self.label_smoothing:
            yield Fault(f"outputs.{name}.label_smoothing", "has no effect with loss: ipo")
