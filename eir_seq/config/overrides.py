"""The words of a command line: ``GROUP=OPTION`` and ``KEY=VALUE``."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from eir_seq.config.folders import config_folders, groups_of_primary_config, options_of
from eir_seq.config.yaml_source import contains_key
from eir_seq.errors import Fault, UserError, nearest


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Parse the words of a command line.

    Raises:
        UserError: words that are not overrides; ``_target_``.
    """
    parsed, faults = [], []
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
            if "_target_" in override.key_or_group.split(".") or contains_key(override._value, "_target_"):
                message = "code cannot be named in a config; choose by 'type' or 'model_type'"
                faults.append(Fault(text, message, "command line"))
            parsed.append(override)
        except HydraException as error:
            reason = " ".join(str(error).split("\nSee ")[0].split())
            faults.append(Fault(text, "not of the form key=value" if "=" not in text else reason, "command line"))
    if faults:
        raise UserError(*faults)
    return parsed


def normalized(overrides: Sequence[str]) -> list[str]:
    """Overrides as Hydra takes them, whether or not the user wrote a ``+``.

    A value may be set whether or not a YAML file names its key: validation knows the keys, and names all unknown ones
    at once. A group that config.yaml does not choose (``experiment``) is added.

    Raises:
        UserError: words that are not overrides; ``_target_``; options that a group does not have.
    """
    folders = config_folders()
    chosen = groups_of_primary_config()
    result, faults = [], []
    for override in parse_overrides(overrides):
        text, key = str(override.input_line), override.key_or_group
        bare = text.lstrip("+")
        is_group = override.package is not None or any((folder / key).is_dir() for folder in folders)
        is_group = is_group and not isinstance(override._value, dict)  # optimizer={lr: 0.1} sets values
        if override.is_delete() or key == "hydra" or key.startswith(("hydra.", "hydra/")):
            result.append(text)
        elif is_group:
            result.append(bare if key in chosen else f"+{bare}")
            options = options_of(key)
            if isinstance(option := override._value, (str, int, float)) and str(option) not in options:
                faults.append(unknown_option(key, str(option), options, "command line"))
        else:
            result.append(f"++{bare}")
    if faults:
        raise UserError(*faults)
    return result


def unknown_option(group: str, option: str, options: Sequence[str], source: str | None) -> Fault:
    """The fault of a choice that a group does not offer."""
    listed = f"there are {', '.join(options)}" if options else "there are none"
    return Fault(group, f"no option {option!r} ({listed}){nearest(option, options)}", source)
