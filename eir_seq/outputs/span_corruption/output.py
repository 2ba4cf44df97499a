"""A decoder writes the spans that are taken out of a text."""

from __future__ import annotations

from typing import Literal

from eir_seq.config.strict import Strict
from eir_seq.outputs.base import Output
from eir_seq.outputs.language.corrupted import FittedRestoring
from eir_seq.outputs.span_corruption.config import SpanCorruptionOutputConfig


class SpanCorruptionState(Strict):
    """The state of the output: its config, with the input that it reads."""

    type: Literal["span_corruption"] = "span_corruption"
    name: str
    config: SpanCorruptionOutputConfig


class SpanCorruption(Output):
    """The output as declared; what there is to fit, the tokenizer, its input fits."""

    STATE = SpanCorruptionState
    FITTED = FittedRestoring
