"""The base of every config class, and what unions of them share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from eir_seq.errors import Fault

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
"""What inputs and outputs may be called: names become folders, columns and config paths."""
Delimiter = Annotated[
    str,
    BeforeValidator(lambda value: {r"\t": "\t"}.get(value, value) if isinstance(value, str) else value),
    Field(min_length=1, max_length=1),
]
r"""A character between fields. A tab may be written as ``\t``, which it is in YAML only in double quotes."""


class Strict(BaseModel):
    """Frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=(), defer_build=True
    )


@dataclass(frozen=True)
class DefaultType:
    """Annotates a union of config classes: a mapping without `key` is of this one."""

    default_type: str
    key: str = "type"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The union's own schema, with the type filled in first."""
        return core_schema.no_info_before_validator_function(self.fill, handler(source))

    def fill(self, value: Any) -> Any:
        """The mapping with its type."""
        return {self.key: self.default_type, **value} if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class ByName:
    """The discriminator of a union in which one class takes all names that are not those of the others.

    Attributes:
        key: that holds the name.
        names: those of the other classes, in the order of the union; ``NAME/anything`` belongs to NAME, too.
        rest: the tag of the last class, which takes the rest.
    """

    key: str
    names: tuple[str, ...]
    rest: str

    def tag(self, value: Any) -> str | None:
        """The tag of a mapping or of a config; None if it has no name."""
        name = value.get(self.key) if isinstance(value, Mapping) else getattr(value, self.key, None)
        return self.of(name) if isinstance(name, str) else None

    def of(self, name: str) -> str:
        """The tag of a name."""
        first = name.partition("/")[0]
        return first if first in self.names else self.rest

    def place(self, name: str) -> int:
        """The place in the union of the class that a name belongs to."""
        tag = self.of(name)
        return self.names.index(tag) if tag in self.names else len(self.names)


def ignored(place: str, section: BaseModel, keys: str, reason: str) -> Iterator[Fault]:
    """A fault for each of `keys` that differs from its default although `reason`."""
    for key in keys.split():
        field = type(section).model_fields[key]
        if getattr(section, key) != field.get_default(call_default_factory=True):
            yield Fault(f"{place}.{key}", f"has no effect {reason}")
