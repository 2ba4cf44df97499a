"""The words of a command line: ``GROUP=OPTION`` and ``KEY=VALUE``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Sweep
from hydra.errors import HydraException

from eir_seq.config.errors import yaml_text
from eir_seq.config.folders import CONFIG_NAME, config_folders, options_of
from eir_seq.config.primary import groups_of_primary_config
from eir_seq.config.quoting import COMMAND_LINE, as_list, refused
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.yaml_source import contains_key, loaded, shown
from eir_seq.errors import Fault, UserError, nearest


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Parse the words of a command line.

    Raises:
        UserError: words that are not overrides; ``_target_``.
    """
    parsed: list[Override] = []
    faults: list[Fault] = []
    parser = OverridesParser.create()
    index = 0
    while index < len(overrides):
        text, used = overrides[index], 1
        try:
            override = parser.parse_override(as_list(text))
            if "_target_" in override.key_or_group.split(".") or contains_key(override._value, "_target_"):
                message = "code cannot be named in a config; choose by 'type' or 'model_type'"
                faults.append(Fault(text, message, COMMAND_LINE))
            if not override.key_or_group:
                faults.append(Fault(text, "not of the form key=value; it has no key", COMMAND_LINE))
            if isinstance(override._value, ChoiceSweep) and any(isinstance(x, Sweep) for x in override._value.list):
                message = "a list of values cannot hold a function that is a list itself; name all values (1,2,3)"
                faults.append(Fault(override.key_or_group, message, COMMAND_LINE))
            parsed.append(override)
        except (HydraException, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split("\nSee ")[0].split())
            fault, used = refused(overrides, index, reason)
            faults.append(fault)
        index += used
    if faults:
        raise UserError(*faults)
    return parsed


def normalized(overrides: Sequence[str]) -> list[str]:
    """Overrides as Hydra takes them, whether or not the user wrote a ``+``.

    `debug` comes last, so that its options win over those of the experiment, whatever its position.
    A value may be set whether or not a YAML file names its key: validation knows the keys, and names all unknown ones
    at once. A group that config.yaml does not choose (``experiment``) is added.

    Raises:
        UserError: words that are not overrides; ``_target_``; options that a group does not have.
    """
    folders = config_folders()
    chosen = groups_of_primary_config()
    result: list[str] = []
    faults: list[Fault] = []
    options: dict[str, str] = {}
    for override in parse_overrides(overrides):
        text, key = str(override.input_line), override.key_or_group
        bare = text.lstrip("+")
        is_group = override.package is not None or any((folder / key).is_dir() for folder in folders)
        if isinstance(override._value, dict) and key in ExperimentConfig.model_fields:
            is_group = False  # optimizer={lr: 0.1} sets values
        if override.is_delete() or key == "hydra" or key.startswith(("hydra.", "hydra/")):
            result.append(text)
        elif is_group and key == "tracker" and isinstance(override._value, list) and override._value:
            words, found = _several_trackers(override)
            result += words
            faults += found
        elif is_group:
            result.append(bare if key in chosen else f"+{bare}")
            faults += _faults_of_choice(override, key in chosen)
            if (group := override.get_key_element().lstrip("+")) in options:
                message = f"is chosen twice ({options[group]} and {override.get_value_string()}); name one"
                faults.append(Fault(group, message, COMMAND_LINE))
            options[group] = override.get_value_string()
        else:
            result.append(f"++{bare}")
    if faults:
        raise UserError(*faults)
    return sorted(result, key=lambda text: text.lstrip("+").startswith("debug="))


def _several_trackers(override: Override) -> tuple[list[str], list[Fault]]:
    """Overrides that put each of several trackers, options of the group or mappings, in a section of its own.

    The list of their names as `tracker.type` leaves out those of an experiment (`only_named`).
    """
    items, options = cast(list[Any], override.value()), options_of("tracker")
    faults = [unknown_option("tracker", str(x), options, COMMAND_LINE) for x in items if not _is_tracker(x, options)]
    names = [str(item.get("type")) if isinstance(item, dict) else str(item) for item in items]
    words = [f"++tracker.type=[{','.join(names)}]"]
    for name, item in zip(names, items, strict=True):
        text = Override._get_value_element_as_str(item)
        words.append(f"++tracker.{name}={text}" if isinstance(item, dict) else f"+tracker@tracker.{name}={name}")
    return words, faults


def _is_tracker(item: Any, options: Sequence[str]) -> bool:
    return "type" in item if isinstance(item, dict) else str(item) in options


def _faults_of_choice(override: Override, is_chosen: bool) -> Iterator[Fault]:
    """What is wrong with the option, or with each of several, that an override chooses of a group."""
    group = override.key_or_group
    options = options_of(group)
    for value in _choices(override):
        several = value if isinstance(value, list) else [value]
        if value is None or isinstance(value, dict) or not several:
            leave_out = f"; ~{group} leaves the group out" if is_chosen else ""
            yield Fault(group, f"{yaml_text(value)} is no option ({_listed(options)}){leave_out}", COMMAND_LINE)
            continue
        if unknown := [option for option in several if str(option) not in options]:
            yield from (unknown_option(group, _text(option), options, COMMAND_LINE) for option in unknown)
        elif clash := exclusive(group, several):
            jobs = f"{group}={','.join(map(str, several))}"
            yield Fault(group, f"{clash}; name one, or run a job with each: -m {jobs}", COMMAND_LINE)


def exclusive(group: str, options: Sequence[Any]) -> str | None:
    """That options of a group are variants of one section, of which the last would win; None if they add up."""
    variants = [repr(str(option)) for option in options if _has_type(group, str(option))]
    return f"{' and '.join(variants)} exclude each other" if len(variants) > 1 else None


def _choices(override: Override) -> list[Any]:
    """The values of an override: one, or those of a sweep that lists them."""
    value = override._value
    if isinstance(value, ChoiceSweep):
        return [Override._convert_value(item) for item in value.list]
    return [] if override.is_sweep_override() else [override.value()]


def _text(option: Any) -> str:
    return yaml_text(option) if isinstance(option, bool | None | list | dict) else str(option)


def _has_type(group: str, option: str) -> bool:
    """Whether an option says by ``type`` which variant of its section it is."""
    files = (folder / group / f"{option}.yaml" for folder in config_folders())
    path = next((path for path in files if path.is_file()), None)
    return path is not None and "type" in loaded(path)


def unknown_option(group: str, option: str, options: Sequence[str], source: str | None) -> Fault:
    """The fault of a choice that a group does not offer."""
    plain = PurePosixPath(option.removesuffix(".yaml").removesuffix(".yml")).name
    hint = f"; did you mean {plain!r}?" if plain in options else _misplaced(group, plain) or nearest(option, options)
    searched = "" if group.startswith("hydra") else f"; {_searched(group)}"
    return Fault(group, f"no option {option!r} ({_listed(options)}{searched}){hint}", source)


def _misplaced(group: str, name: str) -> str:
    """That the file is there, with another suffix or in a folder where options of the group are not looked for."""
    for folder in config_folders():
        path = folder / group / f"{name}.yaml"
        if name and os.path.lexists(path) and not path.is_file():
            kind = "a folder" if path.is_dir() else "a pipe, socket or device, or a link to nothing"
            return f"; {shown(path)} is {kind}, not a regular file"
        for path in (folder / group / f"{name}.yml", folder / f"{name}.yaml", Path(group) / f"{name}.yaml"):
            if name not in ("", CONFIG_NAME) and path.is_file():
                return f"; {shown(path)} must be {shown(folder / group)}/{name}.yaml"
    return ""


def _listed(options: Sequence[str]) -> str:
    return f"there are {', '.join(options)}" if options else "there are none"


def _searched(group: str) -> str:
    """The folders in which options of a group were looked for."""
    folders = config_folders()
    names = [shown(folder / group) for folder in folders if (folder / group).is_dir()] or [shown(folders[-1])]
    missing = "" if Path("conf").is_dir() else f", and {os.getcwd()} has no folder conf"
    return f"looked in {', '.join(names)}{missing}"
