"""What an architecture reads besides a text's tokens: one class per entry of ``inputs.NAME.tensors``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eir_seq.modalities.sequence.tensors.base import Places, TensorSource
from eir_seq.modalities.sequence.tensors.entities import Entities
from eir_seq.modalities.sequence.tensors.global_tokens import GlobalTokens
from eir_seq.modalities.sequence.tensors.numbers import Languages, Signs, TaskTypes
from eir_seq.modalities.sequence.tensors.pixels import Picture
from eir_seq.modalities.sequence.tensors.regions import Regions
from eir_seq.modalities.sequence.tensors.words import Boxes, XPaths

__all__ = ["KINDS", "Places", "TensorSource", "load_sources", "save_sources"]

KINDS: dict[str, type[TensorSource]] = {
    "bbox": Boxes,
    "xpaths": XPaths,
    "entities": Entities,
    "visual_embeds": Regions,
    "pixel_values": Picture,
    "global_attention_mask": GlobalTokens,
    "langs": Languages,
    "task_type_ids": TaskTypes,
    "input_shape_ids": Signs,
    "input_pronunciation_ids": Signs,
}
"""By the names of the config's entries."""


def save_sources(sources: Mapping[str, TensorSource]) -> dict[str, Any]:
    """Fitted sources as plain values."""
    return {kind: source.state() for kind, source in sources.items()}


def load_sources(state: Mapping[str, Any]) -> dict[str, TensorSource]:
    """What `save_sources` gave."""
    return {kind: KINDS[kind](**fields) for kind, fields in state.items()}
