"""The command line of a search (``sweep=NAME``, ``sweep.trials=20``) and its space, in Hydra's words for sweeps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from omegaconf import OmegaConf
from pydantic import BaseModel, ValidationError

from eir_seq.config.compose import reworded
from eir_seq.config.errors import faults_of
from eir_seq.config.folders import config_folders, options_of
from eir_seq.config.overrides import parse_overrides, unknown_option
from eir_seq.config.quoting import COMMAND_LINE
from eir_seq.config.sweep_settings import Direction, SweepConfig
from eir_seq.config.sweep_space import GROUP, Dimension
from eir_seq.config.yaml_source import YamlFile, config_of, located, read_yaml
from eir_seq.errors import Fault, UserError, nearest

SECTIONS = tuple(
    name
    for name, field in SweepConfig.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
)
"""Settings that are mappings of settings."""
_VERBATIM = ("sweep.storage=", "sweep.dir=", "sweep.ray.address=")
"""Settings whose values are taken as they are: URLs and paths need no quotes of Hydra's."""
WORDS = ("choice", "interval", "range", "tag", "int", "float", "str", "bool", "sort", "shuffle", "glob")
"""What values may begin with in Hydra's grammar: ``WORD(...)``."""


@dataclass(frozen=True)
class SweepRequest:
    """A command line of ``sweep``: its settings, its space, and the words that all trials share."""

    name: str | None
    config: SweepConfig
    space: tuple[Dimension, ...]
    words: tuple[str, ...]

    def chosen(self, values: Mapping[str, Any]) -> list[str]:
        """The words of the values of one trial."""
        return [f"{item.key}={item.text(values[item.key])}" for item in self.space if item.key in values]


def read_sweep(words: Sequence[str]) -> SweepRequest:
    """Read settings from ``conf/sweep/NAME.yaml`` and the command line, and parse the space.

    A word of the command line with several values (``optimizer.lr=1e-3,1e-2``) is a key of the space, too.

    Raises:
        UserError: all that is wrong with them.
    """
    verbatim = {key: word.partition("=")[2] for word in words for key in _VERBATIM if word.startswith(key)}
    parsed = parse_overrides([word for word in words if not word.startswith(_VERBATIM)])
    faults: list[Fault] = []
    name: str | None = None
    given: dict[str, Any] = {key.removeprefix("sweep.").rstrip("="): value for key, value in verbatim.items()}
    shared: list[str] = []
    searched: list[Override] = []
    for override in parsed:
        key = override.key_or_group
        if key == GROUP:
            name = str(override.value()) if not override.is_sweep_override() else None
            if name is None:
                faults.append(Fault(GROUP, "name one sweep", COMMAND_LINE))
        elif key.startswith(f"{GROUP}.") and not override.is_sweep_override():
            given[key.removeprefix(f"{GROUP}.")] = override.value()
        elif key.startswith(f"{GROUP}."):
            faults.append(Fault(key, "takes one value; a list is written [A,B]", COMMAND_LINE))
        elif (problem := _of_no_trial(key)) is not None:
            faults.append(Fault(key, problem, COMMAND_LINE))
        elif override.is_sweep_override():
            searched.append(override)
        else:
            shared.append(str(override.input_line))
    file = _file_of(name, faults)
    raw: Any = {}
    if file is not None:
        with reworded(composing=True):
            raw = OmegaConf.to_container(config_of(file), resolve=True)
    raw = _with_nested(raw, given)
    config = SweepConfig()
    try:
        config = SweepConfig.model_validate(raw)
        faults += _of_other_engines(config, given)
    except ValidationError as error:
        faults += [_located(fault, file, given) for fault in faults_of(error, SweepConfig, raw)]
    fixed = {override.key_or_group for override in parsed if str(override.input_line) in shared}
    space = list(_dimensions(config, file, searched, fixed, faults))
    if not space and not faults:
        known = f"choose sweep=NAME ({', '.join(options_of(GROUP)) or 'there are none'}), or give"
        faults.append(Fault("sweep.space", f"is empty; {known} a key several values, such as seed=1,2,3"))
    ordered = _ordered(space, faults)
    faults += _combinations(config)
    faults += _without_points(config, ordered)
    if faults:
        raise UserError(*faults)
    return SweepRequest(name, config, tuple(ordered), tuple(shared))


def _with_nested(raw: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file with those of the command line, of which some are of a section (`ray.address`)."""
    result = dict(raw)
    for key, value in given.items():
        section, dot, inner = key.partition(".")
        if dot and section in SECTIONS and isinstance(old := result.get(section) or {}, Mapping):
            result[section] = {**old, inner: value}
        else:
            result[key] = value
    return result


def _file_of(name: str | None, faults: list[Fault]) -> YamlFile | None:
    if name is None:
        return None
    path = next((path for folder in config_folders() if (path := folder / GROUP / f"{name}.yaml").is_file()), None)
    if path is None:
        faults.append(unknown_option(GROUP, name, options_of(GROUP), COMMAND_LINE))
        return None
    return read_yaml(Path(path))


def _located(fault: Fault, file: YamlFile | None, given: Mapping[str, Any]) -> Fault:
    key = fault.place.split(".")[0].split("[")[0]
    named = key in given or fault.place in given
    source = COMMAND_LINE if named or file is None else located(file, fault.place)
    return Fault(f"{GROUP}.{fault.place}", fault.message, source)


def _dimensions(
    config: SweepConfig, file: YamlFile | None, searched: Sequence[Override], fixed: set[str], faults: list[Fault]
) -> Iterator[Dimension]:
    """The keys of the space, those of the command line in place of those of the file."""
    replaced = {override.key_or_group for override in searched}
    for key, entry in config.space.items():
        if key in replaced:
            continue
        source = COMMAND_LINE if file is None else located(file, f"space.{key}")
        place = f"{GROUP}.space.{key}"
        if key in fixed:
            faults.append(Fault(key, f"is a key of the space ({source}); give it several values or none", COMMAND_LINE))
            continue
        text = entry if isinstance(entry, str) else entry.values
        if (problem := _of_no_trial(key) or _no_word(text)) is not None:
            faults.append(Fault(place, problem, source))
            continue
        try:
            (override,) = parse_overrides([f"{key}={text}"])
        except UserError as error:
            faults += [Fault(place, fault.message, source) for fault in error.faults]
            continue
        found = _dimension(override, source, place, faults)
        if found is not None:
            when = {} if isinstance(entry, str) else entry.when
            yield Dimension(**{**vars(found), "when": {other: _listed(value) for other, value in when.items()}})
    for override in searched:
        found = _dimension(override, COMMAND_LINE, override.key_or_group, faults)
        if found is not None:
            yield found


def _of_no_trial(key: str) -> str | None:
    """Why a trial has no value of this key."""
    if key == "run.dir":
        return "each trial has its own; sweep.dir=DIR names the sweep's"
    if key.partition(".")[0].partition("/")[0] in ("hydra", GROUP):
        return "has no effect on a search" if key.startswith("hydra") else "is a setting of the search, not of a trial"
    return None


def _no_word(text: str) -> str | None:
    """What is wrong with the word that values begin with; None if Hydra knows it, or there is none."""
    found = re.match(r"\s*(\w+)\(", text)
    if found is None or found[1] in WORDS:
        return None
    return f"{found[1]!r} is no word for values; write choice(...), interval(...) or range(...)"


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _dimension(override: Override, source: str, place: str, faults: list[Fault]) -> Dimension | None:
    value, key = override._value, override.key_or_group
    if not isinstance(value, ChoiceSweep | IntervalSweep | RangeSweep):
        hint = "write choice(...), interval(...) or range(...)"
        faults.append(Fault(place, f"{override.get_value_string()!r} has no several values; {hint}", source))
        return None
    unknown = sorted(value.tags - {"log"})
    log = "log" in value.tags
    if unknown:
        faults.append(Fault(place, f"unknown tag {unknown[0]!r}; there is log", source))
    if getattr(value, "shuffle", False):
        faults.append(Fault(place, "shuffle has no effect on a search; leave it out", source))
    if isinstance(value, ChoiceSweep):
        if log:
            faults.append(Fault(place, "tag(log, ...) needs an interval", source))
        texts = tuple(override.sweep_string_iterator())
        return Dimension(key, "choice", source, texts, tuple(Override._convert_value(item) for item in value.list))
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        if low is None or high is None or not low < high or (log and low <= 0):
            need = "0 < low < high" if log else "low < high"
            faults.append(Fault(place, f"interval({low}, {high}) needs {need}", source))
            return None
        whole = isinstance(low, int) and isinstance(high, int)
        return Dimension(key, "integer" if whole else "float", source, low=low, high=high, log=log)
    if log:
        faults.append(Fault(place, "tag(log, ...) needs an interval: tag(log, int(interval(LOW, HIGH)))", source))
    points = sorted(value.range())
    if not points:
        faults.append(Fault(place, "a range without values", source))
        return None
    whole = all(isinstance(point, int) for point in points)
    step = abs(value.step)
    kind: Literal["integer", "float"] = "integer" if whole else "float"
    return Dimension(key, kind, source, low=points[0], high=points[-1], step=step)


def _ordered(space: Sequence[Dimension], faults: list[Fault]) -> list[Dimension]:
    """The space with the keys of every condition before those that depend on them; conditions as texts of choices."""
    known = {item.key: item for item in space}
    checked = {item.key: Dimension(**{**vars(item), "when": dict(_conditions(item, known, faults))}) for item in space}
    ordered: list[Dimension] = []
    left = list(checked.values())
    while left:
        done = {item.key for item in ordered}
        ready = [item for item in left if item.when.keys() & known.keys() <= done]
        if not ready:
            faults.append(Fault(left[0].place, "its condition depends on itself", left[0].source))
            break
        ordered += ready
        left = [item for item in left if item not in ready]
    return ordered


def _conditions(
    item: Dimension, known: Mapping[str, Dimension], faults: list[Fault]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    for key, values in item.when.items():
        other = known.get(key)
        if other is None or other.kind != "choice":
            hint = nearest(key, known) if other is None else "; it must have choices"
            faults.append(
                Fault(f"{item.place}.when", f"{key!r} is not a key of the space with choices{hint}", item.source)
            )
            continue
        try:
            yield key, tuple(other.find(value) for value in values)
        except ValueError as error:
            faults.append(Fault(f"{item.place}.when", f"{key}: {error}", item.source))


def _combinations(config: SweepConfig) -> Iterator[Fault]:
    """Settings that exclude each other."""
    if config.directions and len(config.directions) != len(config.metrics):
        yield Fault("sweep.directions", f"has {len(config.directions)} entries for {len(config.metrics)} metrics")
    if config.metrics and config.direction is not None:
        yield Fault("sweep.direction", "is of trainer.monitor; write directions: [...] for metrics")
    if len(config.metrics) > 1 and config.pruner != "none":
        yield Fault("sweep.pruner", f"{config.pruner} stops trials by one metric, and there are {len(config.metrics)}")
    if len(config.metrics) > 1 and config.sampler == "cmaes":
        yield Fault("sweep.sampler", f"cmaes has one objective, and there are {len(config.metrics)}; choose tpe")
    if config.sampler == "cmaes" and config.storage is not None:
        message = (
            "cmaes keeps a pickle in the study, which whoever writes to sweep.storage could replace; choose tpe or gp"
        )
        yield Fault("sweep.sampler", f"{message}, or leave sweep.storage out")


def _of_other_engines(config: SweepConfig, given: Mapping[str, Any]) -> Iterator[Fault]:
    """Settings of the command line for an engine that is not used; a file may hold those of several."""
    for key in given:
        if (section := key.partition(".")[0]) in SECTIONS and section != config.engine:
            yield Fault(f"sweep.{key}", f"has no effect with sweep.engine={config.engine}", COMMAND_LINE)
    gpus = config.gpus_per_trial
    if config.engine == "slurm" and gpus is not None and gpus != int(gpus):
        yield Fault("sweep.gpus_per_trial", f"{gpus:g} is no number of GPUs, which SLURM gives whole")


def _without_points(config: SweepConfig, space: Sequence[Dimension]) -> Iterator[Fault]:
    for item in space if config.sampler == "grid" else ():
        if item.points is None:
            message = "a grid needs values; write choice(...) or range(...), or choose another sampler"
            yield Fault(item.place, message, item.source)


def leaves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every node of nested mappings by its dotted path."""
    for key, value in tree.items():
        yield key, value
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", item) for inner, item in leaves(value))


def best_first(values: Sequence[float | None], direction: Direction) -> list[int]:
    """Places of values from the best to the worst; those without one come last."""
    sign = 1 if direction == "minimize" else -1
    keyed = [(value is None, sign * (value or 0.0), place) for place, value in enumerate(values)]
    return [place for *_, place in sorted(keyed)]
