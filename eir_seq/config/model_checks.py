"""What is wrong with the models of an experiment: their types, and the options of architectures."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eir_seq.config.errors import yaml_text
from eir_seq.config.sections import Sections
from eir_seq.errors import Fault, nearest
from eir_seq.files import CONFIG, read_text
from eir_seq.hub import unlocatable
from eir_seq.registry import DECODERS, INPUTS, encoders_of

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_IDS_WITHOUT_OWNER = {"gpt2", "ctrl", "openai-gpt"}
"""Names of the catalogue that are also checkpoints on the Hub."""
_CLASS = re.compile(r"(?:LMHead|DoubleHeads|WithHeads)*(?:Model|Config|For[A-Z]\w+)$")
"""The end of the name of a published class: BertModel, T5ForConditionalGeneration."""
_SIDES = ("encoder", "decoder")
_AUTO = "auto"
"""Type of a model from scratch that is not in the catalogue."""


def _models(raw: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Any, str]]:
    """Of each readable model: its config path, the model, tokens of a row (or of a target), and the key of these."""
    inputs = raw.get("inputs")
    for name, config in inputs.items() if isinstance(inputs, Mapping) else ():
        model = config.get("model") if isinstance(config, Mapping) else None
        if isinstance(model, Mapping) and isinstance(model.get("model_type"), str):
            kind = config.get("type", "sequence")
            tokens = INPUTS[kind].tokens_of(config) if kind in INPUTS else None
            if tokens is not None:
                yield f"inputs.{name}.model", model, *tokens
    outputs, decoded = raw.get("outputs"), {entry.partition(".")[0] for entry in DECODERS}
    for name, config in outputs.items() if isinstance(outputs, Mapping) else ():
        model = config.get("model") if isinstance(config, Mapping) else None
        if isinstance(config, Mapping) and config.get("type") in decoded:
            continue  # its model is a decoder, not an architecture
        if isinstance(model, Mapping) and isinstance(model.get("model_type"), str):
            yield f"outputs.{name}.model", model, config.get("max_length"), "max_length"


def _options(model: Mapping[str, Any]) -> dict[str, Any]:
    given = model.get("model_init_config")
    return {key: value for key, value in given.items() if isinstance(key, str)} if isinstance(given, Mapping) else {}


def with_known_models(sections: Sections, raw: Mapping[str, Any], faults: Sequence[Fault]) -> Sections:
    """The sections but for inputs and outputs whose `model_type` is at fault: what goes with it is not known."""
    wrong = {fault.place for fault in faults}
    places = [
        place for place, model, *_ in _models(raw) if _architecture(model) is None and not model.get("pretrained_model")
    ]
    unknown = {place.removesuffix(".model") for place in places if f"{place}.model_type" in wrong}
    return replace(
        sections,
        inputs={name: found for name, found in sections.inputs.items() if f"inputs.{name}" not in unknown},
        outputs={name: found for name, found in sections.outputs.items() if f"outputs.{name}" not in unknown},
    )


def _architecture(model: Mapping[str, Any]) -> str | None:
    """The catalogue name of a model, as far as it is known without a network."""
    from eir_seq.models.catalogue import CATALOGUE

    model_type = str(model["model_type"])
    if model.get("pretrained_model") is not True:
        return model_type if model_type in CATALOGUE else None
    published = _published_config(Path(model_type))
    found = published.get("model_type") if published is not None else None
    if found in CATALOGUE:
        found = _options(model).get("model_type", found)  # a bart checkpoint may be opened as mvp
    return found if isinstance(found, str) and found in CATALOGUE else None


def _published_config(folder: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(read_text(folder / "config.json", CONFIG))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def model_option_places(raw: Mapping[str, Any]) -> list[str]:
    """Config paths of all options of the architectures in use, so that a key set one level off finds its place."""
    from eir_seq.models.catalogue import config_class
    from eir_seq.models.options import fields

    return [
        f"{place}.model_init_config.{name}"
        for place, model, *_ in _models(raw)
        if (architecture := _architecture(model)) is not None
        for name in fields(config_class(architecture))
    ]


def check_models(raw: Mapping[str, Any]) -> Iterator[Fault]:
    """Unknown types, options that do not exist or do not fit together, lengths beyond the positions."""
    from eir_seq.models import options
    from eir_seq.models.catalogue import POOLERS
    from eir_seq.models.option_checks import check_options, decoder_options, max_positions
    from eir_seq.models.rope_options import transformers_spelling

    for place, model, tokens, key in _models(raw):
        if model["model_type"] == _AUTO and model.get("pretrained_model") is not True:
            if (problem := _problem_beyond(_options(model).get("model_type"))) is not None:
                yield Fault(f"{place}.model_init_config.model_type", problem)
            continue
        problem = _problem_with_type(model, _encoders(raw, place))
        if problem is not None:
            yield Fault(f"{place}.model_type", problem)
            continue
        architecture = _architecture(model)
        if architecture is None:
            if (problem := _problem_opened_as(model)) is not None:
                yield Fault(f"{place}.model_init_config.model_type", problem)
            continue
        if (part := model.get("pretrained_parts")) in _SIDES and not _has_two_sides(architecture):
            message = f"{part!r} is no part of {architecture!r}, which has one side only"
            yield Fault(f"{place}.pretrained_parts", message)
        if model.get("pool") == "pooler" and architecture not in POOLERS:
            message = f"{architecture!r} has no pooler; use avg, max, first or last"
            yield Fault(f"{place}.pool", message)
        yield from _tensors_not_taken(raw, place, architecture)
        given = dict(_options(model))
        if model.get("pretrained_model") is True:
            given.pop("model_type", None)
            published = _published_config(Path(str(model["model_type"]))) or {}
            known = options.fields(_config_class(architecture))
            base, _ = options.split_known(_config_class(architecture), transformers_spelling(published, known))
        else:
            base = {}
            if place.startswith("outputs."):  # without its encoder
                given = decoder_options(architecture, given)
        faults = check_options(architecture, given)
        if not faults and base:
            faults = check_options(architecture, options.overridden(_config_class(architecture), base, given))
        for fault in faults:
            if fault.place.split(".")[0] in given or not base:
                yield fault.under(f"{place}.model_init_config")
            else:
                yield Fault(f"{place}.model_type", f"{fault.place} of its config.json: {fault.message}")
        if faults or isinstance(tokens, bool) or not isinstance(tokens, int):
            continue
        longest = max_positions(architecture, options.overridden(_config_class(architecture), base, given))
        if longest is not None and tokens > longest:
            option = _config_class(architecture).max_positions_option or "positions"
            yield Fault(
                f"{place.removesuffix('.model')}.{key}",
                f"{tokens} tokens are more than the {longest} positions of {architecture!r}; "
                f"lower it or raise model_init_config.{option}",
            )


def _tensors_not_taken(raw: Mapping[str, Any], place: str, architecture: str) -> Iterator[Fault]:
    """Inputs other than tokens that no options make the architecture take; `place` is that of the model."""
    from eir_seq.models.catalogue import TENSORS

    source = place.removesuffix(".model")
    if not source.startswith("inputs."):
        return
    entries = {str(name): entry for name, entry in raw["inputs"].items()}  # a key may be a number, which is a fault
    given = entries[source.removeprefix("inputs.")].get("tensors")
    own = [kind for kind, models in TENSORS.items() if architecture in models]
    for kind, entry in given.items() if isinstance(given, Mapping) else ():
        if entry is not None and kind in TENSORS and kind not in own:
            listed = f"it takes {', '.join(own)}" if own else "it takes no further tensors"
            yield Fault(f"{source}.tensors.{kind}", f"{architecture!r} takes no such tensor; {listed}")


def _has_two_sides(architecture: str) -> bool:
    from eir_seq.models.catalogue import CATALOGUE

    return "seq2seq-lm" in CATALOGUE[architecture].tasks


def _config_class(architecture: str) -> Any:
    from eir_seq.models.catalogue import config_class

    return config_class(architecture)


def _problem_beyond(name: Any) -> str | None:
    """What is wrong with the type that `auto` resolves to, or None; its options are checked when it is built."""
    from eir_seq.models.catalogue import CATALOGUE

    if not isinstance(name, str):
        return f"{_AUTO!r} needs the name of a type that is not in the catalogue, such as modernbert"
    if name in CATALOGUE:
        return f"{name!r} is in the catalogue; name it as model_type in place of {_AUTO!r}"
    return None


def _architecture_meant(name: str) -> str:
    """What to write for a name that is close to an architecture's, that of a class, or that of a checkpoint."""
    from eir_seq.models.catalogue import CATALOGUE, SYNONYMS

    names = {_squeezed(other): other for other in (*SYNONYMS, *CATALOGUE)}
    plain = _squeezed(_CLASS.sub("", name))
    if plain in names:
        return f"; did you mean {names[plain]!r}?"
    prefixes = [other for other in names.values() if re.match(rf"{re.escape(other)}[-_]", name.casefold())]
    if prefixes:
        architecture = max(prefixes, key=len)
        return (
            f"; if it is a checkpoint, load it with pretrained_model: true; {architecture!r} is the architecture, to "
            "train from scratch"
        )
    close = difflib.get_close_matches(name.casefold(), CATALOGUE, n=3, cutoff=0.6)
    ratio = {other: difflib.SequenceMatcher(None, other, name.casefold()).ratio() for other in close}
    close = [other for other in close if ratio[other] > max(ratio.values()) - 0.1]
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else "; see `eir_seq models list`"


def _squeezed(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def _problem_opened_as(model: Mapping[str, Any]) -> str | None:
    """What is wrong with the type that a checkpoint of the catalogue is to be opened as, or None."""
    from eir_seq.models.catalogue import CATALOGUE

    name = _options(model).get("model_type")
    if model.get("pretrained_model") is not True or name is None or name in CATALOGUE:
        return None
    return f"{name!r} is not in the catalogue{nearest(str(name), CATALOGUE)}"


def _encoders(raw: Mapping[str, Any], place: str) -> Sequence[str]:
    """Names beside the catalogue that the model with that config path may have; those of outputs have none."""
    section, _, name = place.removesuffix(".model").partition(".")
    if section != "inputs":
        return ()
    entries = {str(key): entry for key, entry in raw[section].items()}  # a key may be a number, which is a fault
    return encoders_of(str(entries[name].get("type", "sequence")))


def _problem_with_type(model: Mapping[str, Any], encoders: Sequence[str]) -> str | None:
    """What is wrong with `model_type`, or None; `encoders` are other names that the kind of input has."""
    from eir_seq.models.catalogue import CATALOGUE

    name = str(model["model_type"])
    folder = Path(name).expanduser()
    if model.get("pretrained_model") is not True:
        if name in CATALOGUE:
            return None
        if folder.is_dir() or "/" in name:
            return f"{name!r} names a checkpoint, not an architecture; load it with pretrained_model: true"
        if not encoders:
            return f"{name!r} is not in the catalogue{_architecture_meant(name)}"
        hint = nearest(name, encoders) or _architecture_meant(name)
        return f"{name!r} is neither one of {', '.join(encoders)} nor in the catalogue{hint}"
    if (problem := unlocatable(name)) is not None:
        return problem
    if folder.is_dir():
        published = _published_config(folder)
        if published is None:
            return f"the folder {name!r} holds no readable config.json, so it is no published checkpoint"
        found = published.get("model_type")
        if not isinstance(found, str):
            return f"{name!r} is a checkpoint of {yaml_text(found)}, which is not in the catalogue"
        return None
    if not _HUB_ID.fullmatch(name):
        return f"there is no folder {name!r}, and it is not a Hub id (OWNER/NAME)"
    if name == _AUTO:
        return f"{name!r} is for models from scratch; with pretrained_model: true name a folder or Hub id (OWNER/NAME)"
    if name in CATALOGUE and name not in _HUB_IDS_WITHOUT_OWNER:
        return f"{name!r} is an architecture; with pretrained_model: true name a folder or Hub id (OWNER/NAME)"
    return None
