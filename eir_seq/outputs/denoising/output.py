"""A decoder writes a whole text from a noisy one."""

from __future__ import annotations

from typing import Literal

from eir_seq.config.strict import Strict
from eir_seq.outputs.base import Output
from eir_seq.outputs.denoising.config import DenoisingOutputConfig
from eir_seq.outputs.language.corrupted import FittedRestoring


class DenoisingState(Strict):
    """The state of the output: its config, with the input that it reads."""

    type: Literal["denoising"] = "denoising"
    name: str
    config: DenoisingOutputConfig


class Denoising(Output):
    """The output as declared; what there is to fit, the tokenizer, its input fits."""

    STATE = DenoisingState
    FITTED = FittedRestoring
