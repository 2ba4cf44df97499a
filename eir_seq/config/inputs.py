"""The base of every kind of input: what the rest of the program may ask of a kind that it does not know.

A kind is declared in ``eir_seq/modalities/KIND/config.py`` by a subclass of `InputBase`; `eir_seq.registry` lists it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnGuess
from eir_seq.config.encoders import EncoderBase
from eir_seq.config.strict import Strict
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.config.backbones import SequenceModelConfig
    from eir_seq.config.sections import Sections
    from eir_seq.modalities.sequence.config import SequenceInputConfig


class InputBase(Strict):
    """What every input has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:Class`` of the `eir_seq.modalities.base.Modality` that fits and loads it."""
    HAS_TOKENS: ClassVar[bool] = False
    """Whether outputs may read the states of its tokens."""

    if TYPE_CHECKING:
        type: str
    modality_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of training rows that lose this input in each epoch, as if they lacked it; each keeps one",
    )

    @property
    def backbone(self) -> SequenceModelConfig | None:
        """The architecture of the catalogue that reads it, where one does."""
        return None

    @property
    def text(self) -> SequenceInputConfig | None:
        """The input as a text, for what works on texts alone."""
        return None

    @property
    def fits_blocks(self) -> bool:
        """Whether its texts may be joined and cut into blocks of tokens, as language models read them."""
        return False

    def with_question(self, column: str) -> Self:
        """The input with a question beside each text, where it can have one and has no second text."""
        del column
        return self

    def columns(self) -> dict[str, Column]:
        """The columns that it reads, by name."""
        raise NotImplementedError

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """What it demands of itself and of the rest of the experiment, as `inputs.NAME`."""
        del name, sections
        yield from ()

    def preflight(self, place: str) -> Iterator[Fault]:
        """Packages and folders that it needs and that are not there; imports nothing large.

        Args:
            place: the config path of the input.
        """
        del place
        yield from ()

    @property
    def is_open(self) -> bool:
        """Whether the data decide which columns it reads; `columns` gives those that are known before."""
        return False

    def settled(
        self,
        place: str,
        names: Sequence[str],
        taken: Collection[str],
        guess: Callable[[Sequence[str]], Mapping[str, ColumnGuess]],
    ) -> tuple[Self, list[str]]:
        """The same input with the names of all its columns, and what was decided, for people.

        Args:
            place: the config path of the input.
            names: columns of the training table, but for those of ids, groups and outputs.
            taken: those of them that other inputs read.
            guess: what some columns hold, by the training rows.

        Raises:
            UserError: there are no such columns.
        """
        del place, names, taken, guess
        return self, []

    @classmethod
    def tokens_of(cls, raw: Mapping[str, Any]) -> tuple[Any, str] | None:
        """Tokens of the longest row and the key that says it, of a section that is not yet checked.

        None where no architecture of the catalogue reads the input.
        """
        del raw
        return None


class EncoderInputBase(InputBase):
    """What every input has whose `model` chooses the encoder that reads it."""

    if TYPE_CHECKING:
        model: EncoderBase

    @property
    def backbone(self) -> SequenceModelConfig | None:
        """The architecture of the catalogue that reads it, where one does."""
        return self.model.backbone

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Options of the encoder that do not fit together."""
        del sections
        yield from self.model.faults(f"inputs.{name}.model")

    def preflight(self, place: str) -> Iterator[Fault]:
        """What the encoder needs."""
        yield from self.model.preflight(f"{place}.model")
