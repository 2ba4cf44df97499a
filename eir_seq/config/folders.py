"""Where config files lie: the user's folders first, the shipped one last."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from eir_seq.config.yaml_source import config_of, located, read_yaml
from eir_seq.errors import Fault, UserError

CONFIG_NAME = "config"


def conf_dir() -> Path:
    """The shipped config folder: inside the installed package, else next to it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if (inside / "config.yaml").is_file() else package.parent / "conf"


def user_conf_dirs() -> list[Path]:
    """The folders of ``$EIR_SEQ_CONF`` (separated as in ``$PATH``), then ``./conf``; without the shipped one.

    Raises:
        UserError: ``$EIR_SEQ_CONF`` names something that is no folder.
    """
    named = [Path(name) for name in os.environ.get("EIR_SEQ_CONF", "").split(os.pathsep) if name]
    if missing := [path for path in named if not path.is_dir()]:
        raise UserError(*(Fault("EIR_SEQ_CONF", f"{str(path)!r} is not a folder") for path in missing))
    shipped = conf_dir().resolve()
    found = [*named, Path("conf")]
    return [path.absolute() for path in found if path.is_dir() and path.resolve() != shipped]


def config_folders() -> list[Path]:
    """All folders with config files; the first that has a file provides it."""
    return [*user_conf_dirs(), conf_dir()]


def options_of(group: str) -> list[str]:
    """The options of a config group (``experiment``, ``data`` ...) in all config folders, sorted."""
    found: set[str] = set()
    for folder in config_folders():
        root = folder / group
        found.update(
            path.relative_to(root).with_suffix("").as_posix() for path in root.glob("**/*.yaml") if path.is_file()
        )
    return sorted(found)


def home_fault(path: str) -> str | None:
    """What is wrong with a path that begins with ``~`` or ``~NAME``: there is no such home folder."""
    name = path.partition("/")[0]
    if not name.startswith("~") or os.path.expanduser(name) != name:
        return None
    return f"{path!r}: no home folder is known for {name!r}; write ./{name} for a folder of that name"


def loaded(path: Path) -> DictConfig:
    """One config file by itself."""
    return config_of(read_yaml(path))


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


class UserConfFirst(SearchPathPlugin):
    """Puts the user's config folders before the shipped one."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Prepend them, so that their order stays."""
        for path in reversed(user_conf_dirs()):
            search_path.prepend(provider="eir_seq", path=f"file://{path}")
