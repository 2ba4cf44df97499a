"""Inputs whose text is that of an output, which names the columns of its conversations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_conversations(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config with an empty `column` in inputs whose text is that of an output: prompts and answers, or messages."""
    inputs, outputs = raw.get("inputs"), raw.get("outputs")
    if not isinstance(inputs, Mapping) or not isinstance(outputs, Mapping):
        return raw
    texts = {
        name: given
        for name, given in inputs.items()
        if isinstance(given, Mapping) and given.get("type", "sequence") == "sequence"
    }
    open_ = [name for name, given in texts.items() if not {"column", "text"} & given.keys()]
    talks = [given for given in outputs.values() if isinstance(given, Mapping) and {"prompt", "messages"} & {*given}]
    read = [given.get("input") or (open_[0] if len(open_) == 1 else None) for given in talks]
    filled = {name: {**inputs[name], "column": ""} for name in open_ if name in read}
    return {**raw, "inputs": {**inputs, **filled}} if filled else raw
