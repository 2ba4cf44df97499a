"""Times and events of rows, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.outputs.base import TargetRows, row_names
from eir_seq.outputs.survival.config import CENSORED, EVENT, SurvivalOutputConfig

MAX_TIME = 1e30


def read_targets(config: SurvivalOutputConfig, output: str, rows: TargetRows, ids: Sequence[str] | None) -> Tensor:
    """Times in single precision, and 1 for an event, (rows, events, 2).

    Raises:
        UserError: a time is negative or not a number, or a value of a column of events is none.
    """
    faults: list[Fault] = []

    def read(key: str, column: str, allowed: str, change: Callable[[Any], float]) -> list[float]:
        values = list(rows[column])
        found = [change(value) for value in values]
        if wrong := [row for row, number in enumerate(found) if math.isnan(number)]:
            what = f"{values[wrong[0]]!r} in column {column!r} is not {allowed}"
            hint = nearest(str(values[wrong[0]]), config.causes) if config.causes and key == "event" else ""
            faults.append(Fault(f"outputs.{output}.{key}", f"{what} ({row_names(wrong, ids)}){hint}"))
        return found

    codes = dict.fromkeys(CENSORED, 0.0)
    if config.causes is None:
        codes |= dict.fromkeys(EVENT, 1.0)
        allowed = "1 or 0 (an event, or none)"
    else:
        codes |= {cause: number for number, cause in enumerate(config.causes, start=1)}
        allowed = f"0 (no event) or one of {', '.join(map(repr, config.causes))}"
    known = {**{value.capitalize(): number for value, number in codes.items() if value in CENSORED + EVENT}, **codes}
    times = {name: read("time", name, "a time of 0 or more", _time) for name in dict(config.pairs)}
    events = {
        name: read("event", name, allowed, lambda value: known.get(str(value), math.nan)) for _, name in config.pairs
    }
    if faults:
        raise UserError(*faults)
    parts = []
    for time, event in config.pairs:
        codes_of = torch.tensor(events[event])
        for number in range(1, len(config.causes or [""]) + 1):
            parts.append(torch.stack([torch.tensor(times[time]), (codes_of == number).float()], dim=1))
    return torch.stack(parts, dim=1)


def _time(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return float(np.float32(number)) if 0 <= number <= MAX_TIME else math.nan
