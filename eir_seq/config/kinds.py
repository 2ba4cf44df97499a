"""Which kinds the sections of an experiment may be of: what the registries list, entries of plug-ins among them."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from eir_seq import plugins
from eir_seq.config.decoders import DecoderBase
from eir_seq.config.encoders import EncoderBase
from eir_seq.config.explanations import ExplanationBase
from eir_seq.config.fusion import FusionBase
from eir_seq.config.messages import MessageFusionBase, ProjectionBase
from eir_seq.config.optimization import OptimizerBase, SchedulerBase
from eir_seq.config.strict import ByName, DefaultType, Strict
from eir_seq.config.tokenizers import TokenizerBase
from eir_seq.config.trackers import SEVERAL, TrackerBase, named_trackers
from eir_seq.errors import Fault, UserError
from eir_seq.registry import (
    DECODERS,
    ENCODERS,
    EXPLANATIONS,
    FUSIONS,
    MESSAGE_FUSIONS,
    OPTIMIZERS,
    PROJECTIONS,
    SCHEDULERS,
    TOKENIZERS,
    TRACKERS,
    Registry,
)

plugins.discover()


def union(registry: Registry, base: type[Strict], default: str | None = None) -> Any:
    """The type of a section that may be of any kind of a registry, which its `type` says.

    Args:
        registry: config classes; one may have several names.
        base: what they are subclasses of.
        default: the kind of a section without `type`.

    Raises:
        UserError: an entry from outside is no such class, or has another `type`.
    """
    return _tagged({name: _checked(registry, name, base) for name in registry}, "type", default)


def by_name(registry: Registry, base: type[Strict]) -> Any:
    """As `union`; a name alone stands for the kind with its defaults.

    Args:
        registry: config classes.
        base: what they are subclasses of.

    Raises:
        UserError: see `union`.
    """
    kinds, names = union(registry, base), tuple(registry)
    named = BeforeValidator(_named, json_schema_input_type=kinds | Literal[names])
    return Annotated[kinds, named]


def _named(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def encoders(kind: str, *, default: str | None = None, otherwise: type[EncoderBase] | None = None) -> Any:
    """The type of `model` of a kind of input: any encoder that is registered for it as ``KIND.NAME``.

    Args:
        kind: of the input.
        default: the encoder of a section without `model_type`.
        otherwise: what any other `model_type` is, such as the architectures of the catalogue.

    Raises:
        UserError: an entry from outside is no config class of an encoder, or has another `model_type`.
    """
    named = _of_kind(ENCODERS, kind, EncoderBase)
    if otherwise is None:
        return _tagged(named, "model_type", default)
    if not named:
        return otherwise
    key = ByName("model_type", tuple(named), "catalogue")
    members = [Annotated[config, Tag(name)] for name, config in named.items()]
    return Annotated[reduce(or_, [*members, Annotated[otherwise, Tag(key.rest)]]), Discriminator(key.tag)]


def decoders(kind: str, default: str) -> Any:
    """The type of `model` of a kind of output: any decoder that is registered for it as ``KIND.NAME``.

    Args:
        kind: of the output.
        default: the decoder of a section without `model_type`.

    Raises:
        UserError: an entry from outside is no config class of a decoder, or has another `model_type`.
    """
    return _tagged(_of_kind(DECODERS, kind, DecoderBase), "model_type", default)


def _of_kind(registry: Registry, kind: str, base: type[Strict]) -> dict[str, type[Any]]:
    """The config classes that are registered as ``KIND.NAME``, by name."""
    return {
        entry.partition(".")[2]: _checked(registry, entry, base, "model_type")
        for entry in registry
        if entry.partition(".")[0] == kind
    }


def _tagged(kinds: dict[str, type[Strict]], key: str, default: str | None) -> Any:
    different = dict.fromkeys(kinds.values())
    tagged: Any = next(iter(different))
    if len(different) > 1:
        tagged = Annotated[reduce(or_, different), Field(discriminator=key)]
    return tagged if default is None else Annotated[tagged, DefaultType(default, key)]


def _checked(registry: Registry, entry_name: str, base: type[Strict], key: str = "type") -> type[Any]:
    kind: type[Any] = registry[entry_name]
    entry, name = f"{registry.group}.{entry_name}", entry_name.rpartition(".")[2]
    problem = None
    if not isinstance(kind, type) or not issubclass(kind, base):
        problem = f"{entry} is {kind!r}, which is no subclass of {base.__module__}.{base.__name__}"
    elif key not in kind.model_fields or not _has_name(kind, key, name):
        problem = f'{entry}: {kind.__name__} needs a field {key}: Literal["{name}"] = "{name}"'
    if problem is not None:
        raise UserError(Fault(f"plug-in {registry.origin(entry_name)}", problem))
    return kind


def _has_name(kind: type[Strict], key: str, name: str) -> bool:
    """Whether the field `key` is of that name, or of text that begins with it and a slash (``timm/NAME``)."""
    field = kind.model_fields[key]
    patterns = [limit.pattern for limit in field.metadata if getattr(limit, "pattern", None)]
    return name in get_args(field.annotation) or any(str(pattern).startswith(f"^{name}/") for pattern in patterns)


if TYPE_CHECKING:
    FusionConfig = FusionBase
    OptimizerConfig = OptimizerBase
    SchedulerConfig = SchedulerBase
    TrackerConfig = TrackerBase
    TokenizerConfig = TokenizerBase
    ProjectionConfig = ProjectionBase
    MessageFusionConfig = MessageFusionBase
    ExplanationConfig = ExplanationBase
else:
    FusionConfig = union(FUSIONS, FusionBase)
    OptimizerConfig = union(OPTIMIZERS, OptimizerBase)
    SchedulerConfig = union(SCHEDULERS, SchedulerBase, "linear")
    OneTracker = union(TRACKERS, TrackerBase)

    class SeveralTrackers(TrackerBase):
        """Several trackers at once, by names; as a list they have the names of their types."""

        model_config = ConfigDict(extra="allow")
        __pydantic_extra__: dict[str, OneTracker]
        type: Literal["several"] = SEVERAL

        def named(self) -> dict[str, TrackerBase]:
            """The single trackers by their config paths."""
            return {f"tracker.{name}": tracker for name, tracker in self.__pydantic_extra__.items()}

        @model_validator(mode="after")
        def _differ(self) -> Self:
            types = [tracker.type for tracker in self.__pydantic_extra__.values()]
            if twice := [type_ for type_ in dict.fromkeys(types) if types.count(type_) > 1]:
                raise ValueError(f"there are two trackers of the type {twice[0]!r}; each type may be named once")
            return self

    kinds = [*dict.fromkeys(_checked(TRACKERS, name, TrackerBase) for name in TRACKERS), SeveralTrackers]
    TrackerConfig = Annotated[
        reduce(or_, kinds),
        Field(discriminator="type"),
        BeforeValidator(named_trackers, json_schema_input_type=reduce(or_, kinds) | list[str | OneTracker]),
    ]
    TokenizerConfig = union(TOKENIZERS, TokenizerBase)
    ProjectionConfig = by_name(PROJECTIONS, ProjectionBase)
    MessageFusionConfig = by_name(MESSAGE_FUSIONS, MessageFusionBase)
    _methods = {name: _checked(EXPLANATIONS, name, ExplanationBase, "method") for name in EXPLANATIONS}
    ExplanationConfig = _tagged(_methods, "method", "integrated-gradients")
