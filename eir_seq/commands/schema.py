"""``schema``: the JSON schema of an experiment, with which editors check and complete its YAML."""

from __future__ import annotations

import json
from typing import Any

from eir_seq.commands.parser import UserParser
from eir_seq.config.folders import options_of
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.sweep_settings import SweepConfig
from eir_seq.models.catalogue import CATALOGUE, config_class
from eir_seq.models.options import describe


def run(arguments: list[str]) -> int:
    """Print the schema."""
    parser = UserParser(
        prog="python -m eir_seq schema",
        description="Prints the JSON schema of conf/experiment/*.yaml. Write it to a file and name that in the first "
        "line of the YAML: # yaml-language-server: $schema=PATH",
    )
    kinds = ("experiment", "sweep")
    parser.add_argument("of", nargs="?", default="experiment", choices=kinds, help="of an experiment, or of conf/sweep")
    flags = parser.parse_args(arguments)
    print(json.dumps(experiment_schema() if flags.of == "experiment" else sweep_schema(), indent=2))
    return 0


def experiment_schema() -> dict[str, Any]:
    """The schema of an experiment file: any part of the config, a defaults list, and what the catalogue knows.

    Nothing is required, as a file may leave keys to the groups it chooses and to the command line.
    """
    schema: dict[str, Any] = _partial(ExperimentConfig.model_json_schema())
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "An experiment of eir_seq"
    schema["properties"] = {"defaults": _defaults(), "hydra": {"type": "object"}, **schema["properties"]}
    model = schema["$defs"]["SequenceModelConfig"]
    name = model["properties"]["model_type"]
    known = [{"const": key, "description": entry.summary} for key, entry in CATALOGUE.items()]
    name["anyOf"] = [*known, {"type": "string"}]
    name.pop("type", None)
    model["allOf"] = [_options_of(key) for key in CATALOGUE]
    return schema


def sweep_schema() -> dict[str, Any]:
    """The schema of conf/sweep/NAME.yaml."""
    schema: dict[str, Any] = SweepConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "A search of eir_seq"
    return schema


def _partial(node: Any) -> Any:
    """The schema of a part: nothing is required, and a mapping without `type` may be of several variants."""
    if isinstance(node, list):
        return [_partial(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        "anyOf" if key == "oneOf" else key: _partial(item)
        for key, item in node.items()
        if not (key == "required" and isinstance(item, list)) and key != "discriminator"
    }


def _defaults() -> dict[str, Any]:
    groups = ("data", "fusion", "optimizer", "scheduler", "trainer", "tracker")
    choices = {f"override /{group}": {"anyOf": [{"enum": options_of(group)}, {"type": "string"}]} for group in groups}
    entry = {"anyOf": [{"type": "string"}, {"type": "object", "properties": choices}]}
    return {"type": "array", "items": entry, "description": "the option of each group that this experiment uses"}


def _options_of(name: str) -> dict[str, Any]:
    """If the model type is `name` and it starts from scratch, then these options and no others."""
    properties = {option["name"]: _property(option) for option in describe(config_class(name))}
    for alias, target in config_class(name).aliases.items():
        properties[alias] = {"description": f"another name of {target}"}
    closed = _closed(properties)
    return {
        "if": {"properties": {"model_type": {"const": name}}, "required": ["model_type"]},
        "then": {"properties": {"model_init_config": closed}},
    }


def _property(option: dict[str, Any]) -> dict[str, Any]:
    default = option["default"]
    part = _closed({inner["name"]: _property(inner) for inner in option["options"]}) if "options" in option else None
    return {
        "description": f"{option['meaning']} ({option['type']})",
        "default": list(default) if isinstance(default, tuple) else default,
        **({"anyOf": [part, {"type": "null"}]} if part else {}),
    }


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}
