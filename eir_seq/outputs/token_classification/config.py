"""What an experiment may say about an output of tags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from eir_seq.config.column_types import ColumnType
from eir_seq.config.metrics import Metric
from eir_seq.config.outputs import LinearOutputBase, TokenOutputBase
from eir_seq.errors import Fault
from eir_seq.outputs.token_classification.metrics import HEADLINES, METRICS

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class TokenClassificationOutputConfig(TokenOutputBase, LinearOutputBase):
    """A tag for each word of a sequence input, read at the word's first token."""

    COLUMN_TYPE: ClassVar[ColumnType] = ColumnType.LIST
    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.token_classification.output:TokenClassification"
    REPORT: ClassVar[str] = "eir_seq.outputs.token_classification.report:section"
    METRICS: ClassVar[tuple[Metric, ...]] = METRICS
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = HEADLINES

    type: Literal["token_classification"] = "token_classification"

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """An input that has no words to tag."""
        read, source = sections.token_inputs[name], sections.text_of(name)
        if source is None:
            return
        html = source.tensors.xpaths is not None and source.tensors.xpaths.html
        if not (source.is_split_into_words or html):
            place = f"inputs.{read}.is_split_into_words"
            yield Fault(place, f"must be true: outputs.{name} has a tag for each word")
