"""A `model_type` chosen on the command line: options that a file gives for another architecture mean nothing then."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.config.encoders import EncoderBase
from eir_seq.config.origin import COMMAND_LINE, Origin
from eir_seq.registry import ENCODERS, encoders_of


def with_catalogue_names(raw: dict[str, Any]) -> None:
    """Put the catalogue's name of an architecture for its synonyms, in place."""
    from eir_seq.models.catalogue import SYNONYMS

    sections = [section for key in ("inputs", "outputs") if isinstance(section := raw.get(key), dict)]
    for given in (given for section in sections for given in section.values()):
        model = given.get("model") if isinstance(given, dict) else None
        if isinstance(model, dict) and not model.get("pretrained_model") and isinstance(model.get("model_type"), str):
            model["model_type"] = SYNONYMS.get(model["model_type"], model["model_type"])


def with_tokenizer_types(raw: dict[str, Any]) -> None:
    """A tokenizer of a pretrained model is its published one where the config names no `type`, in place."""
    inputs = raw.get("inputs")
    for given in inputs.values() if isinstance(inputs, dict) else ():
        model, tokenizer = (given.get(key) if isinstance(given, dict) else None for key in ("model", "tokenizer"))
        if isinstance(model, dict) and model.get("pretrained_model") is True and isinstance(tokenizer, dict):
            tokenizer.setdefault("type", "published")


def _entry(kind: str, chosen: Any) -> str:
    """What an encoder of a kind of input is registered as, ``timm/NAME`` as ``timm``."""
    return f"{kind}.{str(chosen).partition('/')[0]}"


def _without_keys_of_others(
    model: dict[str, Any], kind: str, chosen: type[EncoderBase], place: str, origin: Origin
) -> list[str]:
    """Take keys of a file's model that other encoders have, and the chosen one not, out of it, in place."""
    every: list[type[EncoderBase]] = [SequenceModelConfig, *(ENCODERS[f"{kind}.{name}"] for name in encoders_of(kind))]
    foreign = {key for config in every for key in config.model_fields} - set(chosen.model_fields)
    found = [key for key in model if key in foreign and origin.source_of(f"{place}.{key}") != COMMAND_LINE]
    for key in found:
        del model[key]
    name, keys = model.get("model_type"), ", ".join(found)
    return [f"{place}: {name} has no use for {keys} of the experiment's file; left out"] if found else []


def _options_of(encoder: type[EncoderBase]) -> set[str]:
    """The names of an encoder's options."""
    field = encoder.model_fields.get("model_init_config")
    options = None if field is None else field.annotation
    return set(options.model_fields) if isinstance(options, type) and issubclass(options, BaseModel) else set()


def without_foreign_options(raw: dict[str, Any], origin: Origin) -> list[str]:
    """Take such options out of the composed config, in place; returns a sentence for each input that lost some.

    Options that the chosen architecture has, too, stay (bert's sizes serve roberta), and so does all that the command
    line sets. A type beyond the catalogue keeps none. With published weights neither options nor tokenizer of a file
    stay: they belong to another model. Where the kind of input has encoders of its own, other keys of the model that
    the chosen one lacks go, too.
    """
    from eir_seq.models.catalogue import CATALOGUE, config_class
    from eir_seq.models.options import fields

    notes: list[str] = []
    inputs = raw.get("inputs")
    for name, given in inputs.items() if isinstance(inputs, dict) else ():
        place = f"inputs.{name}.model"
        model = given.get("model") if isinstance(given, dict) else None
        if not isinstance(model, dict) or not origin.chosen_on_command_line(f"{place}.model_type"):
            continue
        options, chosen = model.get("model_init_config"), model.get("model_type")
        pretrained = model.get("pretrained_model") is True
        tokenizer = given.get("tokenizer")
        own = f"inputs.{name}.tokenizer"
        if pretrained and isinstance(tokenizer, dict) and origin.source_of(f"{own}.type") != COMMAND_LINE:
            chosen_keys = {key: x for key, x in tokenizer.items() if origin.source_of(f"{own}.{key}") == COMMAND_LINE}
            given["tokenizer"] = {"type": "published", **chosen_keys} if chosen_keys else None
            if chosen_keys.keys() < tokenizer.keys():
                notes.append(
                    f"{own}: the pretrained model brings its own tokenizer; that of the experiment's file is left out"
                )
        kind = str(given.get("type", "sequence"))
        encoder = ENCODERS.get(_entry(kind, chosen))
        notes += _without_keys_of_others(model, kind, encoder or SequenceModelConfig, place, origin)
        if not isinstance(options, dict):
            continue
        known: set[str]
        files = [o for o in options if origin.source_of(f"{place}.model_init_config.{o}") != COMMAND_LINE]
        if encoder is not None:
            known = _options_of(encoder)
        elif pretrained or (chosen == "auto" and "model_type" not in files):
            known = set()
        elif chosen in CATALOGUE:
            config = config_class(chosen)
            known = {*fields(config), *config.aliases}
        else:
            continue
        foreign = [option for option in files if option not in known]
        if foreign:
            model["model_init_config"] = {key: value for key, value in options.items() if key not in foreign}
            notes.append(f"{place}: {chosen} has no use for {', '.join(foreign)} of the experiment's file; left out")
    return notes
