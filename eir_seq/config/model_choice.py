"""A `model_type` chosen on the command line: options that a file gives for another architecture mean nothing then."""

from __future__ import annotations

from typing import Any

from eir_seq.config.origin import COMMAND_LINE, Origin


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


def without_foreign_options(raw: dict[str, Any], origin: Origin) -> list[str]:
    """Take such options out of the composed config, in place; returns a sentence for each input that lost some.

    Options that the chosen architecture has, too, stay (bert's sizes serve roberta), and so does all that the command
    line sets. A type beyond the catalogue keeps none. With published weights neither options nor tokenizer of a file
    stay: they belong to another model.
    """
    from eir_seq.models.catalogue import CATALOGUE, config_class
    from eir_seq.models.options import fields

    notes = []
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
        if not isinstance(options, dict):
            continue
        files = [o for o in options if origin.source_of(f"{place}.model_init_config.{o}") != COMMAND_LINE]
        if pretrained or (chosen == "auto" and "model_type" not in files):
            known: set[str] = set()
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
