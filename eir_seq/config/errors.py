"""What pydantic finds wrong with a config, in one readable line per fault.

Pydantic reports one error per member of a union and puts union tags into its locations; here each config path gets one
line that says what was given and what is allowed, with the nearest name for whatever was misspelled.
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from eir_seq.config.annotations import Kind, keys_of
from eir_seq.errors import Fault, nearest

_MAIN_KEYS = ("type", "model_type", "dir", "metric", "patience", "train", "test")
"""What is meant by a single value in place of a mapping that has one of these keys."""
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_UNKNOWN, _MISSING, _TAG = "extra_forbidden", "missing", ("union_tag_invalid", "union_tag_not_found")


@dataclass(frozen=True)
class _Found:
    """One error of pydantic at the config path it belongs to."""

    path: tuple[str, ...]
    owner: type[BaseModel] | None
    kind: Kind | None
    error: Mapping[str, Any]


def faults_of(
    error: ValidationError, model: type[BaseModel], given: Mapping[str, Any], *, places: Sequence[str] = ()
) -> list[Fault]:
    """All that is wrong with `given`, which was validated as `model`: one fault for each config path.

    `places` are config paths that exist beyond the schema, for hints.
    """
    found = [_locate(entry, model) for entry in error.errors(include_url=False, include_context=True)]
    by_path: dict[tuple[str, ...], list[_Found]] = {}
    for item in found:
        by_path.setdefault(item.path, []).append(item)
    misspelled = _misspelled_required(found)
    faults = []
    for path, items in by_path.items():
        first = items[0]
        if isinstance(first.error["input"], Mapping) and _is_below(path, by_path) and first.error["type"] not in _TAG:
            continue  # another member of a union, while what is below says what is wrong with the mapping
        if first.error["type"] == _MISSING and path in misspelled.values():
            continue
        faults.append(Fault(dotted(path), _message(first, misspelled.get(path), model, given, places)))
    return faults


def _is_below(path: tuple[str, ...], found: Mapping[tuple[str, ...], list[_Found]]) -> bool:
    return any(len(other) > len(path) and other[: len(path)] == path for other in found)


def without_foreign_keys(
    given: Any,
    model: type[BaseModel],
    chosen: Callable[[str], bool],
    is_set: Callable[[str], bool],
) -> Any:
    """`given` without the keys of variants that are not used, where the variant's `type` was `chosen` elsewhere.

    Keys that nothing `is_set` to, defaults of another variant, go in any case.

    ``fusion=concat`` on a command line takes the place of whatever fusion a file describes; sizes that the file gives
    for its own choice and that the new one does not have mean nothing then.
    """

    def visit(kind: Kind, value: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(value, dict):
            return value
        if len(kind.members) > 1:
            member = kind.chosen(value) if kind.discriminator else None
            if member is None or member.model is None:
                return value
            others = {name for other in kind.members if other.model for name in keys_of(other.model)}
            foreign = others - set(keys_of(member.model))
            if any(other.extra is not None for other in kind.members) and member.extra is None:
                foreign |= {key for key, item in value.items() if isinstance(item, dict)} - set(keys_of(member.model))
            keeps = chosen if chosen(dotted((*path, "type"))) else is_set
            value = {key: item for key, item in value.items() if key not in foreign or keeps(dotted((*path, key)))}
            return visit(member, value, path)
        if kind.model is not None:
            fields = keys_of(kind.model)
            return {
                key: visit(field, item, (*path, key)) if (field := _field(kind, fields, key)) is not None else item
                for key, item in value.items()
            }
        if kind.annotation_is_dict:
            return {key: visit(kind.items, item, (*path, str(key))) for key, item in value.items()}
        return value

    return visit(Kind(model), given, ())


def _field(kind: Kind, fields: Mapping[str, FieldInfo], key: str) -> Kind | None:
    return Kind.of_field(fields[key]) if key in fields else kind.extra


def dotted(path: Sequence[str]) -> str:
    """A config path as one writes it on the command line."""
    text = ""
    for part in path:
        text += f"[{part}]" if part.isdigit() and text else f".{part}" if text else part
    return text


def yaml_text(value: Any) -> str:
    """A value as YAML shows it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _locate(error: Any, model: type[BaseModel]) -> _Found:
    """Follow pydantic's location through the classes; union tags and names of union members are no keys."""
    kind: Kind | None = Kind(model)
    owner: type[BaseModel] | None = None
    path: list[str] = []
    parts = [part for part in error["loc"] if part != "[key]"]
    for part in parts:
        if kind is None:
            path.append(str(part))
            continue
        if len(kind.members) > 1:
            if kind.discriminator:
                kind = kind.tagged(str(part))
            else:
                kind = next((m for m in kind.members if str(part).startswith("dict[") and m.annotation_is_dict), kind)
            continue
        if kind.model is not None:
            owner = kind.model
            field = keys_of(owner).get(str(part))
            kind = kind.extra if field is None else Kind.of_field(field)
        else:
            owner, kind = None, kind.items
        path.append(str(part))
    if error["type"] in _TAG and kind is not None:
        path.append(kind.key)
    if error["loc"] and error["loc"][-1] == "[key]" and not isinstance(error["input"], str):
        path[-1] = yaml_text(error["input"])  # pydantic shows true as 1
    return _Found(tuple(path), owner, kind, error)


def _misspelled_required(found: Sequence[_Found]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Unknown keys that are close to a missing one: their path -> the missing path."""
    pairs: dict[tuple[str, ...], tuple[str, ...]] = {}
    missing = [item.path for item in found if item.error["type"] == _MISSING]
    for item in found:
        if item.error["type"] == _UNKNOWN:
            candidates = [path[-1] for path in missing if path[:-1] == item.path[:-1] and path not in pairs.values()]
            for name in candidates:
                if nearest(item.path[-1], [name]):
                    pairs[item.path] = (*item.path[:-1], name)
    return pairs


def _message(
    found: _Found,
    required: Sequence[str] | None,
    model: type[BaseModel],
    given: Mapping[str, Any],
    places: Sequence[str],
) -> str:
    kind, error = found.kind, found.error
    if error["type"] == _UNKNOWN:
        if required is not None:
            return f"unknown key; did you mean {required[-1]!r}, which is missing?"
        return f"unknown key{_hint_for_key(found, model, given, places)}"
    if error["type"] == "invalid_key":
        return "unknown key; keys are text"
    if error["type"] == _MISSING:
        description = _description(found)
        return f"is missing{description}"
    if error["type"] == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if error["type"] in _TAG and kind is not None:
        tags = [tag for member in kind.members for tag in member.tags(kind.key)]
        listed = ", ".join(map(repr, tags))
        if error["type"] == "union_tag_not_found":
            return f"is missing; one of {listed}"
        value = error["ctx"]["tag"]
        return f"{value!r} is not one of {listed}{nearest(value, tags)}"
    if error["loc"] and error["loc"][-1] == "[key]":
        return _message_for_key(found)
    if error["type"] == "too_short" and isinstance(error["input"], Mapping):
        return "must hold at least one entry"
    value = error["input"]
    if kind is None:
        return f"{yaml_text(value)}: {error['msg']}"
    members = kind.members
    named = list(dict.fromkeys(map(str, members)))
    wrong = f"neither {' nor '.join(named)}" if len(named) > 1 else f"not {named[0]}"
    choices = [choice for member in members for choice in _choices(member)]
    hint = nearest(value, choices) if isinstance(value, str) and choices else _hint_for_single_value(found, kind)
    return f"{yaml_text(value)} is {wrong}{hint}{_quoted_number(value, members)}"


def _hint_for_single_value(found: _Found, kind: Kind) -> str:
    """How to write a single value where a mapping or a list is wanted."""
    value, place = found.error["input"], dotted(found.path)
    models = [member.model for member in kind.members if member.model is not None]
    if isinstance(value, list | Mapping):
        return ""
    lists = [member for member in kind.members if typing.get_origin(member.annotation) is list]
    if lists and isinstance(value, str | int) and any(_takes(member.items, value) for member in lists):
        return f"; write [{value}]" if _PLAIN.fullmatch(str(value)) else "; put it in brackets"
    if not models:
        return ""
    fields = [(name, model.model_fields[name]) for model in models for name in _MAIN_KEYS if name in model.model_fields]
    name = next((name for name, field in fields if _takes(Kind.of_field(field), value)), None)
    if name is not None:
        return f"; write {place}.{name}={value}, in YAML {found.path[-1]}: {{{name}: {value}}}"
    if value is None:
        return f"; ~{place} takes it away" if len(found.path) > 1 else "; leave it out for the defaults"
    return ""


def _takes(kind: Kind, value: Any) -> bool:
    """Whether a value is of the type that a key takes, but for its limits."""
    return any(
        isinstance(value, str) if typing.get_origin(member.annotation) is Literal else type(value) is member.annotation
        for member in kind.members
    )


def _message_for_key(found: _Found) -> str:
    """What is wrong with a key of a mapping that may have any."""
    key = found.error["input"]
    if isinstance(key, str) or found.path[:-1] in (("inputs",), ("outputs",)):
        return "is not a name of letters, digits, '-' and '_' that begins with a letter"
    kind = "a truth value" if isinstance(key, bool) else "a number" if isinstance(key, int | float) else "no text"
    also = " (so are yes, no, on and off)" if isinstance(key, bool) else ""
    message = f"the key {yaml_text(key)} is {kind} in YAML{also}; put it in quotes"
    if isinstance(key, int) and not isinstance(key, bool):
        message += f" (on the command line: +{'.'.join(found.path)}=VALUE)"
    return message


def _quoted_number(value: Any, members: Sequence[Kind]) -> str:
    if not isinstance(value, str) or not any(member.annotation in (int, float) for member in members):
        return "; put it in quotes" if _is_number_for_text(value, members) else ""
    try:
        float(value)
    except ValueError:
        return ""
    return "; write it without quotes"


def _is_number_for_text(value: Any, members: Sequence[Kind]) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and all(member.annotation is str for member in members)


def _description(found: _Found) -> str:
    field = keys_of(found.owner).get(found.path[-1]) if found.owner is not None else None
    if field is None or not field.description:
        return ""
    return f"; it is the {field.description.removeprefix('the ')}"


def _hint_for_key(found: _Found, model: type[BaseModel], given: Mapping[str, Any], places: Sequence[str]) -> str:
    """The nearest key here; else the same key at another place; else, for a variant, who owns it or what there is."""
    assert found.owner is not None
    key, own = found.path[-1], keys_of(found.owner)
    if (nested := key.replace("/", ".")).partition(".")[0] in own and nested.partition(".")[2]:
        *outer, last = nested.split(".")
        return f"; write {': {'.join(outer)}: {{{last}: ...{'}' * len(outer)}, or {nested}=... on the command line"
    if hint := nearest(key, own):
        return hint
    if elsewhere := _places_of(key, model, given, found.path, places):
        return f"; did you mean {elsewhere[0]}?"
    listed = ", ".join(own) if own else "none"
    return f"; keys here: {listed}"


def _places_of(
    key: str, model: type[BaseModel], given: Mapping[str, Any], near: Sequence[str], others: Sequence[str]
) -> list[str]:
    """Config paths that end in `key`, those that share most with `near` first."""
    places = [tuple(place.split(".")) for place in others if place.rpartition(".")[2] == key]

    def visit(kind: Kind, value: Any, path: tuple[str, ...]) -> None:
        if len(kind.members) > 1:
            member = kind.chosen(value) if isinstance(value, Mapping) else None
            if member is not None:
                visit(member, value, path)
        elif kind.model is not None:
            for name, field in keys_of(kind.model).items():
                if name == key:
                    places.append((*path, name))
                visit(Kind.of_field(field), value.get(name) if isinstance(value, Mapping) else None, (*path, name))
        elif kind.annotation_is_dict and isinstance(value, Mapping) and kind.items.annotation is not Any:
            for name, item in value.items():
                visit(kind.items, item, (*path, str(name)))

    visit(Kind(model), given, ())
    shared = {place: sum(a == b for a, b in zip(place, near, strict=False)) for place in places}
    return [dotted(place) for place in sorted(places, key=lambda place: (-shared[place], len(place)))]


def _choices(kind: Kind) -> list[str]:
    if typing.get_origin(kind.annotation) is Literal:
        return [str(value) for value in typing.get_args(kind.annotation)]
    return []
