"""From the YAML files and the overrides of a command line to a validated `ExperimentConfig`.

Hydra composes; its errors are reworded and reported together with all that validation finds. Config files come
 from ``$EIR_SEQ_CONF``, from ``./conf`` of the working directory and from the shipped ``conf``, in this order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import hydra
import omegaconf
from hydra import initialize_config_dir
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from eir_seq.config.cache import CacheConfig
from eir_seq.config.chosen_files import check_chosen_files
from eir_seq.config.engines import LAUNCHERS, launcher_node
from eir_seq.config.errors import without_foreign_keys
from eir_seq.config.folders import CONFIG_NAME, conf_dir, options_of, user_conf_dirs
from eir_seq.config.model_choice import with_catalogue_names, with_tokenizer_types, without_foreign_options
from eir_seq.config.optimization import SchedulerConfig
from eir_seq.config.origin import Origin, RecordingLoader, chooser_of, file_of_config
from eir_seq.config.overrides import exclusive, normalized, unknown_option
from eir_seq.config.schema import DataConfig, ExperimentConfig, RunConfig, TrainerConfig
from eir_seq.config.trackers import only_named
from eir_seq.config.validation import Look, validate_experiment
from eir_seq.config.yaml_source import StrictFileSource, in_words, shown
from eir_seq.errors import Fault, UserError, nearest

ENVIRONMENT_ALLOWED = re.compile(r"EIR_SEQ_\w+|HOME|USER|TMPDIR|SCRATCH|SLURM_JOB_ID|SLURM_ARRAY_TASK_ID")
"""Variables that ``${oc.env:NAME}`` may read. Others are refused: a config from elsewhere could otherwise copy a
secret of the environment into the files of a run."""


@dataclass(frozen=True)
class Composed:
    """A validated experiment, what it was made from, and what the user should know about that."""

    config: ExperimentConfig
    overrides: tuple[str, ...]
    origin: Origin
    notes: tuple[str, ...] = ()

    def with_sources(self, error: UserError) -> UserError:
        """The same faults; each that is at a config key also names the file or override that set the key."""
        return UserError(*self.origin.name_sources(error.faults, self.config.model_dump()))


def _environment(name: str, *default: str | None) -> str | None:
    if not ENVIRONMENT_ALLOWED.fullmatch(str(name)):
        raise ValueError(f"${name} may not be read from a config; allowed are EIR_SEQ_*, HOME, USER, TMPDIR, SCRATCH")
    if name in os.environ:
        return os.environ[name]
    if default:
        return None if default[0] is None else str(default[0])
    raise ValueError(f"the environment variable {name} is not set")


class UserConfFirst(SearchPathPlugin):
    """Puts the user's config folders before the shipped one."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Prepend them, so that their order stays."""
        for path in reversed(user_conf_dirs()):
            search_path.prepend(provider="eir_seq", path=f"file://{path}")


def set_up_hydra() -> None:
    """Register our parts with Hydra; may be called again."""
    Plugins.instance().register(UserConfFirst)
    SourcesRegistry.instance().types["file"] = StrictFileSource
    _register_resolver("oc.env", _environment)
    store = ConfigStore.instance()
    store.store(name="schema_defaults", node=schema_defaults(), provider="eir_seq")
    for name in LAUNCHERS:
        store.store(group="hydra/launcher", name=name, node=launcher_node(name), provider="eir_seq")


def schema_defaults() -> dict[str, Any]:
    """The defaults of the sections that have no variants, so that `--cfg job` and shell completion show all keys."""
    sections = {
        "data": DataConfig(),
        "scheduler": SchedulerConfig(),
        "trainer": TrainerConfig(),
        "run": RunConfig(),
        "cache": CacheConfig(),
    }
    return {"seed": 0, **{name: section.model_dump() for name, section in sections.items()}}


def version_base() -> dict[str, str]:
    """The argument that Hydra 1.3 wants and that later versions warn about."""
    return {"version_base": "1.3"} if _version(hydra) < (1, 4) else {}


def _register_resolver(name: str, resolver: Callable[..., Any]) -> None:
    # OmegaConf 2.4 gave the name of a function that 2.3 warns about to the successor of the one 2.4 warns about.
    newer = _version(omegaconf) >= (2, 4)
    register: Any = OmegaConf.register_resolver if newer else OmegaConf.register_new_resolver
    register(name, resolver, replace=True)


def _version(module: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in module.__version__.split(".")[:2])


def compose_experiment(overrides: Sequence[str] = (), look: Look | None = None) -> Composed:
    """Compose, validate and freeze an experiment.

    Args:
        overrides: as on a command line: ``experiment=NAME``, ``data=GROUP_OPTION``, ``trainer.max_epochs=3``.
        look: a further look at what is valid, see `validate_experiment`.

    Raises:
        UserError: everything that is wrong with the files and the overrides.
    """
    with hydra_ready():
        return compose_in_hydra(normalized(overrides), look)


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Hydra with our search path, torn down afterwards."""
    set_up_hydra()
    previous = HydraConfig.instance().cfg
    shipped = conf_dir()
    assert (shipped / f"{CONFIG_NAME}.yaml").is_file(), f"the shipped config folder {shipped} is incomplete"
    with initialize_config_dir(config_dir=str(shipped), job_name="eir_seq", **version_base()):
        ours = GlobalHydra.instance().hydra
        assert ours is not None
        ours.config_loader = RecordingLoader(ours.config_loader.get_search_path())
        try:
            yield
        finally:
            HydraConfig.instance().cfg = previous


def compose_in_hydra(overrides: Sequence[str], look: Look | None = None) -> Composed:
    """Compose and validate with the initialized Hydra; `overrides` are normalized."""
    loader = GlobalHydra.instance().config_loader()
    check_chosen_files(overrides, schema_defaults())
    with reworded(overrides, composing=True):
        composed = loader.load_configuration(CONFIG_NAME, list(overrides), RunMode.RUN, from_shell=True)
        choices = dict(composed.hydra.runtime.choices)
        raw = _plain(composed)
    if "name" not in raw and choices.get("experiment"):
        raw["name"] = str(choices["experiment"]).replace("/", "-")
    assert isinstance(loader, RecordingLoader)
    origin = Origin(tuple(overrides), loader.defaults)
    if idle := origin.idle_hydra_keys():
        raise UserError(*idle)
    if faults := origin.named_plugins():
        raise UserError(*faults)
    raw.pop("plugins", None)  # of the user's own config.yaml, which the command line has read
    if "experiment" not in choices and not {"inputs", "outputs"} & raw.keys():
        raise UserError(*_no_experiment(raw))
    if "tracker" in raw:
        raw["tracker"] = only_named(raw["tracker"])
    for place in origin.unset():
        _set(raw, place.split("."), "???")
    raw = without_foreign_keys(raw, ExperimentConfig, origin.chosen_on_command_line, origin.is_set)
    with_catalogue_names(raw)
    notes = without_foreign_options(raw, origin)
    with_tokenizer_types(raw)
    try:
        config = validate_experiment(raw, look)
    except UserError as error:
        raise UserError(*origin.name_sources(error.faults, raw), *origin.ignored_choices(raw)) from None
    if ignored := origin.ignored_choices(raw):
        raise UserError(*ignored)
    return Composed(config, tuple(overrides), origin, tuple(notes))


def _set(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for parent in parents:
        if not isinstance(inner := tree.get(parent), dict):
            return
        tree = inner
    tree[last] = value


def _no_experiment(raw: dict[str, Any]) -> list[Fault]:
    names = ", ".join(options_of("experiment"))
    misspelled = [key for key in raw if key not in ExperimentConfig.model_fields and nearest(key, ["experiment"])]
    if misspelled:
        return [Fault(key, "unknown key; did you mean 'experiment'?", "command line") for key in misspelled]
    return [Fault("experiment", f"none is chosen; write experiment=NAME with one of: {names}")]


def _plain(composed: DictConfig) -> dict[str, Any]:
    """The composed config without Hydra's part as plain mappings, interpolations resolved."""
    HydraConfig.instance().set_config(composed)
    keys: Any = [key for key in composed if key != "hydra"]  # of which some may be numbers, which is a fault
    task = OmegaConf.masked_copy(composed, keys)
    OmegaConf.set_struct(task, False)
    raw = OmegaConf.to_container(task, resolve=True)
    assert isinstance(raw, dict)
    return {str(key): value for key, value in raw.items()}


@contextmanager
def reworded(overrides: Sequence[str] = (), *, composing: bool = False) -> Iterator[None]:
    """Turns what Hydra and OmegaConf raise about a user's mistake into a `UserError`.

    While `composing` only they are at work, and they raise anything (ValueError, TypeError, AssertionError, errors of
    their parsers); all of it is about what the user wrote. Elsewhere an exception of another kind is a bug in eir_seq.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:  # our own error, raised while Hydra loaded a file
            if isinstance(cause, UserError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        if not composing and not isinstance(error, HydraException | OmegaConfBaseException):
            raise
        raise UserError(_fault_of(error, overrides)) from None


def _fault_of(error: Exception, overrides: Sequence[str]) -> Fault:
    text = str(error).partition("full_key:")[0]
    parent = re.search(r"(?:In|defaults list in) '([^']+)'", text) or re.search(r"In ([\w/.-]+):", text)
    source = None
    if parent is not None:
        found = file_of_config(parent.group(1))
        source = shown(found) if found else parent.group(1)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).removeprefix("/").rpartition("/")
        source = chooser_of(group, overrides) or source
        return unknown_option(group or option, option, sorted(error.options or ()), source)
    if (sweep := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'(?: |\n|:|$)", text)) is not None:
        key, _, value = sweep.group(1).lstrip("+").partition("=")
        hint = f"{value} describes several jobs; add -m to run them all"
        if "(" not in value and not exclusive(key, value.split(",")):
            hint += f", or write [{value}] for a list"
            hint += f", '{key}=\"{value}\"' for a text" if '"' not in value and not options_of(key) else ""
        return Fault(key, hint, "command line")
    if (deletion := re.search(r"Could not delete(?: from config\.)? '([^']+)'", text)) is not None:
        return Fault(f"~{deletion.group(1)}", "there is no such key to delete", "command line")
    root: BaseException = error
    while isinstance(root.__cause__, (HydraException, OmegaConfBaseException)):
        root = root.__cause__
    if isinstance(root, OmegaConfBaseException):
        key = str(root.full_key or "")
        message = in_words(root)
        source = source or (Origin(tuple(overrides)).source_of(key) if key else None)
        if key or source:
            return Fault(key, message, source)
    else:
        message = in_words(error)
    if source is None and (failing := _failing_override(overrides)):
        return Fault(failing, message, "command line")
    return Fault("", message, source)


def _failing_override(overrides: Sequence[str]) -> str | None:
    """The override without which the others can be composed; None if there is no such one."""
    loader = GlobalHydra.instance().config_loader()
    for index, override in enumerate(overrides):
        with suppress(Exception):
            others = [*overrides[:index], *overrides[index + 1 :]]
            loader.load_configuration(CONFIG_NAME, others, RunMode.RUN, from_shell=True)
            return override.lstrip("+")
    return None
