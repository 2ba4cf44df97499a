"""From the YAML files and the overrides of a command line to a validated `ExperimentConfig`.

Hydra composes; what it says about mistakes is told in our words, together with all that validation finds. Config files
come from ``./conf`` of the working directory, from ``$EIR_SEQ_CONF`` and from the shipped ``conf``, in this order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra import initialize_config_dir
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from eir_seq.config.schema import DataConfig, ExperimentConfig, RunConfig, SchedulerConfig, TrainerConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.config.yaml_source import StrictFileSource, contains_key, located, prefixes, read_yaml, shown
from eir_seq.errors import Fault, UserError, nearest

CONFIG_NAME = "config"
ENVIRONMENT_ALLOWED = re.compile(r"EIR_SEQ_\w+|HOME|USER|TMPDIR|SCRATCH|SLURM_JOB_ID|SLURM_ARRAY_TASK_ID")
"""Variables that ``${oc.env:NAME}`` may read. Others are refused: a config from elsewhere could otherwise copy a
secret of the environment into the files of a run."""


@dataclass(frozen=True)
class Composed:
    """A validated experiment and what it was made from."""

    config: ExperimentConfig
    overrides: tuple[str, ...]
    origin: Origin

    def with_sources(self, error: UserError) -> UserError:
        """The same faults; each that stands at a config key also names the file or override that set the key."""
        return UserError(*self.origin.name_sources(error.faults, self.config.model_dump()))


# -------------------------------------------------------------------------------------------------- where files are


def conf_dir() -> Path:
    """The shipped config folder: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if (inside / "config.yaml").is_file() else package.parent / "conf"


def user_conf_dirs() -> list[Path]:
    """``./conf`` and ``$EIR_SEQ_CONF``, where they exist and are not the shipped folder."""
    candidates = [Path("conf")]
    if extra := os.environ.get("EIR_SEQ_CONF"):
        candidates.append(Path(extra))
        if not Path(extra).is_dir():
            raise UserError(Fault("EIR_SEQ_CONF", f"{extra!r} is not a folder", "environment"))
    shipped = conf_dir().resolve()
    return [path.absolute() for path in candidates if path.is_dir() and path.resolve() != shipped]


def options_of(group: str) -> list[str]:
    """The options of a config group (``experiment``, ``data`` ...) in all config folders, sorted."""
    found: set[str] = set()
    for folder in [*user_conf_dirs(), conf_dir()]:
        root = folder / group
        found.update(path.relative_to(root).with_suffix("").as_posix() for path in root.glob("**/*.yaml"))
    return sorted(found)


class UserConfFirst(SearchPathPlugin):  # type: ignore[misc] # hydra's plugin classes are untyped at run time
    """Puts the user's config folders in front of the shipped one."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Prepend; ``./conf`` ends up first."""
        for path in reversed(user_conf_dirs()):
            search_path.prepend(provider="eir_seq", path=f"file://{path}")


def _environment(name: str, *default: str | None) -> str | None:
    if not ENVIRONMENT_ALLOWED.fullmatch(str(name)):
        raise ValueError(f"${name} may not be read from a config; allowed are EIR_SEQ_*, HOME, USER, TMPDIR, SCRATCH")
    if name in os.environ:
        return os.environ[name]
    if default:
        return None if default[0] is None else str(default[0])
    raise ValueError(f"the environment variable {name} is not set")


def set_up_hydra() -> None:
    """Register our parts with Hydra; may be called again."""
    Plugins.instance().register(UserConfFirst)
    SourcesRegistry.instance().types["file"] = StrictFileSource
    OmegaConf.register_new_resolver("oc.env", _environment, replace=True)
    # The defaults of the sections that have no variants, so that `--cfg job` and shell completion show all keys.
    sections = {"data": DataConfig(), "scheduler": SchedulerConfig(), "trainer": TrainerConfig(), "run": RunConfig()}
    defaults = {"seed": 0, **{name: section.model_dump() for name, section in sections.items()}}
    ConfigStore.instance().store(name="schema_defaults", node=defaults, provider="eir_seq")


def version_base() -> dict[str, str]:
    """The argument that Hydra 1.3 wants and that later versions warn about."""
    major, minor = (int(part) for part in hydra.__version__.split(".")[:2])
    return {"version_base": "1.3"} if (major, minor) < (1, 4) else {}


# --------------------------------------------------------------------------------------------------------- overrides


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
                faults.append(Fault(text, "code cannot be named in a config; choose by 'type' or 'model_type'"))
            parsed.append(override)
        except OverrideParseException as error:
            reason = " ".join(error.message.split("\nSee ")[0].split())
            faults.append(Fault(text, "not of the form key=value" if "=" not in text else reason, "command line"))
    if faults:
        raise UserError(*faults)
    return parsed


def normalized(overrides: Sequence[str]) -> list[str]:
    """Overrides as Hydra takes them, whether or not the user wrote a ``+``.

    A value may be set whether or not a YAML file names its key: validation knows the keys, and names all unknown ones
    at once. A group that config.yaml does not choose (``experiment``) is added.
    """
    folders = [*user_conf_dirs(), conf_dir()]
    chosen = _groups_of_primary_config()
    result = []
    for override in parse_overrides(overrides):
        text, key = str(override.input_line), override.key_or_group
        bare = text.lstrip("+")
        if override.is_delete() or key == "hydra" or key.startswith(("hydra.", "hydra/")):
            result.append(text)
        elif override.package is not None or any((folder / key).is_dir() for folder in folders):
            result.append(bare if key in chosen else f"+{bare}")
        else:
            result.append(f"++{bare}")
    return result


def _groups_of_primary_config() -> set[str]:
    for folder in [*user_conf_dirs(), conf_dir()]:
        path = folder / f"{CONFIG_NAME}.yaml"
        if path.is_file():
            defaults = OmegaConf.create(read_yaml(path).text or "{}").get("defaults") or []
            return {str(key).removeprefix("override ").strip("/ ") for entry in defaults if OmegaConf.is_dict(entry)
                    for key in entry}  # fmt: skip
    return set()


# ----------------------------------------------------------------------------------------------------------- compose


def compose_experiment(overrides: Sequence[str] = (), *, config_dir: Path | None = None) -> Composed:
    """Compose, validate and freeze an experiment.

    Args:
        overrides: as on a command line: ``experiment=NAME``, ``data=GROUP_OPTION``, ``trainer.max_epochs=3``.
        config_dir: a further folder with config files, found before all others.

    Raises:
        UserError: everything that is wrong with the files and the overrides.
    """
    with hydra_ready(config_dir):
        return compose_in_hydra(normalized(overrides))


@contextmanager
def hydra_ready(config_dir: Path | None = None) -> Iterator[None]:
    """Hydra with our search path, torn down afterwards."""
    set_up_hydra()
    previous = HydraConfig.instance().cfg
    shipped = conf_dir()
    if not (shipped / "config.yaml").is_file():
        raise AssertionError(f"the shipped config folder {shipped} is incomplete")
    if config_dir is not None and not config_dir.is_dir():
        raise UserError(Fault("--config-dir", f"{str(config_dir)!r} is not a folder", "command line"))
    with initialize_config_dir(config_dir=str(shipped), job_name="eir_seq", **version_base()):
        if config_dir is not None:
            loader = GlobalHydra.instance().config_loader()
            loader.get_search_path().prepend(provider="command-line", path=f"file://{config_dir.absolute()}")
            loader.repository.initialize_sources(loader.get_search_path())
        try:
            yield
        finally:
            HydraConfig.instance().cfg = previous


def compose_in_hydra(overrides: Sequence[str]) -> Composed:
    """Compose and validate with the Hydra that stands ready; `overrides` are normalized."""
    loader = GlobalHydra.instance().config_loader()
    with told_by_us():
        composed = loader.load_configuration(CONFIG_NAME, list(overrides), RunMode.RUN, from_shell=True)
    choices = dict(composed.hydra.runtime.choices)
    raw = _plain(composed)
    if "name" not in raw and choices.get("experiment"):
        raw["name"] = str(choices["experiment"]).replace("/", "-")
    origin = Origin(tuple(overrides))
    if "experiment" not in choices and not {"inputs", "outputs"} & raw.keys():
        raise UserError(*_no_experiment(raw))
    try:
        config = validate_experiment(raw)
    except UserError as error:
        raise UserError(*origin.name_sources(error.faults, raw), *origin.ignored_choices(raw)) from None
    if ignored := origin.ignored_choices(raw):
        raise UserError(*ignored)
    origin.composed_files()  # while Hydra stands ready; needed when data or training find a fault later
    return Composed(config, tuple(overrides), origin)


def _no_experiment(raw: dict[str, Any]) -> list[Fault]:
    names = ", ".join(options_of("experiment"))
    misspelt = [key for key in raw if key not in ExperimentConfig.model_fields and nearest(key, ["experiment"])]
    if misspelt:
        return [Fault(key, "unknown key; did you mean 'experiment'?", "command line") for key in misspelt]
    return [Fault("experiment", f"none is chosen; write experiment=NAME with one of: {names}")]


def _plain(composed: DictConfig) -> dict[str, Any]:
    """The composed config without Hydra's part as plain mappings, interpolations resolved."""
    HydraConfig.instance().set_config(composed)
    try:
        with told_by_us():
            keys = [key for key in composed if key != "hydra"]
            task = OmegaConf.masked_copy(composed, keys)
            OmegaConf.set_struct(task, False)
            raw = OmegaConf.to_container(task, resolve=True)
    except RecursionError:
        raise UserError(Fault("", "an interpolation ${...} that leads back to itself")) from None
    assert isinstance(raw, dict)
    return {str(key): value for key, value in raw.items()}


@contextmanager
def told_by_us() -> Iterator[None]:
    """Turns what Hydra and OmegaConf raise about a user's mistake into a `UserError`."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        cause: BaseException | None = error
        while cause is not None:  # our own error, raised while Hydra loaded a file
            if isinstance(cause, UserError):
                raise cause from None
            cause = cause.__cause__
        raise UserError(_fault_of(error)) from None


def _fault_of(error: Exception) -> Fault:
    text = str(error)
    parent = re.search(r"In '([^']+)'", text)
    source = None
    if parent is not None:
        found = _file_of_config(parent.group(1))
        source = shown(found) if found else parent.group(1)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).removeprefix("/").rpartition("/")
        options = options_of(group) if group else list(error.options or ())
        listed = f"; there are: {', '.join(options)}" if options else "; there is no such group"
        return Fault(group or option, f"no option {option!r}{nearest(option, options)}{listed}", source or "command line")
    if (sweep := re.search(r"Sweep parameters '?(.+?)' requires --multirun", text)) is not None:
        key, _, value = sweep.group(1).lstrip("+").partition("=")
        hint = f"{value!r} is a list of jobs: add -m to run them all, or write [{value}] for a list"
        return Fault(key, hint, "command line")
    root: BaseException = error
    while isinstance(root.__cause__, (HydraException, OmegaConfBaseException)):
        root = root.__cause__
    if isinstance(root, OmegaConfBaseException):
        key = str(root.full_key or "")
        message = str(root).splitlines()[0]
        if root.__cause__ is not None and isinstance(root.__cause__, ValueError):
            message = str(root.__cause__)
        message = re.sub(r"ValueError raised while resolving interpolation: ", "", message)
        return Fault(key, message, source or (Origin(()).source_of(key) if key else None))
    return Fault("", " ".join(re.sub(r"In '[^']+':", "", text).split()), source)


def _file_of_config(config_path: str) -> Path | None:
    with suppress(Exception):  # only ever used to say where a fault stands
        repository = GlobalHydra.instance().config_loader().repository
        for source in repository.get_sources():
            if isinstance(source, StrictFileSource) and source.is_config(config_path):
                return source.file_of(config_path)
    return None


# ------------------------------------------------------------------------------------------------------------ origin


class Origin:
    """Tells which file (with line) or override set a key of the composed config."""

    def __init__(self, overrides: tuple[str, ...]) -> None:
        self._overrides = parse_overrides([text for text in overrides if not text.startswith("~")])
        self._texts = list(overrides)
        self._files: list[tuple[str, Path]] | None = None

    def source_of(self, place: str) -> str | None:
        """``command line`` or ``file:line`` for a config path; for a missing key that of the mapping around it."""
        for prefix in prefixes(place):
            for override in self._overrides:
                if override.key_or_group == prefix and self._sets(override, place, prefix):
                    return "command line"
            for package, path in reversed(self.composed_files()):
                inner = prefix if not package else prefix.removeprefix(f"{package}.")
                if package and inner == prefix:
                    continue
                file = read_yaml(path)
                if inner in file.lines:
                    return located(file, inner)
        return None

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
            path = _file_of_config(f"{group}/{option}")
            if path is None or not isinstance(section, dict):
                continue
            wanted = OmegaConf.create(read_yaml(path).text or "{}").get("type")
            if wanted is not None and section.get("type") != wanted:
                source = self.source_of(f"{group}.type")
                if source == "command line":
                    continue
                message = f"has no effect, as {group}.type is set to {section.get('type')!r}; write {group}.type={wanted}"
                faults.append(Fault(f"{group}={option}", message, source))
        return faults

    @staticmethod
    def _sets(override: Override, place: str, prefix: str) -> bool:
        if place == prefix or not isinstance(override._value, dict):
            return place == prefix
        value: Any = override.value()
        for part in place[len(prefix) + 1 :].split("."):
            if not isinstance(value, dict) or part not in map(str, value):
                return False
            value = {str(key): item for key, item in value.items()}[part]
        return True

    def composed_files(self) -> list[tuple[str, Path]]:
        if self._files is None:
            self._files = []
            with suppress(HydraException, OmegaConfBaseException):
                loader = GlobalHydra.instance().config_loader()
                tree = loader.compute_defaults_list(CONFIG_NAME, self._texts, RunMode.RUN)
                for default in tree.defaults:
                    path = _file_of_config(str(default.config_path))
                    if path is not None:
                        self._files.append((default.package or "", path))
        return self._files
