"""Options checked against the catalogue: all that is wrong with them, and which other architectures have them."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.catalogue import CATALOGUE, config_class
from eir_seq.models.options import ModelConfig, Options, default_of, fields, problem_of


def check_options(model_type: str, given: Mapping[str, Any]) -> list[Fault]:
    """All that is wrong with options given for `model_type`; places are the options' names."""
    return _check(config_class(model_type), given)[0]


def decoder_options(model_type: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an encoder-decoder whose encoder is dropped: its attention heads are as many as the decoder's.

    >>> decoder_options("bart", {"decoder_attention_heads": 2})
    {'encoder_attention_heads': 2, 'decoder_attention_heads': 2}
    """
    config, own = config_class(model_type), dict[str, Any]()
    known, named = fields(config), {config.aliases.get(name, name) for name in given}
    for name in known:
        of_decoder = name.replace("encoder_attention_heads", "decoder_attention_heads")
        if of_decoder != name and of_decoder in known and name not in named:
            heads = given.get(of_decoder, default_of(known[of_decoder]))
            own |= {name: heads} if isinstance(heads, int) else {}
    return {**own, **given}


def build_config(model_type: str, given: Mapping[str, Any] | None = None) -> ModelConfig:
    """The options of `model_type` with transformers' defaults for what is not given.

    Raises:
        UserError: unknown model type or options, wrong types, values that cannot work together.
    """
    config = build_options(config_class(model_type), given or {})
    assert isinstance(config, ModelConfig)
    return config


def build_options(options: type[Options], given: Mapping[str, Any]) -> Options:
    """These options, those of a part of an architecture say, with defaults for what is not given.

    Raises:
        UserError: unknown options, wrong types, values that cannot work together.
    """
    faults, built = _check(options, given)
    if built is None or faults:
        raise UserError(*faults)
    return built


def max_positions(model_type: str, given: Mapping[str, Any]) -> int | None:
    """The longest sequence (in tokens) that these valid options allow, or None for no bound."""
    return build_config(model_type, given).position_limit()


def _check(config: type[Options], given: Mapping[str, Any]) -> tuple[list[Fault], Options | None]:
    known, hints = fields(config), typing.get_type_hints(config)
    faults: list[Fault] = []
    values: dict[str, Any] = {}
    for name, value in given.items():
        target = config.aliases.get(name, name)
        if target not in known:
            faults.append(Fault(str(name), f"not an option of {config.model_type!r}{_hint(config, str(name))}"))
        elif target in values:
            other = next(other for other in given if config.aliases.get(other, other) == target)
            faults.append(Fault(str(name), f"given twice: {name!r} and {other!r} are one option"))
        elif (problem := problem_of(value, hints[target], known[target].metadata)) is not None:
            faults.append(Fault(str(name), problem))
        elif target in config.parts and value is not None and (inner := _check(config.parts[target], value)[0]):
            faults += [fault.under(str(name)) for fault in inner]
        else:
            values[target] = value
    if faults:
        return faults, None
    built = config(**values)
    return [Fault(name, problem) for name, problem in built.problems()], built


def _hint(config: type[Options], name: str) -> str:
    owners = [other for other in CATALOGUE if name in fields(config_class(other))]
    whose = f" (it is one of {', '.join(owners[:3])})" if owners else ""
    return whose + nearest(name, [*fields(config), *config.aliases], cutoff=0.9 if owners else 0.6)
