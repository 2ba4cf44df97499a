"""What an experiment may say about a table's columns as an input."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import ConfigDict, Field

from eir_seq.config.column_types import Column, ColumnGuess, ColumnType
from eir_seq.config.encoders import EncoderBase
from eir_seq.config.inputs import EncoderInputBase
from eir_seq.config.kinds import encoders
from eir_seq.config.strict import Fraction, Positive
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.modalities.tabular.encoders.config import TabularMlpConfig

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections

    TabularModelConfig = EncoderBase
else:
    TabularModelConfig = encoders("tabular", default="mlp")


class TabularInputConfig(EncoderInputBase):
    """Columns of categories and numbers."""

    model_config = ConfigDict(serialize_by_alias=True)

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.tabular.preprocess:Tabular"
    SETS: ClassVar[tuple[tuple[str, ColumnType], ...]] = (
        ("categorical", ColumnType.CATEGORY),
        ("continuous", ColumnType.NUMBER),
    )

    type: Literal["tabular"] = "tabular"
    categorical: list[str] = Field([], description="columns of categories: texts, numbers or truth values")
    continuous: list[str] = Field([], description="columns of numbers")
    choice: Literal["patterns", "exact", "auto"] = Field(
        "patterns",
        alias="columns",
        description="patterns: * and ? in the names above stand for any characters; exact: they stand for themselves; "
        "auto: as patterns, and all other columns that no output, id or other input uses are taken as well",
    )
    min_freq: Positive = Field(1, description="rarer categories are read as unseen ones")
    unseen: Fraction | Literal[0] = Field(
        0.01,
        description="share of the categories of training rows that are read as unseen, so that their vector learns",
    )
    model: TabularModelConfig = Field(TabularMlpConfig(), description="the encoder")

    @property
    def named(self) -> dict[str, list[str]]:
        """By key, the names that are no patterns."""
        return {key: [name for name in getattr(self, key) if not self._is_pattern(name)] for key, _ in self.SETS}

    def columns(self) -> dict[str, Column]:
        """Those that are named; any of them may be null in a row."""
        named = self.named
        return {name: Column(kind, key, may_miss=True) for key, kind in self.SETS for name in named[key]}

    @property
    def is_open(self) -> bool:
        """Whether there are patterns, or `auto`."""
        return self.choice == "auto" or any(map(self._is_pattern, (*self.categorical, *self.continuous)))

    def resolved(
        self,
        place: str,
        names: Sequence[str],
        taken: Collection[str],
        guess: Callable[[Sequence[str]], Mapping[str, ColumnGuess]],
    ) -> tuple[Self, list[str]]:
        """See `InputBase.resolved`."""
        found: dict[str, list[str]] = {key: [] for key, _ in self.SETS}
        said, faults = [], []
        given_names = (*self.categorical, *self.continuous)
        literal = {name for name in given_names if name in names or not self._is_pattern(name)}
        free = [name for name in names if name not in literal]
        for key, _ in self.SETS:
            for given in getattr(self, key):
                if given in literal:
                    found[key].append(given)
                    continue
                matches = [name for name in free if _matches(given, name)]
                if not matches:
                    message = f"no column matches {given!r}{nearest(given, free)}"
                    faults.append(Fault(f"{place}.{key}", message))
                found[key] += matches
                said.append(f"{place}.{key}: {given} stands for {_listed(matches)}")
        if both := [name for name in dict.fromkeys(found["categorical"]) if name in found["continuous"]]:
            faults.append(Fault(f"{place}.continuous", f"{_listed(both)} are categorical as well"))
        if faults:
            raise UserError(*faults)
        if self.choice == "auto":
            used = {name for group in found.values() for name in group}
            guesses = guess([name for name in free if name not in used and name not in taken])
            for key, kind in self.SETS:
                chosen = [name for name, guessed in guesses.items() if guessed.type is kind]
                found[key] += chosen
                if chosen:
                    reasons = dict.fromkeys(guesses[name].reason for name in chosen)
                    said.append(f"{place}.{key}: took {_listed(chosen)} ({', '.join(reasons)})")
            for name, guessed in guesses.items():
                if guessed.type is None:
                    said.append(f"{place}: left out {name!r}: {guessed.reason}")
            if not any(found.values()):
                raise UserError(Fault(f"{place}.columns", "no column is left that could be read"))
        unique = {key: list(dict.fromkeys(group)) for key, group in found.items()}
        return self.model_copy(update={**unique, "choice": "exact"}), said

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """No columns at all, one that is named twice, and those of the encoder."""
        yield from super().faults(name, sections)
        place = f"inputs.{name}"
        if not self.categorical and not self.continuous and self.choice != "auto":
            yield Fault(place, "reads no column; name some in categorical and continuous, or write columns: auto")
        for key, _ in self.SETS:
            given = getattr(self, key)
            if twice := next((column for column in given if given.count(column) > 1), None):
                yield Fault(f"{place}.{key}", f"names {twice!r} twice")
        if both := next((column for column in self.categorical if column in self.continuous), None):
            yield Fault(f"{place}.continuous", f"{both!r} is categorical as well")

    def _is_pattern(self, name: str) -> bool:
        return self.choice != "exact" and ("*" in name or "?" in name)


def _matches(pattern: str, name: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, name, re.DOTALL) is not None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"
