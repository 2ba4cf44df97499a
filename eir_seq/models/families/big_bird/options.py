"""Options of big_bird and bigbird_pegasus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bart.options import LikeBart
from eir_seq.models.families.bert.options import EncoderConfig, WithDecoder
from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class WithBlocks(ModelConfig):
    """Options of attention between blocks."""

    attention_type: str = option(
        "block_sparse",
        "attention pattern of an encoder: blocks of tokens attend to their neighbours, the ends of the text and a few "
        "random blocks (block_sparse; texts of at most (5 + 2 * num_random_blocks) * block_size tokens get full "
        "attention), or all at all (original_full); a decoder always has full attention",
        choices=("block_sparse", "original_full"),
    )
    block_size: int = size(64, "tokens of a block")
    num_random_blocks: int = option(
        3,
        "random blocks that a block attends to; in evaluation the first block replaces them, as in transformers",
        minimum=0,
    )
    use_bias: bool = option(True, "biases in the projections of queries, keys and values")


@dataclass(frozen=True, kw_only=True)
class BigBirdConfig(WithBlocks, WithDecoder, EncoderConfig):
    """Options of big_bird."""

    model_type: ClassVar[str] = "big_bird"

    vocab_size: int = size(50358, "number of tokens in the vocabulary")
    hidden_act: str = option("gelu_new", "activation of the feed-forward block", choices=ACTIVATIONS)
    max_position_embeddings: int = size(4096, "rows of the position table: the longest text in tokens")
    bos_token_id: int | None = option(1, "id of the token that begins a text")
    eos_token_id: int | None = option(2, "id of the token that ends a text")
    sep_token_id: int = option(66, "id of the separator; questions end with the first one")
    rescale_embeddings: bool = option(False, "token vectors are multiplied by the square root of hidden_size")
    classifier_dropout: float | None = rate(None, "dropout of the classification head; hidden_dropout_prob if absent")


@dataclass(frozen=True, kw_only=True)
class BigBirdPegasusConfig(WithBlocks, LikeBart):
    """Options of bigbird_pegasus."""

    model_type: ClassVar[str] = "bigbird_pegasus"
    aliases = {**LikeBart.aliases, "scale_embeddings": "scale_embedding"}

    vocab_size: int = size(96103, "number of tokens in the vocabulary")
    max_position_embeddings: int = size(4096, "the longest text in tokens, on either side")
    encoder_layers: int = layers(16, "layers of the encoder")
    decoder_layers: int = layers(16, "layers of the decoder")
    activation_function: str = option("gelu_new", "activation of the feed-forward blocks", choices=ACTIVATIONS)
    scale_embedding: bool = option(True, "token vectors are multiplied by the square root of d_model")
    use_bias: bool = option(False, "biases in all projections of attention")
    classifier_dropout: float = rate(0.0, "dropout of the classification head")
    decoder_start_token_id: int = option(
        2, "id that the decoder begins with, in generation and where it is fed shifted tokens", minimum=0
    )
    pad_token_id: int = option(0, "id of the padding token, whose fresh vector is zero", minimum=0)
    bos_token_id: int | None = option(2, "id of the token that begins a text")
    eos_token_id: int | None = option(1, "id of the token that ends a text")
    forced_eos_token_id: int | None = option(
        None, "id that a generated text ends with where its greatest length is reached"
    )
