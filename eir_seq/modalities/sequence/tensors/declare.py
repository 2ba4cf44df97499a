"""From the config's entries to sources: what the model takes, how large its tables are, what published files hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eir_seq.config.tensors import EntitiesConfig, GlobalAttentionConfig
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.modalities.pictures import PREPROCESSING, Scaling, published_moments, published_scaling
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.tensors.base import TensorSource
from eir_seq.modalities.sequence.tensors.entities import Entities
from eir_seq.modalities.sequence.tensors.global_tokens import GlobalTokens
from eir_seq.modalities.sequence.tensors.numbers import Languages, Signs, TaskTypes
from eir_seq.modalities.sequence.tensors.pixels import DEVIATION, MEAN, Picture
from eir_seq.modalities.sequence.tensors.regions import Regions
from eir_seq.modalities.sequence.tensors.words import LARGEST, Boxes, XPaths
from eir_seq.models.catalogue import CATALOGUE, architecture, config_class
from eir_seq.models.checkpoint.folder import locate, options_of, read_config
from eir_seq.models.option_checks import build_config
from eir_seq.models.options import ModelConfig, overridden
from eir_seq.tokenizers import Tokenizer
from eir_seq.tokenizers.core import CONFIG_FILE
from eir_seq.tokenizers.files import MAX_BYTES, TokenizerFiles
from eir_seq.tokenizers.hub import local_folder

ENTITY_FILE = "entity_vocab.json"
SIGN_FILES = {"input_shape_ids": "word_shape.json", "input_pronunciation_ids": "word_pronunciation.json"}
_SWITCHES = {
    "langs": "n_langs above 1, use_lang_emb: true",
    "task_type_ids": "use_task_id: true",
    "input_shape_ids": "enable_shape: true",
    "input_pronunciation_ids": "enable_pronunciation: true",
}
"""Options without which an architecture that could take a tensor does not."""


def declare_sources(name: str, config: SequenceInputConfig) -> dict[str, TensorSource]:
    """The sources of the input called `name`, not yet fitted.

    Raises `UserError` for tensors that the model does not take, published files that are missing or broken, and values
    beyond the model's tables.
    """
    given = config.tensors.given()
    if not given:
        return {}
    place = f"inputs.{name}.tensors"
    options = _options(config, place)
    taken = () if options is None else _inputs_of(options)
    sources, faults = {}, []
    for kind, entry in given.items():
        source = None
        try:
            source = _BUILDERS[kind](entry, options, config) if options is not None else None
        except UserError as error:
            faults += [fault.under(f"{place}.{kind}") if os.sep not in fault.place else fault for fault in error.faults]
            continue
        if source is None or not set(source.tensors) <= set(taken):
            faults.append(Fault(f"{place}.{kind}", _not_taken(kind, config, options, taken)))
        elif source is not None:
            sources[kind] = source
    if faults:
        raise UserError(*faults)
    return sources


def adapt(sources: Mapping[str, TensorSource], config: SequenceInputConfig, tokenizer: Tokenizer, place: str) -> Any:
    """The sources, those that go by tokens knowing the tokenizer."""
    adapted: dict[str, TensorSource] = {}
    for kind, source in sources.items():
        if isinstance(source, Boxes):
            source = replace(source, separator=tokenizer.sep_id)
        elif isinstance(source, Signs):
            source = _read_signs(source, config, tokenizer, f"{place}.tensors.{kind}")
        adapted[kind] = source
    return adapted


def check_sizes(sources: Mapping[str, TensorSource], options: Any, place: str) -> list[Fault]:
    """Tables of the model that are too small for what the sources were fitted to."""
    faults = []
    for kind, source in sources.items():
        for option, least in source.derived_options().items():
            if getattr(options, option) < least:
                message = f"{getattr(options, option)} is less than the {least} that tensors.{kind} has"
                faults.append(Fault(f"{place}.model.model_init_config.{option}", message))
    return faults


def not_given(sources: Mapping[str, TensorSource], taken: Sequence[str]) -> list[str]:
    """Entries that a model with these inputs could read and that are not there, nor have their own rule then."""
    wanted = {kind: tensors for kind, tensors in _TENSORS.items() if kind != "global_attention_mask"}
    return [kind for kind, tensors in wanted.items() if set(tensors) <= set(taken) and kind not in sources]


# ------------------------------------------------------------------------------------------------------ the model


def _options(config: SequenceInputConfig, place: str) -> ModelConfig | None:
    """The options of the backbone before it is built; None if it is not one of the catalogue's."""
    model = config.model
    if not model.pretrained_model:
        if model.model_type not in CATALOGUE:
            return None
        given = dict(model.model_init_config)
        if (
            config.tensors.langs is not None
            and model.model_type in CATALOGUE
            and "n_langs" in _fields(model.model_type)
        ):
            given.setdefault("n_langs", 2)  # at least; the number follows from the rows
        prefix = f"{place.removesuffix('.tensors')}.model.model_init_config"
    else:
        folder = locate(model.model_type, revision=model.revision)
        content = read_config(folder)
        if content["model_type"] not in CATALOGUE:
            return None
        given = options_of(content, folder / "config.json")
        published = given.pop("published")
        given = overridden(config_class(content["model_type"]), given, model.model_init_config)
        try:
            return replace(build_config(content["model_type"], given), published=published)
        except UserError as error:
            raise UserError(
                *(fault.under(f"{place.removesuffix('.tensors')}.model") for fault in error.faults)
            ) from None
    try:
        return build_config(model.model_type, given)
    except UserError as error:
        raise UserError(*(fault.under(prefix) for fault in error.faults)) from None


def _fields(model_type: str) -> Any:
    from eir_seq.models.catalogue import config_class
    from eir_seq.models.options import fields

    return fields(config_class(model_type))


def _inputs_of(options: ModelConfig) -> tuple[str, ...]:
    tasks = architecture(options.model_type).tasks
    return tasks["encoder" if "encoder" in tasks else "base"].plan(options).inputs


def _not_taken(kind: str, config: SequenceInputConfig, options: ModelConfig | None, taken: tuple[str, ...]) -> str:
    model = config.model.model_type if options is None else options.model_type
    own = [entry for entry, tensors in _TENSORS.items() if set(tensors) <= set(taken)]
    listed = f"it takes {', '.join(own)}" if own else "it takes no further tensors"
    switch = _SWITCHES.get(kind)
    if switch is not None and options is not None and hasattr(options, switch.split(":")[0].split()[0]):
        return f"{model!r} takes it only with {switch} (model_init_config)"
    return f"{model!r} takes no such tensor; {listed}"


# ----------------------------------------------------------------------------------------------------- the kinds


def _boxes(entry: Any, c: Any, config: SequenceInputConfig) -> TensorSource:  # noqa: ARG001
    return Boxes(entry.column, largest=min(LARGEST, getattr(c, "max_2d_position_embeddings", LARGEST + 1) - 1))


def _xpaths(entry: Any, c: Any, config: SequenceInputConfig) -> TensorSource | None:
    if not hasattr(c, "max_depth"):
        return None
    source = XPaths(
        entry.column,
        depth=c.max_depth,
        tag_padding=c.tag_pad_id,
        subscript_padding=c.subs_pad_id,
        num_tags=c.max_xpath_tag_unit_embeddings,
        num_subscripts=c.max_xpath_subs_unit_embeddings,
    )
    files = _files(config)
    tags = files.optional_json(CONFIG_FILE).get("tags_dict") if files is not None else None
    if tags is None:
        if config.model.pretrained_model:
            raise UserError(
                Fault("", "the tokenizer's tokenizer_config.json has no tags_dict, with which the model was trained")
            )
        return source
    assert files is not None
    _check_numbers(
        tags, c.max_xpath_tag_unit_embeddings - 1, files.folder / CONFIG_FILE, "max_xpath_tag_unit_embeddings"
    )
    return replace(source, tags=tags, unknown=len(tags))


def _entities(entry: EntitiesConfig, c: Any, config: SequenceInputConfig) -> TensorSource | None:
    if not hasattr(c, "entity_vocab_size"):
        return None
    given = config.model.pretrained_model or "entity_vocab_size" in config.model.model_init_config
    size = c.entity_vocab_size if given else None
    source = Entities(entry.column, entry.min_freq, entry.max_mention_length, size)
    files = _files(config)
    if files is None or not files.has(ENTITY_FILE):
        if config.model.pretrained_model:
            raise UserError(Fault("", f"the tokenizer has no {ENTITY_FILE}, which numbers the entities of the model"))
        return source
    vocabulary = files.json(ENTITY_FILE, MAX_BYTES)
    missing = [name for name in ("[UNK]", "[MASK]") if name not in vocabulary]
    if missing:
        raise files.fault(ENTITY_FILE, f"has no entity {missing[0]!r}")
    _check_numbers(vocabulary, size, files.folder / ENTITY_FILE, "entity_vocab_size")
    return replace(source, vocabulary=vocabulary)


def _regions(entry: Any, c: Any, config: SequenceInputConfig) -> TensorSource | None:  # noqa: ARG001
    return Regions(entry.column, size=c.visual_embedding_dim) if hasattr(c, "visual_embedding_dim") else None


def _picture(entry: Any, c: Any, config: SequenceInputConfig) -> TensorSource | None:
    if not hasattr(c, "vision"):
        return None
    size, channels = c.vision.image_size, c.vision.num_channels
    if channels not in (1, 3):
        raise UserError(Fault("", f"a picture has 1 or 3 channels, the model reads {channels} (num_channels)"))
    source = Picture(
        entry.column,
        **vars(Scaling(size, channels, entry.resize or "crop")),
        mean=list(MEAN) if channels == len(MEAN) else [sum(MEAN) / len(MEAN)],
        deviation=list(DEVIATION) if channels == len(DEVIATION) else [sum(DEVIATION) / len(DEVIATION)],
        tokens=c.vision.tokens * (c.num_image_with_embedding or 1),
        frames=c.num_image_with_embedding,
    )
    if not config.model.pretrained_model:
        return source
    model = config.model
    files = TokenizerFiles(local_folder(model.model_type, allow_patterns=[PREPROCESSING], revision=model.revision))
    content, place = files.optional_json(PREPROCESSING), str(files.folder / PREPROCESSING)
    if content and entry.resize is None:
        source = replace(source, **vars(published_scaling(content, size, channels, place)))
    if (moments := published_moments(content, channels, place)) is not None:
        source = replace(source, mean=moments[0], deviation=moments[1])
    return source


def _languages(entry: Any, c: Any, config: SequenceInputConfig) -> TensorSource:
    numbers = entry.lang2id or c.published.get("lang2id") or {}
    if entry.value is not None and numbers and entry.value not in numbers:
        raise UserError(
            Fault("value", f"{entry.value!r} is not a language of the model{nearest(entry.value, numbers)}")
        )
    if config.model.pretrained_model and not numbers:
        raise UserError(Fault("lang2id", "is missing: config.json does not number the languages of the model"))
    return Languages(entry.column, entry.value, dict(numbers))


def _global_tokens(entry: GlobalAttentionConfig, c: Any, config: SequenceInputConfig) -> TensorSource:  # noqa: ARG001
    faults = []
    if entry.question == "pair_column" and config.pair_column is None:
        faults.append(Fault("question", "'pair_column' is not given for this input"))
    if entry.column is not None and config.is_split_into_words:
        faults.append(Fault("column", "its spans are characters of a text, but the column of the text holds words"))
    if faults:
        raise UserError(*faults)
    return GlobalTokens(entry.column, entry.first, entry.question, entry.every)


def _task_types(entry: Any, c: Any, config: SequenceInputConfig) -> TensorSource:  # noqa: ARG001
    count = getattr(c, "task_type_vocab_size", 3)
    if entry.value is not None and entry.value >= count:
        raise UserError(
            Fault("value", f"{entry.value} is beyond the {count} types of the model (task_type_vocab_size)")
        )
    return TaskTypes(entry.column, entry.value, count)


def _signs(name: str) -> Callable[[Any, Any, SequenceInputConfig], TensorSource]:
    def build(entry: Any, c: Any, config: SequenceInputConfig) -> TensorSource:
        kind = name.split("_")[1]
        if entry.file is None and _files(config) is None:
            raise UserError(Fault("file", f"is missing; a trained tokenizer has no {SIGN_FILES[name]}"))
        return Signs(None, name=name, count=getattr(c, f"{kind}_vocab_size", 0))

    return build


_BUILDERS: dict[str, Callable[[Any, Any, SequenceInputConfig], TensorSource | None]] = {
    "bbox": _boxes,
    "xpaths": _xpaths,
    "entities": _entities,
    "visual_embeds": _regions,
    "pixel_values": _picture,
    "global_attention_mask": _global_tokens,
    "langs": _languages,
    "task_type_ids": _task_types,
    "input_shape_ids": _signs("input_shape_ids"),
    "input_pronunciation_ids": _signs("input_pronunciation_ids"),
}
_TENSORS = {
    "bbox": Boxes.tensors,
    "xpaths": XPaths.tensors,
    "entities": Entities.tensors,
    "visual_embeds": Regions.tensors,
    "pixel_values": Picture.tensors,
    "global_attention_mask": GlobalTokens.tensors,
    "langs": Languages.tensors,
    "task_type_ids": TaskTypes.tensors,
    "input_shape_ids": ("input_shape_ids",),
    "input_pronunciation_ids": ("input_pronunciation_ids",),
}


# ----------------------------------------------------------------------------------------------- published files


def _files(config: SequenceInputConfig) -> TokenizerFiles | None:
    """The folder of a published tokenizer; None if it is trained."""
    declared, model = config.tokenizer, config.model
    published = None if declared is None else declared.published
    if published is None and (declared is not None or not model.pretrained_model):
        return None
    if published is not None and published.path is not None:
        name, revision = published.path, published.revision
    else:
        name, revision = model.model_type, model.revision
    wanted = [CONFIG_FILE, ENTITY_FILE, *SIGN_FILES.values()]
    return TokenizerFiles(local_folder(name, allow_patterns=wanted, revision=revision))


def _read_signs(source: Signs, config: SequenceInputConfig, tokenizer: Tokenizer, place: str) -> Signs:
    entry = getattr(config.tensors, source.name)
    if entry.file is not None:
        path = Path(entry.file).expanduser()
        files, name = TokenizerFiles(path.parent), path.name
    else:
        found = _files(config)
        assert found is not None
        files, name = found, SIGN_FILES[source.name]
    if not files.has(name):
        raise UserError(Fault(place, f"there is no {files.folder / name}"))
    numbers = files.json(name, MAX_BYTES)
    _check_numbers(numbers, source.count, files.folder / name, "the model's table")
    unknown = numbers.get("[UNK]")
    if unknown is None:
        raise files.fault(name, "has no number for '[UNK]'")
    tokens = tokenizer.tokens(range(tokenizer.vocab_size))
    listed = [numbers.get(token, unknown) for token in tokens]
    return replace(source, numbers=listed, special=unknown, padding=tokenizer.pad_id or 0)


def _check_numbers(numbers: Any, size: int | None, path: Path, option: str) -> None:
    """Raise `UserError` unless `numbers` maps names to integers below `size`."""
    if not isinstance(numbers, dict):
        raise UserError(Fault(str(path), "a mapping of names to numbers is expected"))
    for name, number in numbers.items():
        if type(number) is not int or number < 0 or (size is not None and number >= size):
            bound = "" if size is None else f" below {size} ({option})"
            raise UserError(Fault(str(path), f"{name!r} has the number {number!r}, not a whole one{bound}"))
