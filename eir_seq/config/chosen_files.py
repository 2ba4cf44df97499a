"""What is looked at in a file chosen on the command line (``experiment=NAME``) before Hydra composes it.

Hydra's own words about a defaults list speak of its internals and name no line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from eir_seq.config.folders import config_folders, options_of
from eir_seq.config.origin import file_of_config
from eir_seq.config.overrides import exclusive, parse_overrides, unknown_option
from eir_seq.config.primary import groups_of_primary_config
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.yaml_source import YamlFile, loaded, package_of, read_yaml, shown
from eir_seq.errors import Fault, UserError, nearest

_PACKAGE = "# @package _global_"


def check_chosen_files(overrides: Sequence[str], schema_defaults: Mapping[str, Any]) -> None:
    """Look through the chosen files of groups that are no sections of an experiment.

    Args:
        overrides: the words of the command line.
        schema_defaults: the mappings that the files are merged into.

    Raises:
        UserError: keys that would not land where they are meant to; a defaults list that is none; lists for mappings.
    """
    faults: list[Fault] = []
    for override in parse_overrides(overrides):
        group, option = override.key_or_group, override.value()
        special = override.package is not None or group in ExperimentConfig.model_fields or group.startswith("hydra")
        path = None if special or not isinstance(option, str) else file_of_config(f"{group}/{option}")
        if path is None:
            continue
        file = read_yaml(path)
        if (fault := _package_fault(file, group)) is not None:
            faults.append(fault)
            continue
        content = OmegaConf.to_container(loaded(path), resolve=False)
        assert isinstance(content, dict)
        keys = {str(key): value for key, value in content.items()}
        faults += _defaults_faults(file, keys.get("defaults", []), group)
        faults += _lists_for_mappings(file, keys, schema_defaults, ())
    if faults:
        raise UserError(*faults)


def _package_fault(file: YamlFile, group: str) -> Fault | None:
    package = package_of(file)
    if package == "_global_" or (package is not None and package.split(".")[0] in ExperimentConfig.model_fields):
        return None
    line = 1
    for number, text in enumerate(file.text.splitlines(), 1):
        if re.fullmatch(r"\s*#\s*@package\s+_global_\s*", text):
            line = number
    if line > 1:
        message = f"'{_PACKAGE}' must be the first line; it is line {line}"
    else:
        message = f"the first line must be '{_PACKAGE}', or the keys land under {package or group!r}"
    return Fault(group, message, f"{shown(file.path)}:{line}")


def _defaults_faults(file: YamlFile, entries: Any, group: str) -> Iterator[Fault]:
    """What is wrong with a defaults list; entries with packages and interpolations are left to Hydra."""

    def fault(message: str, *path: str) -> Fault:
        place = ".".join(path)
        return Fault("defaults", message, f"{shown(file.path)}:{file.lines.get(place, file.lines['defaults'])}")

    if not isinstance(entries, list):
        yield fault("is a list: each entry on its own line, as in '- override /data: table'", "defaults")
        return
    chosen, seen, last_override = groups_of_primary_config(), set[str](), ""
    groups = sorted({path.name for folder in config_folders() for path in folder.iterdir() if path.is_dir()})
    for index, entry in enumerate(entries):
        if isinstance(entry, str):
            if last_override and entry != "_self_":
                yield fault(f"{entry!r} must be above {last_override!r}; overrides come last", "defaults", str(index))
            continue
        if not isinstance(entry, dict) or len(entry) != 1:
            message = f"{entry!r} is no entry of it; write for example '- override /data: table'"
            yield fault(message, "defaults", str(index))
            continue
        ((words, option),) = ((str(key), value) for key, value in entry.items())
        where = ("defaults", str(index), words)
        *modifiers, name = words.split() or [""]
        if "@" in words or "${" in f"{words}{option}" or "optional" in modifiers or "hydra" in name.split("/"):
            continue
        is_override, bare = "override" in modifiers, name.strip("/")
        if not name.startswith("/") and not options_of(f"{group}/{name}"):
            if bare in groups:
                yield fault(f"{words!r} is looked for below {group}; write '/{bare}' with a slash", *where)
            else:
                yield fault(f"no group {bare!r} (there are {', '.join(groups)}){nearest(bare, groups)}", *where)
            continue
        if not name.startswith("/"):
            continue
        options = options_of(bare)
        if not options or (is_override and bare not in chosen):
            known = sorted(chosen.intersection(groups)) if is_override else groups
            yield fault(f"no group {bare!r} (there are {', '.join(known)}){nearest(bare, known)}", *where)
            continue
        if bare in chosen and not is_override:
            yield fault(f"config.yaml chooses {bare} already; write 'override /{bare}: {option}'", *where)
        elif bare in seen:
            yield fault(f"overrides {bare} twice; leave one", *where)
        seen.add(bare)
        last_override = words if is_override else last_override
        several = option if isinstance(option, list) else [option]
        for one in several:
            if isinstance(one, dict):
                yield fault(f"{one!r} is no name of an option; write its keys below, under {bare}:", *where)
            elif one is not None and str(one) not in options and one != "???":
                source = f"{shown(file.path)}:{file.lines['.'.join(where)]}"
                yield unknown_option(bare, str(one), options, source)
        if bare == "tracker":  # several have a section each
            for one in {str(one) for one in several if several.count(one) > 1}:
                yield fault(f"names {one!r} twice; leave one", *where)
        elif clash := exclusive(bare, several):
            yield fault(f"{clash}; name one", *where)


def _lists_for_mappings(
    file: YamlFile, given: Mapping[str, Any], known: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[Fault]:
    """Lists in places where a mapping is merged into another."""
    for key, value in given.items():
        inner = known.get(key)
        if isinstance(inner, Mapping):
            here = (*path, str(key))
            if isinstance(value, list):
                place = ".".join(here)
                yield Fault(place, "a list is not a mapping", f"{shown(file.path)}:{file.lines[place]}")
            elif isinstance(value, Mapping):
                yield from _lists_for_mappings(file, value, inner, here)
