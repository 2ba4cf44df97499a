"""How an architecture is declared: options, plan, key map, heads. Data, no code of its own at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from eir_seq.models.checkpoint.keymap import Row
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.build import Part

Prepare = Callable[[Any, dict[str, Any]], dict[str, Any]]


class Plan(Protocol):
    """What the body of a model is made of; `build` makes it: a backbone, shared ones being in `backbones`."""

    @property
    def hidden_size(self) -> int:
        """Width of the states."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """Documented inputs of the architecture itself."""
        ...

    def build(self) -> Any:
        """The body, a module with fresh weights."""
        ...


HeadRows = tuple[Row, ...] | Callable[[Any], tuple[Row, ...]]
"""The key map of a head, or options -> it where they decide on the published names."""


@dataclass(frozen=True)
class Decoding:
    """How a class predicts the next token of a text where it does not by the state of the last one.

    `inputs`: options, the inputs with all tokens so far (masks and the like reach one place further), and what was kept
    -> inputs of a pass whose last scores are those of the next token. `keeps`: field of its output that is kept, a
    tensor (length, batch, ...) per layer.
    """

    inputs: Callable[[Any, dict[str, Any], Any], dict[str, Any]]
    keeps: str | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One class of an architecture in transformers.

    `published`: its class name. `plan`, `head`: options -> parts. `body_rows`, `head_rows`: options -> key map of
    each; `prefix` precedes the body's published names in this class. `prepare`: options and transformers'
    inputs -> inputs, where this class completes them. `decoding`: how it generates, where it does in its own way.
    `prefixes`: what may precede the body's names in files of other classes.
    """

    published: str
    plan: Callable[[Any], Plan]
    body_rows: Callable[[Any], Iterable[Row]]
    prefix: str = ""
    head: Callable[[Any], Part] | None = None
    head_rows: HeadRows = ()
    prepare: Prepare | None = None
    decoding: Decoding | None = None
    prefixes: tuple[str, ...] = ()

    def rows_of_head(self, config: Any) -> tuple[Row, ...]:
        """The key map of the head under these options."""
        return self.head_rows(config) if callable(self.head_rows) else self.head_rows


@dataclass(frozen=True)
class TaskHead:
    """How one class differs from the base class.

    `suffix`: what its name has after the family's. `plan`, `body_rows`, `prefix`: where they are not the family's.
    """

    suffix: str
    head: Callable[[Any], Part] | None
    rows: HeadRows = ()
    plan: Callable[[Any], Plan] | None = None
    body_rows: Callable[[Any], Iterable[Row]] | None = None
    prefix: str | None = None
    prepare: Prepare | None = None
    decoding: Decoding | None = None
    prefixes: tuple[str, ...] = ()


def declare_tasks(
    family: str,
    prefix: str,
    plan: Callable[[Any], Plan],
    body_rows: Callable[[Any], Iterable[Row]],
    heads: Mapping[str, TaskHead],
    *,
    base: str | None = None,
    prepare: Prepare | None = None,
) -> dict[str, Task]:
    """The tasks of an architecture from what they have in common: ``base`` and one per head.

    `family`: how published class names begin; `base`: name of the base class, by default ``<family>Model``;
    `prepare`: of all classes that do not have their own.
    """
    tasks = {"base": Task(published=base or f"{family}Model", plan=plan, body_rows=body_rows, prepare=prepare)}
    for task, entry in heads.items():
        tasks[task] = Task(
            published=family + entry.suffix,
            plan=entry.plan or plan,
            body_rows=entry.body_rows or body_rows,
            prefix=prefix if entry.prefix is None else entry.prefix,
            head=entry.head,
            head_rows=entry.rows,
            prepare=entry.prepare or prepare,
            decoding=entry.decoding,
            prefixes=entry.prefixes,
        )
    return tasks


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything the factory needs to know. `prefixes`: what may precede the body's names in a file."""

    tasks: Mapping[str, Task]
    prefixes: tuple[str, ...]
    initialization: Callable[[Any], Initialization]
    ignored: tuple[str, ...] = field(default=())
    """Published names (patterns) that hold nothing of a model: copies of tied tensors, calibration and the like."""
