"""Which file and line, or which override, set a key of the composed config."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from eir_seq.config.folders import CONFIG_NAME, conf_dir
from eir_seq.config.overrides import parse_overrides
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.yaml_source import StrictFileSource, loaded, located, prefixes, read_yaml
from eir_seq.errors import Fault

COMMAND_LINE = "command line"


class RecordingLoader(ConfigLoaderImpl):
    """Hydra's loader, which keeps the defaults list that it composed last: computing it is half of composing."""

    defaults: Sequence[ResultDefault] | None = None

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        self.defaults = defaults
        return super()._compose_config_from_defaults_list(defaults, repo)


class Origin:
    """Tells which file (with line) or override set a key of the composed config.

    Args:
        overrides: of the command line, as Hydra takes them.
        defaults: the defaults list that Hydra composed of them; computed when it is needed if absent.
    """

    def __init__(self, overrides: tuple[str, ...], defaults: Sequence[ResultDefault] | None = None) -> None:
        everything = parse_overrides(overrides)
        self._overrides = [override for override in everything if not override.is_delete()]
        self._keys = {override.key_or_group for override in everything}
        self._texts = list(overrides)
        self._defaults = defaults
        self._files: list[tuple[str, Path]] | None = None

    def source_of(self, place: str) -> str | None:
        """``command line`` or ``file:line`` for a config path; for a missing key that of the mapping around it."""
        place = next(prefixes(place))  # keys that are digits are in brackets
        if any(key.startswith(f"{place}.") for key in self._keys):
            return COMMAND_LINE
        for prefix in prefixes(place):  # overrides come last, so they win whatever a file says
            for override in self._overrides:
                if override.key_or_group == prefix and self._sets(override, place, prefix):
                    return COMMAND_LINE
        for prefix in prefixes(place):
            for package, path in reversed(self.composed_files()):
                inner = _inside(prefix, package)
                if inner is not None and inner in (file := read_yaml(path)).lines:
                    return located(file, inner)
        return None

    def unset(self) -> list[str]:
        """Config paths that a file leaves open (``???``) and that no later file or override sets."""
        paths: dict[str, None] = {}
        for package, path in self.composed_files():
            file = read_yaml(path)
            for inner in file.lines:
                place = f"{package}.{inner}" if package else inner
                if inner in file.unset:
                    paths[place] = None
                else:
                    paths.pop(place, None)
        return [place for place in paths if not any(prefix in self._keys for prefix in prefixes(place))]

    def chosen_on_command_line(self, place: str) -> bool:
        """Whether an override set this key, or (for ``GROUP.type``) chose the group."""
        return place in self._keys or (place.endswith(".type") and place.removesuffix(".type") in self._keys)

    def is_set(self, place: str) -> bool:
        """Whether a file or an override sets this very key, which otherwise has the default of the schema."""
        overridden = any(
            override.key_or_group == prefix and self._sets(override, place, prefix)
            for prefix in prefixes(place)
            for override in self._overrides
        )
        inner = ((_inside(place, package), path) for package, path in self.composed_files())
        return overridden or any(key in read_yaml(path).lines for key, path in inner if key is not None)

    def name_sources(self, faults: Sequence[Fault], raw: dict[str, Any]) -> list[Fault]:
        """The faults with their sources; faults at places that are no config paths stay as they are."""
        named = []
        for fault in faults:
            inside = fault.place.split(".")[0].split("[")[0] in {*raw, *ExperimentConfig.model_fields}
            source = fault.source or (self.source_of(fault.place) if inside else None)
            named.append(Fault(fault.place, fault.message, source))
        return named

    def ignored_choices(self, raw: dict[str, Any]) -> list[Fault]:
        """Groups chosen on the command line whose `type` a file read later sets to something else."""
        faults = []
        for override in self._overrides:
            group, option = override.key_or_group, override._value
            section = raw.get(group)
            path = file_of_config(f"{group}/{option}")
            if path is None or not isinstance(section, dict):
                continue
            wanted = loaded(path).get("type")
            if wanted is not None and section.get("type") != wanted:
                source = self.source_of(f"{group}.type")
                if source == COMMAND_LINE:
                    continue
                message = (
                    f"has no effect, as {group}.type is set to {section.get('type')!r}; write {group}.type={wanted}"
                )
                faults.append(Fault(f"{group}={option}", message, source))
        return faults

    def idle_hydra_keys(self) -> list[Fault]:
        """Keys of Hydra's own in the files of a user that do nothing here."""
        faults = []
        shipped = read_yaml(conf_dir() / f"{CONFIG_NAME}.yaml")
        for package, path in self.composed_files():
            file = read_yaml(path)
            known = shipped.lines if path.stem == CONFIG_NAME else {}  # which a file in its place may repeat
            for inner in file.lines:
                place = f"{package}.{inner}" if package else inner
                leaf = not any(other.startswith(f"{inner}.") for other in file.lines)
                if leaf and place.startswith("hydra.") and place not in known and not _sweeps(place):
                    message = "has no effect in a file; run.dir and run.root say where a run goes"
                    faults.append(Fault(place, message, located(file, inner)))
        return faults

    def named_plugins(self) -> list[Fault]:
        """Plug-ins that anything but config.yaml names."""
        message = (
            f"is no key of an experiment, which may come from elsewhere, while plug-ins are code; name them with "
            f"--plugins MODULE or in your own conf/{CONFIG_NAME}.yaml"
        )
        named = [key for key in self._keys if key.partition(".")[0] == "plugins"]
        faults = [Fault("plugins", message, COMMAND_LINE)] if named else []
        for package, path in self.composed_files():
            file = read_yaml(path)
            if path.stem != CONFIG_NAME and (key := _inside("plugins", package)) in file.lines:
                assert key is not None
                faults.append(Fault("plugins", message, located(file, key)))
        return faults

    @staticmethod
    def _sets(override: Override, place: str, prefix: str) -> bool:
        if place == prefix or not isinstance(override._value, dict):
            return place == prefix or isinstance(override._value, list)
        value: Any = override.value()
        for part in place[len(prefix) + 1 :].split("."):
            if not isinstance(value, dict) or part not in map(str, value):
                return False
            value = {str(key): item for key, item in value.items()}[part]
        return True

    def composed_files(self) -> list[tuple[str, Path]]:
        """Package (dotted path of the section) and file of each part of the config, in the order of merging."""
        if self._files is None:
            self._files = []
            with suppress(HydraException, OmegaConfBaseException):
                if self._defaults is None:
                    loader = GlobalHydra.instance().config_loader()
                    self._defaults = loader.compute_defaults_list(CONFIG_NAME, self._texts, RunMode.RUN).defaults
                for default in self._defaults:
                    path = file_of_config(str(default.config_path))
                    if path is not None:
                        self._files.append((default.package or "", path))
        return self._files


def file_of_config(config_path: str) -> Path | None:
    """The file that Hydra reads for a config like ``data/imdb``; None if there is none."""
    with suppress(Exception):  # only ever used to say where a fault is
        loader = GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        for source in loader.repository.get_sources():
            if isinstance(source, StrictFileSource) and source.is_config(config_path):
                return source.file_of(config_path)
    return None


def chooser_of(group: str, overrides: Sequence[str]) -> str | None:
    """Who chooses an option of `group`: the command line, or ``file:line`` of a defaults list that it leads to."""
    parsed = parse_overrides(overrides)
    if any(override.key_or_group == group for override in parsed):
        return COMMAND_LINE
    for override in parsed:
        path = file_of_config(f"{override.key_or_group}/{override._value}")
        if path is None:
            continue
        file = read_yaml(path)
        for key in file.lines:
            words = key.split(".", 2)
            if words[0] == "defaults" and len(words) == 3 and words[2].removeprefix("override ").strip("/ ") == group:
                return located(file, key)
    return None


def _sweeps(place: str) -> bool:
    return place.split(".")[1] in ("launcher", "sweep", "sweeper")


def _inside(place: str, package: str) -> str | None:
    """A config path as a file of that package writes it; None if it lies outside of the package."""
    if not package:
        return place
    return place.removeprefix(f"{package}.") if place.startswith(f"{package}.") else None
