"""Options of the near kin of bert and roberta."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.configs.bert import (
    BertConfig,
    CountedPositions,
    EncoderConfig,
    EncoderWithoutSegments,
    WithDecoder,
    WithPositionKinds,
)
from eir_seq.models.options import ACTIVATIONS, layers, option, rate, size

# ------------------------------------------------------------------------------------------------ kin of roberta


@dataclass(frozen=True, kw_only=True)
class CamembertConfig(CountedPositions, BertConfig):
    """Options of camembert: roberta's, with bert's size of the vocabulary as the default."""

    model_type: ClassVar[str] = "camembert"


@dataclass(frozen=True, kw_only=True)
class XLMRobertaConfig(CountedPositions, BertConfig):
    """Options of xlm-roberta: roberta's, with bert's size of the vocabulary as the default."""

    model_type: ClassVar[str] = "xlm-roberta"


@dataclass(frozen=True, kw_only=True)
class Data2VecTextConfig(CountedPositions, BertConfig):
    """Options of data2vec-text: roberta's, with bert's size of the vocabulary as the default."""

    model_type: ClassVar[str] = "data2vec-text"


@dataclass(frozen=True, kw_only=True)
class RobertaPreLayerNormConfig(CountedPositions, BertConfig):
    """Options of roberta-prelayernorm: roberta's."""

    model_type: ClassVar[str] = "roberta-prelayernorm"

    vocab_size: int = size(50265, "number of tokens in the vocabulary")


@dataclass(frozen=True, kw_only=True)
class XLMRobertaXLConfig(CountedPositions, BertConfig):
    """Options of xlm-roberta-xl: roberta's, with the sizes of 3.5 billion parameters as defaults."""

    model_type: ClassVar[str] = "xlm-roberta-xl"

    vocab_size: int = size(250880, "number of tokens in the vocabulary")
    hidden_size: int = size(2560, "width of the token states")
    num_hidden_layers: int = layers(36, "number of layers")
    num_attention_heads: int = size(32, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(10240, "inner width of the feed-forward block")
    max_position_embeddings: int = size(
        514, "rows of the position table; a text has at most this many tokens less pad_token_id + 1"
    )
    type_vocab_size: int = size(1, "number of segment types (token_type_ids)")
    layer_norm_eps: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)


# --------------------------------------------------------------------------------------------------- kin of bert


@dataclass(frozen=True, kw_only=True)
class ElectraConfig(BertConfig):
    """Options of electra: bert's, a width of the tables of its own, and how a choice is summed up."""

    model_type: ClassVar[str] = "electra"

    embedding_size: int = size(
        128, "width of the tables of tokens, positions and segments; projected if not hidden_size"
    )
    hidden_size: int = size(256, "width of the token states")
    num_attention_heads: int = size(4, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(1024, "inner width of the feed-forward block")
    summary_type: str = option(
        "first",
        "which token state the multiple-choice head reads: the first, the last place, the mean over all places, or "
        "the place of the classification token (cls_index), which is the last one",
        choices=("first", "last", "mean", "cls_index"),
    )
    summary_use_proj: bool = option(True, "the multiple-choice head projects that state")
    summary_activation: str | None = option(
        "gelu", "activation behind that projection, null for none", choices=ACTIVATIONS
    )
    summary_last_dropout: float = rate(0.1, "dropout behind that activation")


@dataclass(frozen=True, kw_only=True)
class AlbertConfig(WithPositionKinds, EncoderConfig):
    """Options of albert."""

    model_type: ClassVar[str] = "albert"

    vocab_size: int = size(30000, "number of tokens in the vocabulary")
    embedding_size: int = size(128, "width of the tables of tokens, positions and segments, which are projected")
    hidden_size: int = size(4096, "width of the token states")
    num_hidden_layers: int = layers(12, "number of times that a group of layers runs")
    num_hidden_groups: int = size(1, "groups of layers; the runs are shared out among them, one after the other")
    inner_group_num: int = size(1, "layers in a group")
    num_attention_heads: int = size(64, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(16384, "inner width of the feed-forward block")
    hidden_act: str = option("gelu_new", "activation of the feed-forward block", choices=ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.0, "dropout on embeddings and on the output of attention")
    attention_probs_dropout_prob: float = rate(0.0, "dropout on attention weights")
    classifier_dropout_prob: float = rate(0.1, "dropout of the classification heads")
    bos_token_id: int | None = option(2, "id of the token that begins a text")
    eos_token_id: int | None = option(3, "id of the token that ends a text")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.num_hidden_groups > self.num_hidden_layers:
            yield (
                "num_hidden_groups",
                f"{self.num_hidden_groups} groups cannot share {self.num_hidden_layers} runs (num_hidden_layers)",
            )


@dataclass(frozen=True, kw_only=True)
class BertGenerationConfig(WithDecoder, WithPositionKinds, EncoderWithoutSegments):
    """Options of bert-generation. Its table of positions is added whatever `position_embedding_type` is."""

    model_type: ClassVar[str] = "bert-generation"

    vocab_size: int = size(50358, "number of tokens in the vocabulary")
    hidden_size: int = size(1024, "width of the token states")
    num_hidden_layers: int = layers(24, "number of layers")
    num_attention_heads: int = size(16, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(4096, "inner width of the feed-forward block")
    position_embedding_type: str = option(
        "absolute",
        "learned distances that enter the scores, beside the learned table of positions: by the query (relative_key), "
        "by query and key (relative_key_query), or none (absolute)",
        choices=("absolute", "relative_key", "relative_key_query"),
    )
    bos_token_id: int | None = option(2, "id of the token that begins a text")
    eos_token_id: int | None = option(1, "id of the token that ends a text")


@dataclass(frozen=True, kw_only=True)
class ErnieConfig(BertConfig):
    """Options of ernie: bert's, and what the text is meant for."""

    model_type: ClassVar[str] = "ernie"

    task_type_vocab_size: int = size(3, "number of task types (task_type_ids)")
    use_task_id: bool = option(False, "a vector per task type is added to each token's")


@dataclass(frozen=True, kw_only=True)
class MegatronBertConfig(WithDecoder, WithPositionKinds, EncoderConfig):
    """Options of megatron-bert."""

    model_type: ClassVar[str] = "megatron-bert"

    vocab_size: int = size(29056, "number of tokens in the vocabulary")
    hidden_size: int = size(1024, "width of the token states")
    num_hidden_layers: int = layers(24, "number of layers")
    num_attention_heads: int = size(16, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(4096, "inner width of the feed-forward block")


@dataclass(frozen=True, kw_only=True)
class RemBertConfig(WithDecoder, EncoderConfig):
    """Options of rembert."""

    model_type: ClassVar[str] = "rembert"

    vocab_size: int = size(250300, "number of tokens in the vocabulary")
    hidden_size: int = size(1152, "width of the token states")
    num_hidden_layers: int = layers(32, "number of layers")
    num_attention_heads: int = size(18, "attention heads per layer; they divide hidden_size")
    input_embedding_size: int = size(256, "width of the tables of tokens, positions and segments, which are projected")
    output_embedding_size: int = size(1664, "width of the states that the language-model head scores tokens by")
    intermediate_size: int = size(4608, "inner width of the feed-forward block")
    hidden_dropout_prob: float = rate(0.0, "dropout on embeddings and on the output of every sublayer")
    attention_probs_dropout_prob: float = rate(0.0, "dropout on attention weights")
    classifier_dropout_prob: float = rate(0.1, "dropout of the classification heads")
    bos_token_id: int | None = option(312, "id of the token that begins a text")
    eos_token_id: int | None = option(313, "id of the token that ends a text")
    tie_word_embeddings: bool = option(
        False, "one table for token embeddings and the language-model head, where both are of the same width"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.tie_word_embeddings and self.input_embedding_size != self.output_embedding_size:
            yield (
                "tie_word_embeddings",
                f"needs equal widths of input_embedding_size ({self.input_embedding_size}) and output_embedding_size "
                f"({self.output_embedding_size})",
            )


@dataclass(frozen=True, kw_only=True)
class SplinterConfig(EncoderConfig):
    """Options of splinter."""

    model_type: ClassVar[str] = "splinter"

    use_cache: bool = option(True, "kept for published files: it concerns decoders, which this encoder cannot be")
    question_token_id: int = option(
        104, "id of the token that stands for a question: its state asks for the answer", minimum=0
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.question_token_id >= self.vocab_size:
            yield "question_token_id", f"{self.question_token_id} is outside the vocabulary of {self.vocab_size}"


@dataclass(frozen=True, kw_only=True)
class NezhaConfig(WithDecoder, EncoderConfig):
    """Options of nezha."""

    model_type: ClassVar[str] = "nezha"

    vocab_size: int = size(21128, "number of tokens in the vocabulary")
    max_position_embeddings: int = size(512, "the longest text in tokens")
    max_relative_position: int = size(64, "distance from which on tokens count as equally far")
    classifier_dropout: float | None = rate(0.1, "dropout of the classification head; hidden_dropout_prob if absent")
    add_cross_attention: bool = option(
        False, "not to be had: its attention goes by distances, and two texts have none", choices=(False,)
    )
    bos_token_id: int | None = option(2, "id of the token that begins a text")
    eos_token_id: int | None = option(3, "id of the token that ends a text")


@dataclass(frozen=True, kw_only=True)
class RoCBertConfig(BertConfig):
    """Options of roc_bert: bert's, and how signs look and sound."""

    model_type: ClassVar[str] = "roc_bert"

    enable_pronunciation: bool = option(True, "tokens have a vector of how they sound (input_pronunciation_ids)")
    enable_shape: bool = option(True, "tokens have a vector of how they look (input_shape_ids)")
    pronunciation_embed_dim: int = size(768, "width of the vectors of sound")
    pronunciation_vocab_size: int = size(910, "number of sounds")
    shape_embed_dim: int = size(512, "width of the vectors of looks")
    shape_vocab_size: int = size(24858, "number of looks")
    concat_input: bool = option(
        True, "the vectors of token, looks and sound are concatenated and projected; if false, averaged behind the norm"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        for kind in ("shape", "pronunciation"):
            rows = getattr(self, f"{kind}_vocab_size")
            if self.pad_token_id is not None and self.pad_token_id >= rows:
                yield "pad_token_id", f"{self.pad_token_id} is outside {kind}_vocab_size {rows}"
            width = getattr(self, f"{kind}_embed_dim")
            if not self.concat_input and getattr(self, f"enable_{kind}") and width != self.hidden_size:
                yield (
                    f"{kind}_embed_dim",
                    f"{width} must be hidden_size {self.hidden_size} where concat_input is false: vectors are averaged",
                )
