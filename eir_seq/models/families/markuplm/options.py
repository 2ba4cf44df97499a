"""Options of markuplm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import CACHE_MEANING
from eir_seq.models.families.roberta.options import CountedPositions
from eir_seq.models.options import option, rate, size


@dataclass(frozen=True, kw_only=True)
class MarkupLMConfig(CountedPositions):
    """Options of markuplm: the xpath of every token's node in its page is read along with the token."""

    model_type: ClassVar[str] = "markuplm"

    pad_token_id: int | None = option(0, "id of the padding token; positions are counted from the next number on")
    position_embedding_type: str = option(
        "absolute",
        "positions as a learned table, or learned distances that enter the scores by the query (relative_key) or by "
        "query and key (relative_key_query)",
        choices=("absolute", "relative_key", "relative_key_query"),
    )
    use_cache: bool = option(True, CACHE_MEANING)
    classifier_dropout: float | None = rate(None, "dropout of the classification head; hidden_dropout_prob if absent")
    max_depth: int = size(50, "steps of an xpath; shorter ones are padded")
    max_xpath_tag_unit_embeddings: int = size(256, "rows of the table of tags, of which each depth has one")
    max_xpath_subs_unit_embeddings: int = size(1024, "rows of the table of subscripts, of which each depth has one")
    tag_pad_id: int = option(216, "tag of steps that an xpath does not have", minimum=0)
    subs_pad_id: int = option(1001, "subscript of steps that an xpath does not have", minimum=0)
    xpath_unit_hidden_size: int = size(32, "width of the vector of one step of an xpath")
    xpath_tag_unit_hidden_size: int = size(32, "another name of xpath_unit_hidden_size; give one of the two")
    max_tree_id_unit_embeddings: int = size(1024, "in transformers, but no published model reads ids of trees")

    def __post_init__(self) -> None:
        if self.xpath_unit_hidden_size == 32:  # the name that published files have
            object.__setattr__(self, "xpath_unit_hidden_size", self.xpath_tag_unit_hidden_size)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        for name, rows in (("tag_pad_id", "max_xpath_tag_unit_embeddings"),
                           ("subs_pad_id", "max_xpath_subs_unit_embeddings")):  # fmt: skip
            if getattr(self, name) >= getattr(self, rows):
                yield name, f"{getattr(self, name)} is outside the table of {getattr(self, rows)} ({rows})"
        if self.xpath_tag_unit_hidden_size not in (32, self.xpath_unit_hidden_size):
            yield (
                "xpath_tag_unit_hidden_size",
                f"{self.xpath_tag_unit_hidden_size} contradicts xpath_unit_hidden_size {self.xpath_unit_hidden_size}",
            )
        if self.max_tree_id_unit_embeddings != 1024:
            yield "max_tree_id_unit_embeddings", "cannot be set: the architecture reads no ids of trees, only xpaths"
