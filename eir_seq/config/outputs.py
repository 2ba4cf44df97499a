"""The base of every kind of output: what the rest of the program may ask of a kind that it does not know.

A kind is declared in ``eir_seq/outputs/KIND/config.py`` by a subclass of `OutputBase`, which `eir_seq.registry` lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from pydantic import ConfigDict, Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.corruption import Corruption
from eir_seq.config.heads import HeadConfig, LinearHeadConfig
from eir_seq.config.metrics import Metric
from eir_seq.config.strict import Name, Strict
from eir_seq.errors import Fault
from eir_seq.registry import METRICS

if TYPE_CHECKING:
    from eir_seq.config.backbones import SequenceModelConfig
    from eir_seq.config.sections import Sections

DocumentLayout = Literal["packed", "separate"]


NO_ANSWER = -2
"""Place in a text of the first token of a sequence, which stands for no answer; tokens outside of the text have -1."""


class TargetText(Protocol):
    """The texts that a decoder learns to write from an input."""

    @property
    def column(self) -> str:
        """The column that holds them."""
        ...

    @property
    def max_length(self) -> int:
        """Tokens of the longest, special tokens included."""
        ...

    @property
    def generate_rows(self) -> int:
        """Validation rows whose texts are written at each evaluation."""
        ...


@dataclass(frozen=True)
class Questions:
    """Questions that an output answers from the texts of its input.

    Attributes:
        column: that holds them.
        stride: tokens of the text by which overlapping windows of longer texts are apart; None: only their begins are
            read.
    """

    column: str
    stride: int | None


@dataclass(frozen=True)
class Conversation:
    """Columns of conversations that a language model continues, and how they become a text.

    Attributes:
        prompt: column of what the user says first; or
        messages: column of lists of messages, each with a role and a content.
        answers: columns of what the assistant then says; none where `messages` end with that.
        system: column of what precedes the conversation.
        chat_template: how it is written: a template, a file of one or a name among those of the tokenizer; None: the
            tokenizer's own, or the default one.
        learned: which tokens have a loss.
        layout: how conversations are laid out in training rows.
        output: name of the output.
    """

    prompt: str | None = None
    messages: str | None = None
    answers: tuple[str, ...] = ()
    system: str | None = None
    chat_template: str | None = None
    learned: Literal["answers", "last", "all"] = "answers"
    layout: DocumentLayout = "separate"
    output: str = ""

    @property
    def source(self) -> str:
        """The column of what is answered."""
        found = self.prompt or self.messages
        assert found is not None, "rules demand one"
        return found


class OutputBase(Strict):
    """What every output has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:Class`` of the `eir_seq.outputs.base.Output` that fits, saves and restores it."""
    REPORT: ClassVar[str | None] = None
    """``module:function`` of its section of the report, see `eir_seq.outputs.reporting`; None: metrics alone."""
    METRICS: ClassVar[tuple[Metric, ...]]
    """All that is measured; others may add to it (`metrics`)."""
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """The metric that is shown large in the report, and those next to it: the first tuple whose first was measured.
    By default the first of all metrics but the loss, and the next three."""
    AVERAGED: ClassVar[tuple[str, ...]] = ("loss",)
    """Metrics whose mean is its part of the average over outputs; one that is to be small counts as one minus it."""
    UNCERTAINTY_SCALE: ClassVar[float] = 1.0
    """Factor of the precision in uncertainty weighting: 1/2 for squared errors, 1 for the log-likelihood of classes."""
    TARGET: ClassVar[str] = "class"
    """What a target is called in messages."""
    UNLABELLED: ClassVar[str] = "none is scored"
    """What is missing where some rows have no target."""
    SENTINELS: ClassVar[int] = 0
    """Tokens for gaps that a tokenizer gets which is trained for this output."""
    FILLS: ClassVar[bool] = False
    """Whether `predict` has it fill the gaps of prompts."""
    PARTIAL: ClassVar[bool] = False
    """Whether a row may lack some of its columns and have a target by the others."""
    CELLS: ClassVar[str | None] = None
    """``module:Class`` of the `eir_seq.modalities.base.Cells`, called with the output's name and config, that find and
    check what the cells of its column name, such as files; None: cells hold the target itself."""

    if TYPE_CHECKING:
        type: str
    loss_weight: float = Field(1.0, gt=0, description="weight of this output in the sum of losses")

    @classmethod
    def metrics(cls) -> dict[str, Metric]:
        """All metrics by name: those of the kind, then those that others registered as ``TYPE.NAME``."""
        kind = cls.model_fields["type"].default
        own = {metric.name: metric for metric in cls.METRICS}
        added = {name.partition(".")[2]: METRICS[name] for name in METRICS if name.partition(".")[0] == kind}
        return own | {name: replace(metric, name=name) for name, metric in added.items()}

    @classmethod
    def monitored(cls) -> dict[str, Metric]:
        """Those of all metrics that may be monitored, single classes aside."""
        return {name: metric for name, metric in cls.metrics().items() if metric.monitored and metric.overall}

    def unmeasured(self) -> dict[str, str]:
        """Metrics that are not measured with these options, each with the reason."""
        return {}

    @property
    def calibrated_by(self) -> str | None:
        """The key by which it is calibrated on the validation rows, with the best weights; None if it is not."""
        return None

    @property
    def calibrated_on_train(self) -> bool:
        """Whether it is calibrated on the training rows, with the best weights."""
        return False

    @property
    def has_row_losses(self) -> bool:
        """Whether the loss of a row depends on the output and the target of that row alone: such rows can be mixed."""
        return True

    @property
    def compares_rows(self) -> bool:
        """Whether the loss of a row depends on other rows of its batch, whichever process has them."""
        return False

    @property
    def corruption(self) -> Corruption | None:
        """How the texts of its input are corrupted, where it learns by restoring them."""
        return None

    @property
    def layout(self) -> DocumentLayout | None:
        """How texts are laid out in rows where this output is alone; None for one text per row."""
        return None

    @property
    def class_column(self) -> str | None:
        """The column of its classes, by which rows can be stratified and sampled."""
        return None

    @property
    def reads_tokens(self) -> bool:
        """Whether it reads the states of one input's tokens (`TokenOutputBase`), not the fused vector."""
        return False

    def state_inputs(self, inputs: Sequence[str]) -> Sequence[str]:
        """Of all inputs those whose states its head reads by itself; none if it reads the fused vector."""
        del inputs
        return ()

    def vector_inputs(self, inputs: Sequence[str]) -> Sequence[str]:
        """Of all inputs those whose vectors its head reads by itself; none if it reads the fused vector."""
        del inputs
        return ()

    @property
    def grid_inputs(self) -> Sequence[str]:
        """Inputs whose values its head reads position by position, besides the fused vector."""
        return ()

    def needed_inputs(self, inputs: Sequence[str]) -> Sequence[str]:
        """Of `vector_inputs` those without which a row has no target."""
        return self.vector_inputs(inputs)

    def own_inputs(self, inputs: Sequence[str]) -> Sequence[str]:
        """Of all inputs those that its head reads by itself, states or vectors; none if it reads the fused vector."""
        return (*self.state_inputs(inputs), *self.vector_inputs(inputs))

    @property
    def own_model(self) -> SequenceModelConfig | None:
        """The model that is its head's `backbone`, where it has one of its own."""
        return None

    @property
    def pretrains(self) -> bool:
        """Whether the backbone is what is wanted of it, so that a run publishes it."""
        return self.conversation is not None

    @property
    def completes(self) -> bool:
        """Whether `predict` has it continue prompts."""
        return False

    @property
    def conversation(self) -> Conversation | None:
        """The conversations that it learns to continue, which are its input's text."""
        return None

    @property
    def writes_from_texts(self) -> bool:
        """Whether `predict` may give it texts to write from in place of rows."""
        return self.target_text is not None or self.conversation is not None

    @property
    def has_targets(self) -> bool:
        """Whether columns hold targets; no where these are among the tensors of the input."""
        return bool(self.columns()) and self.conversation is None

    @property
    def writes_texts(self) -> bool:
        """Whether texts are written for rows of an evaluation."""
        return self.writes_from_texts

    @property
    def generates(self) -> bool:
        """Whether predictions are drawn from a distribution, by options that `predict` may change."""
        return False

    @property
    def target_text(self) -> TargetText | None:
        """The texts that a decoder learns to write from its input."""
        return None

    @property
    def questions(self) -> Questions | None:
        """The questions that precede the texts of its input."""
        return None

    def with_text(self, column: str) -> Self:
        """The output as it is with the column of the text that its input reads."""
        del column
        return self

    @property
    def generator_options(self) -> dict[str, Any] | None:
        """Options of a second, smaller model alongside the backbone, where it has one."""
        return None

    @property
    def generation_options(self) -> dict[str, Any] | None:
        """Options of `generate`, where it writes texts; its key `generation`."""
        return None

    @property
    def sample_prompts(self) -> list[str]:
        """Prompts that it continues at each evaluation."""
        return []

    def columns(self) -> dict[str, Column]:
        """The columns that hold the target, by name."""
        return {}

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """What it demands of itself and of the rest of the experiment, as `outputs.NAME`."""
        del name, sections
        yield from ()

    def preflight(self, place: str) -> Iterator[Fault]:
        """Packages and folders that it needs and that are not there; imports nothing large.

        Args:
            place: the config path of the output.
        """
        del place
        yield from ()


class ColumnOutputBase(OutputBase):
    """What every output has whose target is in a column."""

    COLUMN_TYPE: ClassVar[ColumnType]
    """What the target is read as."""

    column: str = Field(description="column that holds the target")

    def columns(self) -> dict[str, Column]:
        """The column that holds the target."""
        return {self.column: Column(self.COLUMN_TYPE)}


class ColumnsOutputBase(OutputBase):
    """What every output has whose target is in one column or in several."""

    model_config = ConfigDict(serialize_by_alias=True)

    COLUMN_TYPE: ClassVar[ColumnType]
    """What a single column is read as."""
    COLUMNS_TYPE: ClassVar[ColumnType]
    """What each of several columns is read as."""
    PARTIAL: ClassVar[bool] = True

    column: str | None = Field(None, description="column that holds the target")
    names: list[str] | None = Field(
        None, alias="columns", description="columns that hold the target, in place of `column`"
    )

    @property
    def key(self) -> str:
        """The key that names the columns."""
        return "column" if self.names is None else "columns"

    @property
    def targets(self) -> list[str]:
        """The columns of the target."""
        if self.names is not None:
            return self.names
        return [] if self.column is None else [self.column]

    def columns(self) -> dict[str, Column]:
        """The columns that hold the target."""
        kind = self.COLUMN_TYPE if self.names is None else self.COLUMNS_TYPE
        return {name: Column(kind, self.key) for name in self.targets}

    def column_faults(self, name: str) -> Iterator[Fault]:
        """Neither of `column` and `columns`, both, or one name twice."""
        place = f"outputs.{name}"
        if self.column is None and not self.names:
            yield Fault(f"{place}.column", f"is missing; name the column of the {self.TARGET}, or several by columns")
        elif self.column is not None and self.names is not None:
            yield Fault(f"{place}.columns", "cannot be combined with column; keep one of them")
        elif twice := next((column for column in self.targets if self.targets.count(column) > 1), None):
            yield Fault(f"{place}.columns", f"names {twice!r} twice")


class HeadOutputBase(OutputBase):
    """What every output has whose head ends in its own linear layer."""

    head: HeadConfig = Field(default_factory=LinearHeadConfig, description="layers before the last linear one")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the last linear layer")


class LinearOutputBase(HeadOutputBase, ColumnOutputBase):
    """What every output has whose target is in one column and whose head ends in a linear layer."""


class TokenOutputBase(OutputBase):
    """What every output has that reads the states of one input's tokens instead of the fused vector."""

    input: Name | None = Field(None, description="the sequence input; needed where there are several")

    @property
    def reads_tokens(self) -> bool:
        """Whether it reads the states of one input's tokens."""
        return True

    @property
    def has_row_losses(self) -> bool:
        """No: its targets are about single tokens."""
        return False


class GeneratingOutputBase(TokenOutputBase):
    """What every output has that writes texts."""

    @property
    def generation_options(self) -> dict[str, Any]:
        """Options of `generate`."""
        options: dict[str, Any] = self.generation  # type: ignore[attr-defined]  # each kind describes its own
        return options
