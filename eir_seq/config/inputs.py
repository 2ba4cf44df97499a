"""The base of every kind of input: what the rest of the program may ask of a kind that it does not know.

A kind is declared in ``eir_seq/modalities/KIND/config.py`` by a subclass of `InputBase`; `eir_seq.registry` lists it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnGuess
from eir_seq.config.encoders import EncoderBase
from eir_seq.config.kinds import ExplanationConfig
from eir_seq.config.strict import Name, Strict
from eir_seq.errors import Fault, nearest

if TYPE_CHECKING:
    from eir_seq.config.backbones import SequenceModelConfig
    from eir_seq.config.sections import Sections
    from eir_seq.modalities.sequence.config import SequenceInputConfig


OF_ITS_OWN = ("share", "modality_dropout", "interpretation")
"""Keys of an input that have nothing to do with the encoder that it may share with another."""


class InputBase(Strict):
    """What every input has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:Class`` of the `eir_seq.modalities.base.Modality` that fits and loads it."""
    HAS_TOKENS: ClassVar[bool] = False
    """Whether outputs may read the states of its tokens."""
    NAMING: ClassVar[tuple[str, ...]] = ()
    """Keys that name its columns, which an input with `share` has of its own; none where encoders cannot be shared."""

    if TYPE_CHECKING:
        type: str
    modality_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of training rows that lose this input in each epoch, as if they lacked it; each keeps one",
    )

    share: Name | None = Field(
        None,
        description="another input whose encoder reads this one, too: one set of weights and, of texts, one tokenizer, "
        "fitted to the columns of both; all options but the columns are those of that input",
    )

    interpretation: ExplanationConfig | None = Field(
        None,
        description="explain what is predicted of some rows: what each token of this input adds to it, in the report "
        "and in predictions/attributions.csv",
    )

    @property
    def backbone(self) -> SequenceModelConfig | None:
        """The architecture of the catalogue that reads it, where one does."""
        return None

    @property
    def grid_problem(self) -> str | None:
        """Why outputs cannot read its values position by position; None if they can."""
        return f"is of type {self.type}; values at positions have those of type image and array"

    @property
    def text(self) -> SequenceInputConfig | None:
        """The input as a text, for what works on texts alone."""
        return None

    @property
    def fits_blocks(self) -> bool:
        """Whether its texts may be joined and cut into blocks of tokens, as language models read them."""
        return False

    def with_question(self, column: str) -> Self:
        """The input with a question paired with each text, where it can have one and has no second text."""
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

    def resolved(
        self,
        place: str,
        names: Sequence[str],
        taken: Collection[str],
        guess: Callable[[Sequence[str]], Mapping[str, ColumnGuess]],
    ) -> tuple[Self, list[str]]:
        """The same input with the names of all its columns, and what was decided, in readable form.

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

        None if no architecture of the catalogue reads the input.
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


def with_shared(inputs: Any, kinds: Mapping[str, type[InputBase]]) -> Any:
    """The section `inputs`, not yet checked, in which an input with `share` has the options of that other input.

    Args:
        inputs: as given.
        kinds: config classes by type.

    Example:
        >>> from eir_seq.registry import INPUTS
        >>> given = {"a": {"type": "sequence", "column": "x", "max_length": 9}, "b": {"share": "a", "column": "y"}}
        >>> with_shared(given, INPUTS)["b"]
        {'type': 'sequence', 'max_length': 9, 'share': 'a', 'column': 'y'}
    """
    if not isinstance(inputs, Mapping):
        return inputs
    found = dict(inputs)
    for name, given in inputs.items():
        source = inputs.get(given.get("share")) if isinstance(given, Mapping) and _is_name(given.get("share")) else None
        if isinstance(source, Mapping) and source is not given:
            kind = source.get("type")
            naming = kinds[kind].NAMING if isinstance(kind, str) and kind in kinds else ()
            own = {*naming, *OF_ITS_OWN}
            found[name] = {**{key: value for key, value in source.items() if key not in own}, **given}
    return found


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


def share_faults(inputs: Any) -> Iterator[Fault]:
    """Inputs whose `share` names none that has its own encoder, of the section `inputs` that is not yet checked."""
    entries = {str(name): given for name, given in inputs.items()} if isinstance(inputs, Mapping) else {}
    for name, given in entries.items():
        share = given.get("share") if isinstance(given, Mapping) else None
        if isinstance(share, str) and (share not in entries or share == name):
            others = [other for other in entries if other != name]
            listed = ", ".join(map(repr, others)) or "none"
            message = f"{share!r} is no other input (there are: {listed}){nearest(share, others)}"
            yield Fault(f"inputs.{name}.share", message)
        elif isinstance(share, str) and isinstance(entries[share], Mapping) and entries[share].get("share") is not None:
            message = f"inputs.{share} has the encoder of inputs.{entries[share]['share']}; name that one"
            yield Fault(f"inputs.{name}.share", message)


def shared_faults(inputs: Mapping[str, InputBase]) -> Iterator[Fault]:
    """Inputs whose encoder cannot be that of the input that `share` names, of those that are valid by themselves."""
    for name, config in inputs.items():
        if config.share is None:
            continue
        place, source = f"inputs.{name}.share", inputs.get(config.share)
        if source is None or source is config or source.share is not None:
            continue  # that is said of what is given, or its own faults are
        if type(source) is not type(config):
            yield Fault(f"inputs.{name}.type", f"is {config.type!r}, and inputs.{config.share} is {source.type!r}")
        elif not config.NAMING:
            yield Fault(place, f"the encoder of a {config.type!r} input knows its columns and cannot read others")
        elif len(config.columns()) != len(source.columns()):
            counts = f"{len(config.columns())} columns, and inputs.{config.share} {len(source.columns())}"
            yield Fault(place, f"this input reads {counts}")
        else:
            own = {*config.NAMING, *OF_ITS_OWN}
            for key, field in type(config).model_fields.items():
                if (field.alias or key) not in own and key not in own and getattr(config, key) != getattr(source, key):
                    message = f"differs from that of inputs.{config.share}, whose encoder it shares; leave it out"
                    yield Fault(f"inputs.{name}.{field.alias or key}", message)
