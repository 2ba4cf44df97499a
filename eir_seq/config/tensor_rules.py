"""What the tensors of an input demand of the rest of its section; `eir_seq.config.rules` asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from eir_seq.config.schema import SequenceInputConfig
from eir_seq.errors import Fault


def tensor_faults(place: str, config: SequenceInputConfig, targets: Mapping[str, str]) -> Iterator[Fault]:
    """Faults of one input at `place`; `targets` are the outputs' names by column."""
    tensors, words = config.tensors, config.is_split_into_words
    for kind, entry in tensors.given().items():
        column = getattr(entry, "column", None)
        if column is None:
            continue
        here = f"{place}.tensors.{kind}.column"
        if column in targets:
            yield Fault(here, f"column {column!r} is the target of outputs.{targets[column]}")
        elif column in (config.column, config.pair_column):
            yield Fault(here, f"column {column!r} holds the text already")
    key = f"{place}.is_split_into_words"
    xpaths = tensors.xpaths
    for kind, needs_words in (("bbox", tensors.bbox), ("xpaths", xpaths is not None and xpaths.column)):
        if needs_words and not words:
            yield Fault(key, f"must be true: tensors.{kind} has a value for each word")
    if words and xpaths is not None and xpaths.html:
        yield Fault(key, "must be false: the column holds HTML (tensors.xpaths.html)")
    if words and tensors.entities is not None:
        yield Fault(key, "must be false: tensors.entities are characters of a text")
