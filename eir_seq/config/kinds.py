"""Which kinds the sections of an experiment may be of: what the registries list, entries of plug-ins among them."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import Field

from eir_seq import plugins
from eir_seq.config.fusion import FusionBase
from eir_seq.config.optimization import OptimizerBase, SchedulerBase
from eir_seq.config.strict import DefaultType, Strict
from eir_seq.config.tokenizers import TokenizerBase
from eir_seq.config.trackers import TrackerBase
from eir_seq.errors import Fault, UserError
from eir_seq.registry import FUSIONS, OPTIMIZERS, SCHEDULERS, TOKENIZERS, TRACKERS, Registry

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
    kinds = dict.fromkeys(_checked(registry, name, base) for name in registry)
    if len(kinds) == 1:
        return next(iter(kinds))
    tagged: Any = Annotated[reduce(or_, kinds), Field(discriminator="type")]
    return tagged if default is None else Annotated[tagged, DefaultType(default)]


def _checked(registry: Registry, name: str, base: type[Strict]) -> type[Strict]:
    kind = registry[name]
    entry = f"{registry.group}.{name}"
    problem = None
    if not isinstance(kind, type) or not issubclass(kind, base):
        problem = f"{entry} is {kind!r}, which is no subclass of {base.__module__}.{base.__name__}"
    elif "type" not in kind.model_fields or name not in get_args(kind.model_fields["type"].annotation):
        problem = f'{entry}: {kind.__name__} needs a field type: Literal["{name}"] = "{name}"'
    if problem is not None:
        raise UserError(Fault(f"plug-in {registry.origin(name)}", problem))
    return kind  # type: ignore[no-any-return]


if TYPE_CHECKING:
    FusionConfig = FusionBase
    OptimizerConfig = OptimizerBase
    SchedulerConfig = SchedulerBase
    TrackerConfig = TrackerBase
    TokenizerConfig = TokenizerBase
else:
    FusionConfig = union(FUSIONS, FusionBase)
    OptimizerConfig = union(OPTIMIZERS, OptimizerBase)
    SchedulerConfig = union(SCHEDULERS, SchedulerBase, "linear")
    TrackerConfig = union(TRACKERS, TrackerBase)
    TokenizerConfig = union(TOKENIZERS, TokenizerBase)
