"""Times and events of rows, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.outputs.base import TargetRows, row_names
from eir_seq.outputs.survival.config import CENSORED, EVENT, SurvivalOutputConfig

MAX_TIME = 1e30


@dataclass(frozen=True)
class _Reader:
    """How a column of times or events is read.

    Attributes:
        key: of the config that names the column.
        column: its name.
        allowed: what its values are, for messages.
        number: a value as a number; NaN if it is none.
        names: what a value may be a misspelling of.
    """

    key: str
    column: str
    allowed: str
    number: Callable[[Any], float]
    names: Sequence[str] = ()

    def reason(self, value: Any) -> str:
        """What is wrong with a value."""
        return f"{self.column!r} is {value!r}, not {self.allowed}{nearest(str(value), self.names)}"


def _readers(config: SurvivalOutputConfig) -> dict[str, _Reader]:
    """By column."""
    codes = dict.fromkeys(CENSORED, 0.0)
    if config.causes is None:
        codes |= dict.fromkeys(EVENT, 1.0)
        allowed = "1 or 0 (an event, or none)"
    else:
        codes |= {cause: number for number, cause in enumerate(config.causes, start=1)}
        allowed = f"0 (no event) or one of {', '.join(map(repr, config.causes))}"
    known = {**{value.capitalize(): number for value, number in codes.items() if value in CENSORED + EVENT}, **codes}

    def event(value: Any) -> float:
        return known.get(str(value), math.nan)

    readers = [_Reader("time", name, "a time of 0 or more", _time) for name, _ in config.pairs]
    readers += [_Reader("event", name, allowed, event, config.causes or ()) for _, name in config.pairs]
    return {reader.column: reader for reader in readers}


def faulty_targets(config: SurvivalOutputConfig, rows: TargetRows) -> Iterator[tuple[int, str]]:
    """Positions of rows with a time or an event that is none, each with the reason."""
    for column, reader in _readers(config).items():
        reason = cache(reader.reason)
        for row, value in enumerate(rows[column]):
            if value is not None and math.isnan(reader.number(value)):
                yield row, reason(value)


def read_targets(config: SurvivalOutputConfig, output: str, rows: TargetRows, ids: Sequence[str] | None) -> Tensor:
    """Times in single precision, and 1 for an event, (rows, events, 2).

    Raises:
        UserError: a time is negative or not a number, or a value of a column of events is none.
    """
    faults: list[Fault] = []

    numbers: dict[str, list[float]] = {}
    for column, reader in _readers(config).items():
        values = list(rows[column])
        numbers[column] = [reader.number(value) for value in values]
        if wrong := [row for row, number in enumerate(numbers[column]) if math.isnan(number)]:
            message = f"column {reader.reason(values[wrong[0]])} ({row_names(wrong, ids)})"
            faults.append(Fault(f"outputs.{output}.{reader.key}", message))
    if faults:
        raise UserError(*faults)
    parts = []
    for time, event in config.pairs:
        codes_of = torch.tensor(numbers[event])
        for number in range(1, len(config.causes or [""]) + 1):
            parts.append(torch.stack([torch.tensor(numbers[time]), (codes_of == number).float()], dim=1))
    return torch.stack(parts, dim=1)


def _time(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return float(np.float32(number)) if 0 <= number <= MAX_TIME else math.nan
