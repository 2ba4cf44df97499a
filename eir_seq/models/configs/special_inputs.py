"""Options of encoders with inputs or mixing of their own: layoutlm, fnet, markuplm, mobilebert, luke, visual_bert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.configs.bert import CountedPositions, EncoderConfig
from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size

CACHE_MEANING = "for decoders only: an encoder keeps no keys and values, so both values give the same"


@dataclass(frozen=True, kw_only=True)
class LayoutLMConfig(EncoderConfig):
    """Options of layoutlm: bert's encoder that reads the box of every token on its page."""

    model_type: ClassVar[str] = "layoutlm"

    position_embedding_type: str = option(
        "absolute",
        "positions as a learned table, or learned distances that enter the scores by the query (relative_key) or by "
        "query and key (relative_key_query)",
        choices=("absolute", "relative_key", "relative_key_query"),
    )
    use_cache: bool = option(True, CACHE_MEANING)
    max_2d_position_embeddings: int = size(
        1024, "rows of the tables of coordinates: edges, widths and heights of boxes stay below"
    )


@dataclass(frozen=True, kw_only=True)
class FNetConfig(ModelConfig):
    """Options of fnet: tokens are mixed by a Fourier transform, so there are no attention heads."""

    model_type: ClassVar[str] = "fnet"
    max_positions_option: ClassVar[str | None] = "max_position_embeddings"

    vocab_size: int = size(32000, "number of tokens in the vocabulary")
    hidden_size: int = size(768, "width of the token states")
    num_hidden_layers: int = layers(12, "number of layers")
    intermediate_size: int = size(3072, "inner width of the feed-forward block")
    hidden_act: str = option("gelu_new", "activation of the feed-forward block", choices=ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.1, "dropout on embeddings and on the output of the feed-forward block")
    max_position_embeddings: int = size(512, "rows of the position table: the longest text in tokens")
    type_vocab_size: int = size(4, "number of segment types (token_type_ids)")
    initializer_range: float = option(0.02, "deviation of the normal distribution of fresh weights", minimum=0.0)
    layer_norm_eps: float = option(1e-12, "added to the variance in layer norms", minimum=0.0)
    use_tpu_fourier_optimizations: bool = option(
        False, "the same transform by products with matrices, as TPUs prefer (up to 4096 positions)"
    )
    tpu_short_seq_length: int = size(512, "tokens that those matrices are made for; texts of other lengths go without")
    pad_token_id: int | None = option(3, "id of the padding token")
    bos_token_id: int | None = option(1, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            yield "pad_token_id", f"{self.pad_token_id} is outside the vocabulary of {self.vocab_size}"

    def by_matrices(self) -> bool:
        """Whether texts are transformed by fixed matrices."""
        return self.use_tpu_fourier_optimizations and self.max_position_embeddings <= 4096


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
    xpath_tag_unit_hidden_size: int = size(32, "another documented name of xpath_unit_hidden_size; give one of the two")
    max_tree_id_unit_embeddings: int = size(1024, "documented, but no published model reads ids of trees")

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


@dataclass(frozen=True, kw_only=True)
class MobileBertConfig(EncoderConfig):
    """Options of mobilebert: thin layers that work in a bottleneck."""

    model_type: ClassVar[str] = "mobilebert"

    hidden_size: int = size(512, "width of the token states between layers")
    num_hidden_layers: int = layers(24, "number of layers")
    num_attention_heads: int = size(4, "attention heads per layer; they divide the width inside layers")
    intermediate_size: int = size(512, "inner width of the feed-forward blocks")
    hidden_act: str = option("relu", "activation of the feed-forward blocks", choices=ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.0, "dropout on embeddings and on what layers add")
    embedding_size: int = size(128, "width of the token table")
    trigram_input: bool = option(True, "a token enters together with its two neighbours")
    use_bottleneck: bool = option(True, "layers work on narrower states of intra_bottleneck_size")
    intra_bottleneck_size: int = size(128, "width of the states inside layers")
    use_bottleneck_attention: bool = option(
        False, "queries, keys and values are all taken from the narrow states; else values from the wide ones"
    )
    key_query_shared_bottleneck: bool = option(
        True, "queries and keys are taken from narrow states of their own (unless use_bottleneck_attention)"
    )
    num_feedforward_networks: int = size(4, "feed-forward blocks per layer")
    normalization_type: str = option(
        "no_norm", "a learned scale and shift only, or layer norms", choices=("no_norm", "layer_norm")
    )
    classifier_activation: bool = option(
        True, "the pooler has a layer with tanh; else it gives the first token's state"
    )
    classifier_dropout: float | None = rate(None, "dropout of the classification head; hidden_dropout_prob if absent")

    @property
    def inner_size(self) -> int:
        """Width of the states inside layers."""
        return self.intra_bottleneck_size if self.use_bottleneck else self.hidden_size

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            yield "pad_token_id", f"{self.pad_token_id} is outside the vocabulary of {self.vocab_size}"
        if self.inner_size % self.num_attention_heads:
            name = "intra_bottleneck_size" if self.use_bottleneck else "hidden_size"
            yield name, f"{self.inner_size} is not divisible by num_attention_heads {self.num_attention_heads}"
        if self.embedding_size > self.hidden_size:
            yield "embedding_size", f"{self.embedding_size} exceeds hidden_size {self.hidden_size}"
        own_queries = self.use_bottleneck_attention or self.key_query_shared_bottleneck
        if self.hidden_size != self.inner_size and not own_queries:
            yield (
                "key_query_shared_bottleneck",
                "false needs use_bottleneck_attention: true, or an intra_bottleneck_size equal to hidden_size",
            )


@dataclass(frozen=True, kw_only=True)
class LukeConfig(CountedPositions):
    """Options of luke: roberta's encoder that reads entities beside words."""

    model_type: ClassVar[str] = "luke"

    vocab_size: int = size(50267, "number of tokens in the vocabulary")
    entity_vocab_size: int = size(500000, "number of entities")
    entity_emb_size: int = size(256, "width of the table of entities")
    use_entity_aware_attention: bool = option(
        True, "queries are projected by what they look from and at: words at words, words at entities and so on"
    )
    classifier_dropout: float | None = rate(None, "dropout of the classification head; hidden_dropout_prob if absent")


@dataclass(frozen=True, kw_only=True)
class VisualBertConfig(EncoderConfig):
    """Options of visual_bert: bert's encoder over a text and regions of an image."""

    model_type: ClassVar[str] = "visual_bert"

    visual_embedding_dim: int = size(512, "width of the vectors of regions (visual_embeds)")
    bypass_transformer: bool = option(
        False, "regions pass by the layers and meet the text in one layer more, behind them"
    )
    special_visual_initialize: bool = option(
        True, "fresh tables of positions and segments of regions begin as copies of those of the text"
    )
    pad_token_id: int | None = option(1, "id of the padding token")
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")
