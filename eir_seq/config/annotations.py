"""Type annotations of config classes, as messages need them: what a value must be, and in which words."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import annotated_types
from pydantic import BaseModel, Discriminator
from pydantic.fields import FieldInfo

from eir_seq.config.strict import ByName, DefaultType


@dataclass(frozen=True)
class Kind:
    """What a value must be: a type annotation and its constraints."""

    annotation: Any
    limits: tuple[Any, ...] = ()
    discriminator: str | ByName | None = None

    @property
    def key(self) -> str:
        """The key that says of which member of a union a mapping is."""
        return self.discriminator.key if isinstance(self.discriminator, ByName) else self.discriminator or "type"

    @property
    def default_type(self) -> str | None:
        """The type of a mapping that does not say of which it is."""
        return next((limit.default_type for limit in self.limits if isinstance(limit, DefaultType)), None)

    @staticmethod
    def of(annotation: Any, limits: Sequence[Any] = (), discriminator: Any = None) -> Kind:
        """Take `Annotated` apart, and a union with None down to what else it holds."""
        collected = list(limits)
        while typing.get_origin(annotation) is Annotated:
            annotation, *extras = typing.get_args(annotation)
            for extra in extras:
                collected.extend(extra.metadata if isinstance(extra, FieldInfo) else [extra])
                if not isinstance(extra, Discriminator):
                    discriminator = getattr(extra, "discriminator", None) or discriminator
        if _is_union(annotation):
            members = [member for member in typing.get_args(annotation) if member is not type(None)]
            if len(members) == 1:
                return Kind.of(members[0], collected, discriminator)
        owners = (
            getattr(limit.discriminator, "__self__", None) for limit in collected if isinstance(limit, Discriminator)
        )
        by_name = next((owner for owner in owners if isinstance(owner, ByName)), None)
        return Kind(annotation, tuple(collected), discriminator or by_name)

    @staticmethod
    def of_field(field: FieldInfo) -> Kind:
        """The kind of a model's field."""
        return Kind.of(field.annotation, field.metadata, field.discriminator)

    @property
    def model(self) -> type[BaseModel] | None:
        """The class, where a mapping with fixed keys is wanted."""
        return self.annotation if isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel) else None

    @property
    def extra(self) -> Kind | None:
        """The kind of the values of further keys, where a class takes any."""
        if self.model is None or self.model.model_config.get("extra") != "allow":
            return None
        return Kind.of(
            typing.get_args(typing.get_type_hints(self.model, include_extras=True)["__pydantic_extra__"])[-1]
        )

    @property
    def members(self) -> list[Kind]:
        """The kinds of a union, None left out; the kind itself otherwise."""
        if not _is_union(self.annotation):
            return [self]
        arguments = typing.get_args(self.annotation)
        return [Kind.of(argument, self.limits) for argument in arguments if argument is not type(None)]

    def tagged(self, tag: str) -> Kind | None:
        """The member of a discriminated union that carries `tag`."""
        if isinstance(self.discriminator, ByName):
            return self.members[self.discriminator.place(tag)]
        return next((member for member in self.members if tag in member.tags(self.key)), None)

    def chosen(self, value: Mapping[str, Any]) -> Kind | None:
        """The member of a discriminated union that a mapping is of."""
        tag = value.get(self.key, self.default_type)
        return None if tag is None else self.tagged(str(tag))

    def tags(self, discriminator: str) -> tuple[Any, ...]:
        """The values of the discriminator that mean this class."""
        if self.model is None or discriminator not in self.model.model_fields:
            return ()
        return typing.get_args(self.model.model_fields[discriminator].annotation)

    @property
    def annotation_is_dict(self) -> bool:
        """Whether a mapping with free keys is wanted."""
        return self.annotation is dict or typing.get_origin(self.annotation) is dict

    @property
    def items(self) -> Kind:
        """The kind of a list's items or a mapping's values."""
        arguments = typing.get_args(self.annotation)
        return Kind.of(arguments[-1]) if arguments else Kind(Any)

    def __str__(self) -> str:
        members = self.members
        if len(members) > 1:
            return " or ".join(dict.fromkeys(map(str, members)))
        annotation, origin = self.annotation, typing.get_origin(self.annotation)
        if origin is Literal:
            spelled: dict[str, Any] = {}
            for value in typing.get_args(annotation):
                spelled.setdefault(str(value), value)
            values = list(spelled.values())
            return f"one of {', '.join(map(repr, values))}" if len(values) > 1 else repr(values[0])
        if annotation is bool:
            return "true or false"
        if annotation is int:
            return _with_limits("an integer", self.limits)
        if annotation is float:
            return _with_limits("a number", self.limits)
        if annotation is str:
            if any(getattr(limit, "max_length", None) == 1 for limit in _flat(self.limits)):
                return "a single character"
            pattern = next((limit.pattern for limit in _flat(self.limits) if getattr(limit, "pattern", None)), None)
            if pattern is not None and re.fullmatch(r"\^[\w-]+/", pattern):
                return f"{pattern[1:]}NAME"
            return "text" if pattern is None else "a name of letters, digits, '-' and '_' that begins with a letter"
        if origin is list:
            return f"a list of {_length(self.limits)}values, each {self.items}"
        return "a mapping" if self.annotation_is_dict or self.model is not None else "a value"


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a class by the keys that a config has for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (Union, types.UnionType)


def _flat(limits: Sequence[Any]) -> list[Any]:
    flat: list[Any] = []
    for limit in limits:
        flat.extend(limit if isinstance(limit, annotated_types.GroupedMetadata) else [limit])
    return flat


def _with_limits(noun: str, limits: Sequence[Any]) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f"{sign} {_short(getattr(limit, name))}"
        for limit in _flat(limits)
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None
    ]
    return " ".join([noun, " and ".join(bounds)]) if bounds else noun


def _short(number: float) -> str:
    return f"2**{number.bit_length() - 1}" if isinstance(number, int) and number > 10**9 else f"{number:.10g}"


def _length(limits: Sequence[Any]) -> str:
    least, most = (
        next((size for limit in _flat(limits) if (size := getattr(limit, name, None)) is not None), None)
        for name in ("min_length", "max_length")
    )
    if least == most:
        return "" if least is None else f"{least} "
    if least is None or most is None:
        return f"at most {most} " if least is None else f"at least {least} "
    return f"{least} to {most} "
