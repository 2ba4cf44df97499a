"""How an architecture is declared: options, plan, key table, heads. Data, no code of its own at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eir_seq.models.blocks.build import Part
from eir_seq.models.checkpoint.keymap import Row
from eir_seq.models.frames.encoder_decoder import EncoderDecoderPlan
from eir_seq.models.frames.stack import StackPlan
from eir_seq.models.frames.windows import WindowsPlan
from eir_seq.models.initialization import Initialization

Plan = StackPlan | EncoderDecoderPlan | WindowsPlan


@dataclass(frozen=True, kw_only=True)
class Task:
    """One documented class of an architecture.

    `published`: its class name. `plan`, `head`: options -> parts. `body_rows`, `head_rows`: options -> key table of
    each; `prefix` stands in front of the body's published names in this class.
    """

    published: str
    plan: Callable[[Any], Plan]
    body_rows: Callable[[Any], Iterable[Row]]
    prefix: str = ""
    head: Callable[[Any], Part] | None = None
    head_rows: tuple[Row, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything the factory needs to know. `prefixes`: what may stand in front of the body's names in a file."""

    tasks: Mapping[str, Task]
    prefixes: tuple[str, ...]
    initialization: Callable[[Any], Initialization]
    ignored: tuple[str, ...] = field(default=())
    """Published names (patterns) that hold nothing of a model: copies of tied tensors, calibration and the like."""
