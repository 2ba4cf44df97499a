"""What a column may hold. Kinds of inputs and outputs say which columns they read, and as what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from eir_seq.config.template import Template


class ColumnType(StrEnum):
    """The type that a column is read as, and checked for."""

    TEXT = "text"
    """Text that is neither empty nor blank."""
    CATEGORY = "category"
    """One of a few names; numbers and truth values become names."""
    NUMBER = "number"
    """A finite number."""
    BOOLEAN = "boolean"
    """True or false."""
    LIST = "list"
    """A list, in CSV as JSON."""
    JSON = "json"
    """Any JSON value: text, a list, an object."""
    FILE = "file"
    """The name of a file next to the data."""
    ARRAY = "array"
    """Numbers: a list (of lists), or the name of a .npy file next to the data."""

    @property
    def is_structured(self) -> bool:
        """Whether cells may hold more than a text or a number; they are kept as JSON."""
        return self in (ColumnType.LIST, ColumnType.JSON, ColumnType.FILE, ColumnType.ARRAY)

    @property
    def is_restorable(self) -> bool:
        """Whether an output may restore what an input reads of the same column, as an autoencoder does."""
        return self in (ColumnType.FILE, ColumnType.ARRAY)


@dataclass(frozen=True)
class ColumnGuess:
    """What a column of a table is likely to hold.

    Attributes:
        type: a category, a number, or None for neither.
        reason: for people.
    """

    type: ColumnType | None
    reason: str


@dataclass(frozen=True)
class Column:
    """A column that an input or output reads.

    Attributes:
        type: what it is read as.
        key: the key below the section that names it, such as ``tensors.bbox.column``.
        may_miss: whether a row may have no value there, which is then null.
        template: what it is made of, where it is no column of the table.
        named: whether the config names its categories, of which training rows need not have all.
        is_input: of an output's column: rows that are to be predicted have it, too.
    """

    type: ColumnType
    key: str = "column"
    may_miss: bool = False
    template: Template | None = None
    named: bool = False
    is_input: bool = False
