"""Where config files lie: the user's folders first, the shipped one last.

Nothing here reads them, so that ``--help``, which lists them, imports neither Hydra nor pydantic.
"""

from __future__ import annotations

import os
from pathlib import Path

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
