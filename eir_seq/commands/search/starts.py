"""The settings that a search tries first: those of earlier runs, of the best trials of a sweep, or given ones."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eir_seq.commands.search.results import TRIALS, read_directions
from eir_seq.config.overrides import parse_overrides
from eir_seq.config.sweep_space import Dimension
from eir_seq.config.sweeps import SweepRequest, best_first, leaves
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.files import open_text, reason
from eir_seq.inference.run_list import runs_at
from eir_seq.remote import is_url, named_by_url
from eir_seq.training.folder import read_config

BEST = 5
"""How many trials of an earlier sweep are tried first."""


def starting_points(request: SweepRequest) -> list[dict[str, Any]]:
    """For each of `sweep.start` the values that it has for keys of the space; the sampler chooses the others.

    Raises:
        UserError: no such folder, no such key, or a value that is not in the space.
    """
    faults: list[Fault] = []
    points: list[dict[str, Any]] = []
    for index, start in enumerate(request.config.start):
        place = f"sweep.start[{index}]"
        try:
            settings = list(_settings(start, place))
        except UserError as error:
            faults += error.faults
            continue
        for setting in settings:
            point, wrong = _point(setting, request.space, place, strict=_names_keys(start))
            faults += wrong
            if point not in points:
                points.append(point)
    if faults:
        raise UserError(*faults)
    return points


def _names_keys(start: str | Mapping[str, Any]) -> bool:
    """Whether it is given by keys, rather than by a folder."""
    return not isinstance(start, str) or not (is_url(start) or Path(start).expanduser().exists())


def _settings(start: str | Mapping[str, Any], place: str) -> Iterator[Mapping[str, Any]]:
    """Config keys and their values, as Python has them."""
    if not isinstance(start, str):
        yield start
        return
    with named_by_url(), runs_at(start, place) as folder:
        yield from _settings_in(folder, start, place)


def _settings_in(folder: Path, start: str, place: str) -> Iterator[Mapping[str, Any]]:
    if (folder / TRIALS).is_file():
        yield from _best_of(folder, place)
    elif (folder / "config.yaml").is_file():
        yield dict(leaves(read_config(folder / "config.yaml")))
    elif folder.exists() or "=" not in start:
        message = f"{start!r} is no run folder (with config.yaml), no sweep (with {TRIALS}) and no override"
        raise UserError(Fault(place, message))
    else:
        yield {override.key_or_group: override.value() for override in parse_overrides(start.split())}


def _best_of(folder: Path, place: str) -> Iterator[Mapping[str, Any]]:
    try:
        with open_text(folder / TRIALS) as file:
            rows = [row for row in csv.DictReader(file) if row["state"] == "complete"]
        (name, direction), *_ = read_directions(folder).items()
        values = [float(row[name]) for row in rows]
    except OSError as error:
        raise UserError(Fault(place, f"{folder}: {reason(error)}")) from None
    except (KeyError, ValueError, TypeError):
        raise UserError(Fault(place, f"{folder / TRIALS} is not the table of a sweep")) from None
    for index in best_first(values, direction)[:BEST]:
        keys = list(rows[index])[list(rows[index]).index("run_dir") + 1 :]
        words = [f"{key}={rows[index][key]}" for key in keys if rows[index][key]]
        yield {override.key_or_group: override.value() for override in parse_overrides(words)}


def _point(
    setting: Mapping[str, Any], space: Sequence[Dimension], place: str, *, strict: bool
) -> tuple[dict[str, Any], list[Fault]]:
    """The values of a setting as the space has them; with `strict` it may have no other keys."""
    faults = []
    point: dict[str, Any] = {}
    known = {item.key: item for item in space}
    if strict:
        faults += [
            Fault(place, f"{key} is not a key of the space{nearest(key, known)}") for key in setting if key not in known
        ]
    for item in space:
        value = setting.get(item.key)
        if isinstance(value, Mapping):  # a group: which of its options was chosen is not kept
            value = value.get("type")
        if item.key not in setting or not item.is_active(point):
            continue
        try:
            point[item.key] = item.find(value)
        except ValueError as error:
            faults.append(Fault(place, f"{item.key}: {error}"))
    return point, faults
