"""``config.yaml``: the options that it chooses, and the plug-ins that the user's own names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from omegaconf import OmegaConf

from eir_seq.config.folders import CONFIG_NAME, config_folders, user_conf_dirs
from eir_seq.config.yaml_source import config_of, loaded, located, read_yaml
from eir_seq.errors import Fault, UserError


def groups_of_primary_config() -> set[str]:
    """The groups of which config.yaml chooses an option."""
    path = next(path for folder in config_folders() if (path := folder / f"{CONFIG_NAME}.yaml").is_file())
    defaults = loaded(path).get("defaults") or []
    entries = [key for entry in defaults if OmegaConf.is_dict(entry) for key in entry]
    return {str(key).removeprefix("override ").strip("/ ") for key in entries}


def modules_in_conf(words: Sequence[str]) -> list[str]:
    """The modules that ``plugins:`` names in the user's config.yaml; that of the package names none.

    Args:
        words: of the command line, where ``--config-dir`` names a folder that comes before the others.

    Raises:
        UserError: it is no list of names.
    """
    further = [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    further += [following for word, following in pairwise(words) if word == "--config-dir"]
    folders = [*map(Path, further), *user_conf_dirs()]
    path = next((path for folder in folders if (path := folder / f"{CONFIG_NAME}.yaml").is_file()), None)
    if path is None:
        return []
    file = read_yaml(path)
    named = OmegaConf.to_container(config_of(file)).get("plugins")  # type: ignore[union-attr]
    if named is None:
        return []
    if not isinstance(named, list) or not all(isinstance(module, str) and module for module in named):
        raise UserError(
            Fault("plugins", "is no list of modules, such as [my_project.plugins]", located(file, "plugins"))
        )
    return named
