"""Which columns of the data an experiment reads, as what, and what for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.outputs import OutputBase
from eir_seq.config.schema import DataConfig, InputConfig
from eir_seq.config.template import Template
from eir_seq.errors import Fault

ID = "id"
"""The column of row ids in every split, whatever it was called in the file."""

Role = Literal["group", "target", "input"]

_ORDER: dict[Role, tuple[ColumnType, ...]] = {
    "group": (ColumnType.CATEGORY,),
    "target": (*(kind for kind in ColumnType if kind is not ColumnType.TEXT), ColumnType.TEXT),
    "input": tuple(ColumnType),
}
"""In which order columns are checked and listed: by role, then by type."""

_NOUNS = {
    ("target", ColumnType.TEXT): "text to be written",
    ("target", ColumnType.LIST): "list of tags",
    ("target", ColumnType.JSON): "list of labels",
    ("target", ColumnType.CATEGORY): "class",
}


@dataclass(frozen=True)
class Use:
    """How an experiment reads a column: its name, type and role, and the config key that names it.

    `may_miss`, `template`, `named`: as of a `Column`.
    """

    column: str
    type: ColumnType
    role: Role
    place: str
    may_miss: bool = False
    template: Template | None = None
    named: bool = False

    @property
    def read(self) -> tuple[str, ...]:
        """The columns of the table that it is, or is made of."""
        return (self.column,) if self.template is None else self.template.columns

    @property
    def noun(self) -> str:
        """What the column holds, for messages."""
        return _NOUNS.get((self.role, self.type), self.type.value)

    def agrees(self, other: Use) -> bool:
        """Whether one column can be read both ways."""
        alike = self.type is other.type or (self.type.is_structured and other.type.is_structured)
        restored = self.type is other.type and self.type.is_restorable
        return "group" in (self.role, other.role) or (self.role == other.role and alike) or restored


@dataclass(frozen=True)
class Columns:
    """The column of ids, if there is one, and all uses of other columns, sorted by role and type."""

    id: str | None
    uses: tuple[Use, ...] = ()

    def of(self, role: Role, *types: ColumnType) -> dict[str, str]:
        """Columns of that role (and of one of these types), and the config key that names each."""
        uses = (use for use in self.uses if use.role == role and (not types or use.type in types))
        places: dict[str, str] = {}
        for use in uses:
            places.setdefault(use.column, use.place)
        return places

    def by_column(self, role: Role) -> dict[str, list[Use]]:
        """The uses of a role by column."""
        found: dict[str, list[Use]] = {}
        for use in self.uses:
            if use.role == role:
                found.setdefault(use.column, []).append(use)
        return found

    @property
    def structured(self) -> frozenset[str]:
        """Columns whose cells may hold lists and objects."""
        return frozenset(use.column for use in self.uses if use.type.is_structured)

    @property
    def numbers(self) -> frozenset[str]:
        """Columns that are read as numbers."""
        return frozenset(use.column for use in self.uses if use.type is ColumnType.NUMBER)

    @property
    def places(self) -> dict[str, str]:
        """All columns that a file must have; the id first."""
        places = {self.id: "data.id"} if self.id else {}
        for use in self.uses:
            for column in use.read:
                places.setdefault(column, use.place)
        return places

    @property
    def templates(self) -> dict[str, Template]:
        """Columns that are made of others, and how."""
        return {use.column: use.template for use in self.uses if use.template is not None}

    def without(self, role: Role, *types: ColumnType) -> Columns:
        """The columns but for those of a role (and of these types)."""
        kept = (use for use in self.uses if use.role != role or (types and use.type not in types))
        return Columns(self.id, tuple(kept))

    def clashes(self) -> list[Fault]:
        """Columns that cannot be read in all the requested ways."""
        by_column: dict[str, list[Use]] = {}
        for use in sorted(self.uses, key=lambda use: (use.role, use.type) not in _NOUNS):
            by_column.setdefault(use.column, []).append(use)
        faults = [
            Fault(second.place, f"column {column!r} is already read as a {first.noun} ({first.place})")
            for column, uses in by_column.items()
            for first, second in combinations(uses, 2)
            if not first.agrees(second)
        ]
        if self.id != ID and ID in self.places:
            message = f"{ID!r} is the name of the row ids; give the column another (data.rename)"
            faults.append(Fault(self.places[ID], message))
        if self.id == ID and ID in (inputs := self.of("input")):
            message = f"column {ID!r} holds the row ids; to read it as well, rename it, and name it in data.id"
            faults.append(Fault(inputs[ID], f"{message}: data.rename={{{ID}: name}} data.id=name"))
        return faults


def columns_of(data: DataConfig, inputs: Mapping[str, InputConfig], outputs: Mapping[str, OutputBase]) -> Columns:
    """The columns that inputs, outputs and the draw of the validation rows read."""
    questions = {
        asked.column: f"outputs.{name}.question"
        for name, kind in outputs.items()
        if (asked := kind.questions) is not None
    }
    uses = [replace(use, place=questions.get(use.column, use.place)) for use in _uses("input", "inputs", inputs)]
    uses += _uses("target", "outputs", outputs)
    groups = {"data.group": data.group, "data.stratify": data.stratify if data.stratify != "auto" else None}
    uses += [Use(column, ColumnType.CATEGORY, "group", place) for place, column in groups.items() if column]
    roles = list(_ORDER)
    uses.sort(key=lambda use: (roles.index(use.role), _ORDER[use.role].index(use.type)))
    return Columns("id" if data.reads_sample and data.id is None else data.id, tuple(uses))


def _uses(role: Role, section: str, kinds: Mapping[str, InputConfig | OutputBase]) -> Iterator[Use]:
    for name, kind in kinds.items():
        columns: dict[str, Column] = kind.columns()
        for column, read in columns.items():
            place, of = f"{section}.{name}.{read.key}", "input" if read.is_input else role
            yield Use(column, read.type, of, place, read.may_miss, read.template, read.named)
