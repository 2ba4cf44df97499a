"""Every documented argument of a configuration is an option, and takes its documented default."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

import pytest

from eir_seq.models import list_models
from eir_seq.models.option_checks import check_options
from tests.parity.harness import transformers

ARGUMENT = re.compile(r"^ +(\w+) \(`[^\n]*?(?:defaults to `?\"?([^`\"\n)]*)`?\"?)?\):", re.MULTILINE)
DOCUMENTED = [name for name in list_models() if name in transformers.CONFIG_MAPPING]


def literal(text: str) -> Any:
    """A documented value; products are written out in places."""
    factors = re.fullmatch(r"(\d+)\s*\*\s*(\d+)", text)
    return int(factors[1]) * int(factors[2]) if factors else ast.literal_eval(text)


def documented(model_type: str) -> list[tuple[str, Any]]:
    """Arguments with the default of the signature, and with that of the text where it can be read."""
    config = transformers.CONFIG_MAPPING[model_type]
    signature = inspect.signature(config.__init__).parameters
    found = [
        (name, parameter.default)
        for name, parameter in signature.items()
        if parameter.default is not inspect.Parameter.empty
    ]
    for name, default in ARGUMENT.findall(config.__doc__ or ""):
        try:
            found.append((name, literal(default)))
        except (ValueError, SyntaxError):
            if name not in signature:
                found.append((name, default or None))
    return found


@pytest.mark.parametrize("model_type", DOCUMENTED)
def test_documented_defaults_are_taken(model_type: str) -> None:
    arguments = documented(model_type)
    assert len(arguments) > 5
    refused = [f"{name}={value!r}: {fault.message}" for name, value in arguments
               for fault in check_options(model_type, {name: value})]  # fmt: skip
    assert refused == []
