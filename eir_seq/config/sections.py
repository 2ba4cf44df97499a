"""The sections of an experiment as rules see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eir_seq.config.broker import AdversaryConfig, MessageConfig
from eir_seq.config.cache import CacheConfig
from eir_seq.config.fusion import FusionBase
from eir_seq.config.optimization import OptimizerBase, SchedulerBase
from eir_seq.config.outputs import DocumentLayout, OutputBase
from eir_seq.config.schema import (
    DataConfig,
    InputConfig,
    RunConfig,
    TrainerConfig,
    document_layout,
    token_inputs,
)
from eir_seq.config.trackers import TrackerBase

if TYPE_CHECKING:
    from eir_seq.modalities.sequence.config import SequenceInputConfig


@dataclass(frozen=True)
class Sections:
    """The sections of an experiment that are valid by themselves; None (or left out) where one is not.

    `input_names` and `output_names` are all that are declared, those that are not valid, too.
    """

    data: DataConfig | None
    inputs: Mapping[str, InputConfig]
    outputs: Mapping[str, OutputBase]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    optimizer: OptimizerBase | None
    scheduler: SchedulerBase | None
    trainer: TrainerConfig | None
    run: RunConfig | None
    tracker: TrackerBase | None
    cache: CacheConfig | None = None
    fusion: FusionBase | None = None
    broker: Sequence[MessageConfig] = ()
    adversaries: Sequence[AdversaryConfig] = ()

    @property
    def token_inputs(self) -> dict[str, str]:
        """For each output that reads token states, the input that they are of."""
        return token_inputs(self.inputs, self.outputs)

    def text_of(self, output: str) -> SequenceInputConfig | None:
        """The text whose tokens an output reads; None if that input is none, or is not valid."""
        source = self.inputs.get(self.token_inputs[output])
        return None if source is None else source.text

    @property
    def layout(self) -> DocumentLayout | None:
        """How the rows of a language model hold its texts; None if rows are not those of a language model."""
        return document_layout(self.inputs, self.outputs)
