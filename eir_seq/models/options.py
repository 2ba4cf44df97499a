"""Options of architectures: transformers' names, types, defaults, ranges and meanings, checked without torch.

An architecture's options are a frozen dataclass below `ModelConfig`, each field made by `option`. The same dataclass
validates `model_init_config` of an experiment, the arguments of `create_model` and the ``config.json`` of a checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, Union

from eir_seq.errors import Fault, UserError, nearest

ANSWERS = {"output_attentions": False, "output_hidden_states": False, "return_dict": True}
"""What a call returns where it does not say: entries that any published config.json may have, and their defaults."""

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "quick_gelu", "relu", "relu2", "silu", "swish",
               "tanh", "sigmoid", "mish", "linear")  # fmt: skip

MOST_LAYERS = 1000


def option(
    default: Any,
    meaning: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[Any, ...] | None = None,
) -> Any:
    """A dataclass field with what a user needs to know about it."""
    metadata = {"meaning": meaning, "minimum": minimum, "maximum": maximum, "choices": choices}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def size(default: int | None, meaning: str) -> Any:
    """An option that counts something: an integer from 1 on."""
    return option(default, meaning, minimum=1)


def layers(default: int | None, meaning: str) -> Any:
    """An option that counts layers; the deepest model that was ever published has 1,000."""
    return option(default, meaning, minimum=1, maximum=MOST_LAYERS)


def rate(default: float | None, meaning: str) -> Any:
    """An option that is a probability below one."""
    return option(default, meaning, minimum=0.0, maximum=1.0)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that are checked together: those of an architecture, or of a part of one."""

    model_type: ClassVar[str]
    aliases: ClassVar[Mapping[str, str]] = {}
    """Other published names of options: alias -> name."""
    parts: ClassVar[Mapping[str, type[Options]]] = {}
    """Options that are mappings of options themselves: name -> what may be in it."""

    if not TYPE_CHECKING:  # options are checked by their own names

        def __getattr__(self, name: str) -> Any:
            """The value of an option under another name of it."""
            if name not in type(self).aliases:
                raise AttributeError(f"{type(self).__name__!r} has no option {name!r}")
            return getattr(self, type(self).aliases[name])

    def problems(self) -> Iterator[tuple[str, str]]:
        """Pairs (option, what is wrong) for combinations of options that cannot work."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Options):
    """Options that every architecture has."""

    max_positions_option: ClassVar[str | None] = None
    """The option that bounds the length of a sequence, where there is one."""

    num_labels: int = size(2, "number of classes (or values) of a classification head")
    problem_type: str | None = option(
        None,
        "loss of a classification head; guessed from the labels if absent",
        choices=("regression", "single_label_classification", "multi_label_classification"),
    )
    tie_word_embeddings: bool = option(True, "one table for token embeddings and the language-model head")
    published: dict[str, Any] = option({}, "entries of a published config.json that are no options, kept for saving")

    @property
    def width(self) -> int:
        """Width of the token states, whatever its name in transformers."""
        return int(getattr(self, self.aliases.get("hidden_size", "hidden_size")))

    @property
    def id2label(self) -> dict[int, str]:
        """The names of the classes by their numbers: those of the published file, or LABEL_0, LABEL_1 ..."""
        given = self.published.get("id2label")
        if isinstance(given, Mapping) and set(map(str, given)) == {str(number) for number in range(self.num_labels)}:
            named = {str(number): str(label) for number, label in given.items()}
            return {number: named[str(number)] for number in range(self.num_labels)}
        return {number: f"LABEL_{number}" for number in range(self.num_labels)}

    @property
    def label2id(self) -> dict[str, int]:
        """The inverse of `id2label`."""
        return {label: number for number, label in self.id2label.items()}

    def answers(self, name: str) -> bool:
        """One of `ANSWERS`, as the published file or the arguments of loading have it."""
        given = self.published.get(name)
        return ANSWERS[name] if given is None else bool(given)

    def target_vocabulary(self) -> int | None:
        """Tokens that texts are written with, or None if the architecture knows no tokens."""
        return getattr(self, "vocab_size", None)

    def with_vocabulary(self, size: int) -> Self:
        """The options for another number of tokens.

        Raises:
            UserError: that number cannot be with the other options.
        """
        if "vocab_size" not in fields(type(self)):
            raise UserError(Fault("vocab_size", f"{self.model_type!r} has no vocabulary"))
        if size < 1:
            raise UserError(Fault("vocab_size", f"{size!r} is below the least value 1"))
        resized = dataclasses.replace(self, **self._sizes(size))
        if problems := [Fault(name, problem) for name, problem in resized.problems()]:
            raise UserError(*problems)
        return resized

    def _sizes(self, size: int) -> dict[str, Any]:
        """The options that say how many tokens there are."""
        parts = {name: getattr(self, name) for name in self.parts}
        nested = {
            name: {**given, "vocab_size": size}
            for name, given in parts.items()
            if isinstance(given, Mapping) and "vocab_size" in given
        }
        return {"vocab_size": size, **nested}

    def target_positions(self) -> int | None:
        """The longest text in tokens that is written, where that is another bound than that of texts that are read."""
        return self.position_limit()

    def for_task(self, task: str) -> Self:  # noqa: ARG002
        """The options of the class for a task, where that decides some of them.

        Raises:
            UserError: the class cannot be with these options.
        """
        return self

    def position_limit(self) -> int | None:
        """The longest sequence in tokens, or None if the architecture sets no bound."""
        return None if self.max_positions_option is None else int(getattr(self, self.max_positions_option))


def split_answers(given: Mapping[str, Any], source: str | None = None) -> tuple[dict[str, Any], dict[str, bool]]:
    """Entries without those of `ANSWERS`, and these.

    Raises:
        UserError: one of them is neither true nor false.
    """
    answers = {name: given[name] for name in ANSWERS if given.get(name) is not None}
    if wrong := [name for name, value in answers.items() if not isinstance(value, bool)]:
        raise UserError(*(Fault(name, f"{answers[name]!r} is not true or false", source) for name in wrong))
    return {name: value for name, value in given.items() if name not in ANSWERS}, answers


def fields(config: type[Options]) -> dict[str, dataclasses.Field[Any]]:
    """The options of an architecture by name, without bookkeeping."""
    return {field.name: field for field in dataclasses.fields(config) if field.name != "published"}


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of an option."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def describe(config: type[Options]) -> list[dict[str, Any]]:
    """For each option: name, default, type and meaning; where it is a part, also the `options` that may be in it."""
    hints = typing.get_type_hints(config)
    return [
        {
            "name": name,
            "default": default_of(field),
            "type": _type_name(hints[name]),
            "meaning": field.metadata["meaning"],
            **({"options": describe(config.parts[name])} if name in config.parts else {}),
        }
        for name, field in fields(config).items()
    ]


def split_known(config: type[Options], content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries that are options of `config`, those of its parts too, and the entries that are none."""
    names = fields(config)
    known = {name: value for name, value in content.items() if config.aliases.get(name, name) in names}
    others = {name: value for name, value in content.items() if name not in known}
    for name, part in config.parts.items():
        if isinstance(known.get(name), Mapping):
            known[name], unknown = split_known(part, known[name])
            others |= {name: unknown} if unknown else {}
    return known, others


def overridden(config: type[Options], options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The options with some changed; of a part, those that do not change stay."""
    merged = {**options, **changes}
    for name in config.parts:
        if isinstance(old := options.get(name), Mapping) and isinstance(new := changes.get(name), Mapping):
            merged[name] = {**old, **new}
    return merged


def flat(described: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same options in one list, those of a part after it and named by their path."""
    for option in described:
        yield {name: value for name, value in option.items() if name != "options"}
        for inner in flat(option.get("options", [])):
            yield {**inner, "name": f"{option['name']}.{inner['name']}"}


def problem_of(value: Any, hint: Any, limits: Mapping[str, Any]) -> str | None:
    """What is wrong with a value for an option of this type and these limits (see `option`), or None."""
    if not _fits(value, hint):
        return f"{value!r} is not {_type_name(hint, spoken=True)}"
    if value is None:
        return None
    if (choices := limits["choices"]) is not None and value not in choices:
        close = nearest(value, choices) if isinstance(value, str) else ""
        why = f" ({limits['meaning']})" if len(choices) == 1 and "meaning" in limits else ""
        return f"{value!r} is not one of {', '.join(map(repr, choices))}{close}{why}"
    for item in value if isinstance(value, (list, tuple)) else (value,):
        if limits["minimum"] is not None and not item >= limits["minimum"]:
            return f"{item!r} is below the least value {limits['minimum']!r}"
        if limits["maximum"] is not None and not item <= limits["maximum"]:
            return f"{item!r} is above the greatest value {limits['maximum']!r}"
    return None


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin in (list, tuple):
        return isinstance(value, (list, tuple)) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict or hint is dict:
        return isinstance(value, Mapping)
    if hint is Any:
        return True
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _type_name(hint: Any, *, spoken: bool = False) -> str:
    words = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    plain = {int: "int", float: "float", bool: "bool", str: "str", type(None): "null"}
    if hint in words:
        return words[hint] if spoken else plain[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return (" or " if spoken else " | ").join(_type_name(argument, spoken=spoken) for argument in arguments)
    if origin in (list, tuple):
        inner = _type_name(arguments[0], spoken=False)
        return f"a list of {inner}" if spoken else f"list[{inner}]"
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    return "a mapping" if spoken else "dict"
