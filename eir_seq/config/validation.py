"""From a plain mapping to an `ExperimentConfig`: the schema, the options of architectures and the cross-field rules.

Everything that is wrong is reported at once; a fault in one section does not hide those of another. Nothing here
imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from eir_seq.config.conversations import with_conversations
from eir_seq.config.errors import dotted, faults_of
from eir_seq.config.folders import home_fault
from eir_seq.config.inputs import share_faults, with_shared
from eir_seq.config.model_checks import check_models, model_option_places, with_known_models
from eir_seq.config.rules import check_rules
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.sections import Sections
from eir_seq.errors import Fault, UserError
from eir_seq.registry import INPUTS

_PATHS = frozenset(
    (
        "adapter",
        "cache_dir",
        "dir",
        "file",
        "file_dir",
        "labels",
        "model_type",
        "path",
        "root",
        "run",
        "test",
        "train",
        "validation",
        "vocab_file",
    )
)
"""Keys whose values may be paths."""


Look = Callable[[Sections, ExperimentConfig | None], Iterable[Fault]]
"""A further look at the valid sections (and the config, if all of it is valid), and what it finds."""


def validate_experiment(raw: Mapping[str, Any], look: Look | None = None) -> ExperimentConfig:
    """Validate a composed config.

    Args:
        raw: the config as plain mappings.
        look: finds further faults, which are reported together with those of the config.

    Raises:
        UserError: every fault, each at its config path.
    """
    if misplaced := list(_misplaced_keys(raw, ())):  # nothing can be said of what they name
        raise UserError(*misplaced)
    raw = with_conversations(raw)
    raw = {**raw, "inputs": with_shared(raw["inputs"], INPUTS)} if "inputs" in raw else raw
    faults = [Fault(path, "must be given (it is ??? where it is declared)") for path in _unset(raw, ())]
    shares = list(share_faults(raw.get("inputs")))
    faults += shares
    lost = tuple(fault.place.removesuffix("share") for fault in shares)
    config, sections = None, None
    try:
        config = ExperimentConfig.model_validate(raw)
        sections = _sections(raw, config)
    except ValidationError as error:
        unset = {fault.place for fault in faults}
        found = faults_of(error, ExperimentConfig, raw, places=model_option_places(raw))
        faults += [
            fault
            for fault in found
            if fault.place not in unset and not (fault.place.startswith(lost) and "is missing" in fault.message)
        ]
        sections = _sections(raw, None)
    faults += (of_models := list(check_models(raw)))
    faults += check_rules(with_known_models(sections, raw, of_models))
    if look is not None:
        reported = {fault.place for fault in faults}
        faults += [fault for fault in look(sections, config) if fault.place not in reported]
    if faults or config is None:
        raise UserError(*sorted(set(_once(faults, raw)), key=faults.index))
    return config


def _once(faults: Sequence[Fault], raw: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults without those that an input has in common with the one whose encoder it shares."""
    inputs = raw["inputs"].items() if isinstance(raw.get("inputs"), Mapping) else ()
    shares = {
        f"inputs.{name}.": f"inputs.{given['share']}."
        for name, given in inputs
        if _mapping(given).get("share", name) != name
    }
    for fault in faults:
        source = next((name for name in shares if fault.place.startswith(name)), None)
        if source is None or replace(fault, place=shares[source] + fault.place[len(source) :]) not in faults:
            yield fault


def _mapping(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {}


def _unset(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    if value == "???":
        yield dotted(path)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _unset(item, (*path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unset(item, (*path, str(index)))


def _misplaced_keys(value: Any, path: tuple[str, ...]) -> Iterator[Fault]:
    """Paths in the home folder of somebody who is not known here."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _misplaced_keys(item, (*path, str(key)))
    elif path[-1:] and path[-1] in _PATHS and isinstance(value, str) and (problem := home_fault(value)):
        yield Fault(dotted(path), problem)


def _sections(raw: Mapping[str, Any], config: ExperimentConfig | None) -> Sections:
    inputs, outputs = (
        tuple(map(str, given if isinstance(given := raw.get(key), Mapping) else ())) for key in ("inputs", "outputs")
    )
    if config is not None:
        return Sections(
            config.data,
            config.inputs,
            config.outputs,
            inputs,
            outputs,
            config.optimizer,
            config.scheduler,
            config.trainer,
            config.run,
            config.tracker,
            config.cache,
            config.fusion,
            config.broker,
            config.adversaries,
        )
    fields = ExperimentConfig.model_fields

    def valid(adapter: TypeAdapter[Any], value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError:
            return None

    def section(name: str) -> Any:
        field = fields[name]
        if name not in raw:
            return None if field.is_required() else field.get_default(call_default_factory=True)
        return valid(TypeAdapter(_annotation(name)), raw[name])

    def entries(name: str) -> dict[str, Any]:
        given = raw.get(name)
        adapter = TypeAdapter(_annotation(name))
        if not isinstance(given, Mapping):
            return {}
        found = {str(key): valid(adapter, {key: value}) for key, value in given.items()}
        return {key: value[key] for key, value in found.items() if value is not None}

    return Sections(
        section("data"),
        entries("inputs"),
        entries("outputs"),
        inputs,
        outputs,
        section("optimizer"),
        section("scheduler"),
        section("trainer"),
        section("run"),
        section("tracker"),
        section("cache"),
        section("fusion"),
        section("broker") or (),
        section("adversaries") or (),
    )


def _annotation(name: str) -> Any:
    """The type of a section, with the discriminator that pydantic keeps next to it."""
    from typing import Annotated

    field = ExperimentConfig.model_fields[name]
    return Annotated[field.annotation, field] if field.discriminator else field.annotation
