"""Pages that mkdocs makes from the code: the config reference from the schema, the architectures from the catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

from eir_seq.config.engines import LAUNCHERS, RayConfig, SlurmConfig
from eir_seq.config.outputs import OutputBase
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.sweep_settings import SweepConfig
from eir_seq.models.catalogue import CATALOGUE, SYNONYMS, architecture, config_class, find
from eir_seq.models.generation import GenerationOptions
from eir_seq.models.model import Model
from eir_seq.models.option_checks import build_config
from eir_seq.models.options import Options, describe, flat
from eir_seq.registry import (
    CALLBACKS,
    DECODERS,
    ENCODERS,
    EXPLANATIONS,
    FUSIONS,
    INPUTS,
    MESSAGE_FUSIONS,
    OPTIMIZERS,
    OUTPUTS,
    PROJECTIONS,
    SCHEDULERS,
    TOKENIZERS,
    TRACKERS,
    Registry,
)

Schema = dict[str, Any]


def _kinds(registry: Registry) -> list[str]:
    """The classes of a registry."""
    return list(dict.fromkeys(config.__name__ for config in registry.values()))


def _model_options(registry: Registry) -> dict[str, list[str]]:
    """The classes of the options of encoders or decoders, and those that each belongs to."""
    found: dict[str, list[str]] = {}
    for name, config in registry.items():
        options = config.model_fields.get("model_init_config")
        if options is not None and isinstance(options.annotation, type) and issubclass(options.annotation, BaseModel):
            found.setdefault(options.annotation.__name__, []).append(name.replace(".", " "))
    return found


# The sections of an experiment in the order of a file, each with the classes that it may be made of.
SECTIONS = {
    "data": ["DataConfig"],
    "inputs.NAME": _kinds(INPUTS),
    "inputs.NAME.tensors": ["TensorsConfig"],
    "inputs.NAME.tensors.bbox, visual_embeds": ["ColumnConfig"],
    "inputs.NAME.tensors.pixel_values": ["PictureConfig"],
    "inputs.NAME.tensors.xpaths": ["XPathsConfig"],
    "inputs.NAME.tensors.entities": ["EntitiesConfig"],
    "inputs.NAME.tensors.global_attention_mask": ["GlobalAttentionConfig"],
    "inputs.NAME.tensors.langs": ["LanguagesConfig"],
    "inputs.NAME.tensors.task_type_ids": ["TaskTypesConfig"],
    "inputs.NAME.tensors.input_shape_ids, input_pronunciation_ids": ["SignsConfig"],
    "inputs.NAME.augmentation": ["AugmentationConfig", "OmicsAugmentationConfig"],
    "inputs.NAME.augmentation.missing, shuffle": ["BetaConfig"],
    "inputs.NAME.model": ["SequenceModelConfig", *_kinds(ENCODERS)],
    "inputs.NAME.model.model_init_config": list(_model_options(ENCODERS)),
    "inputs.NAME.model.lora": ["LoraConfig"],
    "inputs.NAME.tokenizer": _kinds(TOKENIZERS),
    "inputs.NAME.interpretation": _kinds(EXPLANATIONS),
    "fusion": _kinds(FUSIONS),
    "outputs.NAME": _kinds(OUTPUTS),
    "outputs.NAME.head": ["LinearHeadConfig", "MlpResidualHeadConfig", "SharedHeadConfig"],
    "outputs.NAME.model": _kinds(DECODERS),
    "outputs.NAME.model.model_init_config": list(_model_options(DECODERS)),
    "outputs.NAME.diffusion": ["DiffusionOptions"],
    "outputs.NAME.generator": ["GeneratorConfig"],
    "broker": ["MessageConfig"],
    "broker.projection": _kinds(PROJECTIONS),
    "broker.fusion": _kinds(MESSAGE_FUSIONS),
    "adversaries": ["AdversaryConfig"],
    "optimizer": _kinds(OPTIMIZERS),
    "scheduler": _kinds(SCHEDULERS),
    "trainer": ["TrainerConfig"],
    "trainer.monitor": ["MonitorConfig"],
    "trainer.early_stopping": ["EarlyStoppingConfig"],
    "trainer.averaging": ["EmaConfig", "SwaConfig"],
    "trainer.loss_weighting": ["FixedWeightingConfig", "UncertaintyWeightingConfig", "GradNormConfig"],
    "trainer.latents": ["LatentsConfig"],
    "trainer.mixing": ["MixingConfig"],
    "callbacks.NAME": _kinds(CALLBACKS),
    "tracker": [*_kinds(TRACKERS), "SeveralTrackers"],
    "start_from": ["StartFromConfig"],
    "run": ["RunConfig"],
    "cache": ["CacheConfig"],
}


def config_reference() -> str:
    """Every key of an experiment: its type, default and meaning."""
    schema = ExperimentConfig.model_json_schema()
    definitions: Schema = schema["$defs"]
    lines = [
        "# Every key of an experiment",
        "",
        "This page is made from the schema that every config is checked against. `NAME` is a name that you choose. "
        'On the command line the same keys are set by their path, e.g. `inputs.review.max_length=256`. "required" '
        "means that there is no default.",
        "",
        "## Top level",
        "",
        *_table(schema),
    ]
    for place, classes in SECTIONS.items():
        lines += ["", f"## {place}"]
        for name in classes:
            lines += ["", *_section(name, place, definitions[name], alone=len(classes) == 1)]
            lines += [line for config in OUTPUTS.values() if config.__name__ == name for line in _metrics(config)]
    lines += ["", "## sweep", "", "Settings of a search, in `conf/sweep/NAME.yaml` or as `sweep.KEY=VALUE`.", ""]
    lines += _table(SweepConfig.model_json_schema())
    for name, config in (("ray", RayConfig), ("slurm", SlurmConfig)):
        lines += ["", f"### sweep.{name}", "", f"{config.__doc__}", "", *_table(config.model_json_schema())]
    lines += ["", "## hydra.launcher", "", "What runs the jobs of `-m`: `hydra/launcher=NAME`, and its options.", ""]
    for name, launcher in LAUNCHERS.items():
        lines += ["", f"### hydra/launcher={name}", "", *_table(launcher.model_json_schema())]
    return "\n".join(lines) + "\n"


def _title(name: str, definition: Schema) -> str:
    """What distinguishes a class from the others of its place: its type, the encoders or decoders whose options it
    holds, or what it describes."""
    properties = definition["properties"]
    for key in ("type", "model_type", "method"):
        if key in properties:
            kind = properties[key]
            types = [kind["const"]] if "const" in kind else kind.get("enum", [])
            pattern = str(kind.get("pattern", "")).removeprefix("^")
            return f"{key} {' or '.join(types) or (f'{pattern}NAME' if pattern else 'of the catalogue')}"
    if models := (_model_options(ENCODERS) | _model_options(DECODERS)).get(name):
        return f"options of {', '.join(models)}"
    return str(definition["description"]).partition(",")[0].removesuffix(".")


def _section(name: str, place: str, definition: Schema, *, alone: bool) -> Iterator[str]:
    if not alone:
        yield f"### {place}: {_title(name, definition)}"
        yield ""
    yield definition["description"]
    yield ""
    yield from _table(definition)


def _metrics(config: type[OutputBase]) -> Iterator[str]:
    """The metrics of a kind of output."""
    yield ""
    yield "| metric | title in the report | better | monitored |"
    yield "|---|---|---|---|"
    for name, metric in config.metrics().items():
        spellings = [f"`{name}`"] * metric.overall + [f"`{name}(CLASS)`"] * metric.per_class
        better = {"min": "lower", "max": "higher"}[metric.better]
        yield f"| {', '.join(spellings)} | {metric.title} | {better} | {'yes' if metric.monitored else 'no'} |"


def _table(definition: Schema) -> Iterator[str]:
    required = definition.get("required", [])
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in definition["properties"].items():
        default = "required" if name in required else f"`{json.dumps(field.get('default'))}`"
        if isinstance(field.get("default"), dict):
            default = "see below"
        cells = (
            f"`{name}`",
            _type(field),
            default,
            field.get("description", "see below" if _is_section(field) else ""),
        )
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _is_section(field: Schema) -> bool:
    return "$ref" in json.dumps(field)


def _type(field: Schema) -> str:
    """A type as a person reads it, from its JSON schema."""
    if "$ref" in field or "discriminator" in field:
        return "section"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(part) for part in field["anyOf"]))
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    if field.get("type") == "object":
        values = field.get("additionalProperties")
        return f"mapping to {_type(values)}" if isinstance(values, dict) else "mapping"
    names = {"integer": "integer", "number": "number", "string": "text", "boolean": "true, false", "null": "null"}
    name = names.get(str(field.get("type")), "any")
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    ranges = [f"{sign} {field[key]}" for key, sign in signs.items() if key in field and abs(field[key]) < 2**62]
    return " ".join([name, " and ".join(ranges)]).strip()


def architecture_list() -> str:
    """All architectures in one table."""
    lines = [
        "# Architectures",
        "",
        "`model_type` takes one of these names. `model_init_config` takes the options on the page of the architecture.",
        "",
        "| model_type | what it is | tasks |",
        "|---|---|---|",
        *(
            f"| [`{name}`]({name}.md) | {entry.summary} | {', '.join(entry.tasks)} |"
            for name, entry in sorted(CATALOGUE.items())
        ),
    ]
    return "\n".join(lines) + "\n"


def architecture_page(name: str) -> str:
    """One architecture: what it is, its paper, an example, and its options."""
    entry = CATALOGUE[name]
    lines = [
        f"# {name}",
        "",
        f"{entry.summary} [Paper]({entry.paper})",
        "",
        *(f"`{other}` is another name of it." for other, known in SYNONYMS.items() if known == name),
        "",
        *_notes(name),
        "",
        "## Tasks",
        "",
        "`create_model` takes model type and task, or the class of transformers alone.",
        "",
        "| task | class of transformers |",
        "|---|---|",
        *(f"| `{task}` | `{declared.published}` |" for task, declared in architecture(name).tasks.items()),
        "",
        "## Export",
        "",
        *_export(name),
        "",
        "## Options",
        "",
    ]
    lines += _options(config_class(name))
    aliases = config_class(name).aliases
    if aliases:
        also = ", ".join(f"`{alias}` for `{option}`" for alias, option in sorted(aliases.items()))
        lines += ["", f"Other names that are understood: {also}."]
    return "\n".join(lines) + "\n"


def _export(name: str) -> Iterator[str]:
    """Whether `torch.export` takes the architecture, and what a program differs in."""
    row = find(name).export
    if row.refused is not None:
        yield f"With dynamic batch and length: no, because {row.refused}"
        return
    yield "With [dynamic batch and length](../guide/models.md#export): yes."
    if row.operations:
        listed = ", ".join(f"`{operation}`" for operation in row.operations)
        yield f"The program holds {listed}: import `eir_seq.models` where it runs."
    yield from (sentence for sentence in (row.note, row.lengths) if sentence is not None)


def _options(options: type[Options]) -> Iterator[str]:
    """A table of options."""
    yield "| option | type | default | meaning |"
    yield "|---|---|---|---|"
    for option in flat(describe(options)):
        default = json.dumps(option["default"], default=list)
        cells = (f"`{option['name']}`", option["type"], f"`{default}`", option["meaning"])
        yield f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in cells)} |"


def generation_options() -> str:
    """All options of `generate`."""
    lines = [
        "# Options of generate",
        "",
        "What `model.generate` and `model.stream` take, see [Generating text](../guide/generation.md). Defaults of a "
        "model (`model.generation_config`) replace those of this table.",
        "",
        *_options(GenerationOptions),
    ]
    return "\n".join(lines) + "\n"


def _notes(name: str) -> Iterator[str]:
    """What a user needs to know before the options."""
    bound = build_config(name).position_limit()
    yield f"A text has at most {bound:,} tokens by default." if bound else "Texts may be of any length."
    with torch.device("meta"):
        features = Model(architecture(name), build_config(name), "base").features
    if features:
        yield f"Takes {', '.join(f'`{feature}`' for feature in features)} beside the usual tensors."


def pages() -> dict[str, str]:
    """All generated pages, by their path in the site's sources."""
    return {
        "reference/config.md": config_reference(),
        "reference/generation.md": generation_options(),
        "architectures/index.md": architecture_list(),
        **{f"architectures/{name}.md": architecture_page(name) for name in CATALOGUE},
    }


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The hook that mkdocs calls when it has listed its sources.

    Pages that others link to have a tracked stand-in, which is what a code host shows; the generated page replaces it.
    """
    for path, content in pages().items():
        stand_in = files.get_file_from_path(path)
        if stand_in is not None:
            files.remove(stand_in)
        files.append(File.generated(config, path, content=content))
    return files
