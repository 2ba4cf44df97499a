"""What language models demand of the rest of an experiment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.config.sections import Sections
from eir_seq.config.strict import ignored
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.modalities.sequence.config import SequenceInputConfig


def missing_head_faults(backbone: SequenceModelConfig, place: str, task: str) -> Iterator[Fault]:
    """A backbone from scratch without the language-model head of a task."""
    from eir_seq.models.catalogue import CATALOGUE

    name = backbone.model_type
    if backbone.pretrained_model or (name in CATALOGUE and task in CATALOGUE[name].tasks):
        return
    if name in CATALOGUE or name == "auto":
        listed = ", ".join(sorted(other for other, entry in CATALOGUE.items() if task in entry.tasks))
        yield Fault(place, f"{name!r} has no language-model head (task {task}); these have one: {listed}")


def missing_decoder_faults(backbone: SequenceModelConfig, place: str) -> Iterator[Fault]:
    """A model from scratch without a decoder that attends to states of something else."""
    from eir_seq.models.catalogue import CATALOGUE, decoder_task, list_decoders

    name = backbone.model_type
    if backbone.pretrained_model or (name in CATALOGUE and decoder_task(name)):
        return
    if name in CATALOGUE or name == "auto":
        yield Fault(
            place, f"{name!r} has no decoder with cross-attention; these have one: {', '.join(list_decoders())}"
        )


def standalone_faults(sections: Sections, name: str, kind: str) -> Iterator[Fault]:
    """Other outputs alongside one that has the backbone to itself."""
    if len(sections.output_names) > 1:
        others = ", ".join(other for other in sections.output_names if other != name)
        message = f"a {kind} output cannot be combined with others ({others})"
        why = "it has the backbone to itself; put the others into another experiment"
        yield Fault(f"outputs.{name}", f"{message}: {why}")


def block_faults(source: SequenceInputConfig, place: str) -> Iterator[Fault]:
    """What has no meaning where texts are in blocks of tokens."""
    if not isinstance(source.max_length, int):
        message = f"{source.max_length!r} has no meaning for blocks of tokens; give their length as a number"
        yield Fault(f"{place}.max_length", message)
    unread = "truncation max_characters is_split_into_words"
    yield from ignored(place, source, unread, "as a language model reads full texts")
