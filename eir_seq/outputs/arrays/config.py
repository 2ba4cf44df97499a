"""What an experiment may say about any output of arrays or pictures."""

from __future__ import annotations

from typing import ClassVar

from eir_seq.config.outputs import HeadOutputBase
from eir_seq.outputs.arrays.metrics import HEADLINES


class GridOutputBase(HeadOutputBase):
    """What every output has that predicts an array (channels, height, width) for each row."""

    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = HEADLINES
    UNLABELLED: ClassVar[str] = "none is scored"
