"""What is measured: every architecture of the catalogue at one size, and batches of texts."""

from __future__ import annotations

import csv
import gzip
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eir_seq.models.catalogue import config_class
from eir_seq.models.options import default_of, fields

VOCABULARY = 10_000
"""Token ids; those below `FIRST` are left to special tokens."""
FIRST = 11
WIDTH, LAYERS, HEADS = 256, 4, 4


@dataclass(frozen=True)
class Size:
    """The size of a model: width of its states, layers (of each side), attention heads, tokens of the longest text."""

    width: int = WIDTH
    layers: int = LAYERS
    heads: int = HEADS
    length: int = 512

    @property
    def positions(self) -> int:
        """Rows of tables of positions: roberta's first two are never read."""
        return self.length + 2

    @property
    def head(self) -> int:
        """Channels of a head."""
        return self.width // self.heads


NAMES: dict[str, tuple[str, ...]] = {
    "width": ("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_dim"),
    "layers": (
        "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "num_encoder_layers",
        "encoder_layers", "decoder_layers",
    ),
    "heads": (
        "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "encoder_attention_heads",
        "decoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads",
    ),
    "head": ("d_kv", "head_dim", "attention_head_size"),
    "inner": (
        "intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim", "dff", "d_inner",
        "feed_forward_size", "nffn_hidden_size", "dim_feedforward",
    ),
    "positions": (
        "max_position_embeddings", "n_positions", "n_ctx", "max_encoder_position_embeddings",
        "max_decoder_position_embeddings", "max_positions", "max_seq_len", "context_length",
    ),
}  # fmt: skip
"""What the options of architectures that say the same are called."""


def _stack(size: Size) -> dict[str, Any]:
    """Options of one side of a t5gemma."""
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": size.width,
        "intermediate_size": 4 * size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads // 2,
        "head_dim": size.head,
        "max_position_embeddings": size.positions,
    }


def _own(model_type: str, size: Size) -> dict[str, Any]:
    """What the other options of an architecture do not say, and published values of those that are off by default."""
    relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
    sparse = {"num_experts": 8, "encoder_sparse_step": 2, "decoder_sparse_step": 2}
    kinds = ["local", "lsh"] * size.layers
    found: Mapping[str, dict[str, Any]] = {
        "codegen": {"rotary_dim": size.head // 2},
        "deberta": relative,
        "deberta-v2": {**relative, "position_buckets": min(256, size.length), "share_att_key": True,
                       "norm_rel_ebd": "layer_norm"},
        "git": {"vision_config": {"hidden_size": size.width, "num_hidden_layers": 1, "num_attention_heads": size.heads,
                                  "intermediate_size": size.width}},
        "gptj": {"rotary_dim": size.head // 2},
        "led": {"max_encoder_position_embeddings": -(-size.length // 512) * 512},
        "luke": {"entity_vocab_size": 100, "entity_emb_size": size.width},
        "mamba": {"use_cache": False},
        "marian": {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": None},
        "mega": {"intermediate_size": 2 * size.width},
        "mobilebert": {"intermediate_size": 2 * size.width, "embedding_size": size.width // 2,
                       "intra_bottleneck_size": size.width // 2},
        "mra": {"max_position_embeddings": -(-size.length // 32) * 32},
        "nllb-moe": sparse,
        "reformer": {"attn_layers": kinds[: size.layers], "axial_pos_embds": False, "hash_seed": 0,
                     "max_position_embeddings": size.length},
        "roc_bert": {"pronunciation_vocab_size": 100, "shape_vocab_size": 100},
        "rwkv": {"use_cache": False},
        "squeezebert": {"embedding_size": size.width},
        "switch_transformers": {"num_sparse_encoder_layers": max(1, size.layers // 2),
                                "num_sparse_decoder_layers": max(1, size.layers // 2)},
        "t5gemma": {"encoder": _stack(size), "decoder": _stack(size)},
    }  # fmt: skip
    return found.get(model_type, {})


def options_of(model_type: str, size: Size) -> dict[str, Any]:
    """Options of an architecture at a size, by its own names; all others have their documented defaults.

    >>> options_of("gpt2", Size(width=64, layers=2))
    {'vocab_size': 10000, 'n_positions': 514, 'n_embd': 64, 'n_layer': 2, 'n_head': 4}
    """
    values = {
        "vocab_size": VOCABULARY,
        "num_key_value_heads": size.heads // 2,
        **dict.fromkeys(NAMES["width"], size.width),
        **dict.fromkeys(NAMES["layers"], size.layers),
        **dict.fromkeys(NAMES["heads"], size.heads),
        **dict.fromkeys(NAMES["head"], size.head),
        **dict.fromkeys(NAMES["inner"], 4 * size.width),
        **dict.fromkeys(NAMES["positions"], size.positions),
    }
    known = fields(config_class(model_type))
    found = {
        name: values[name]
        for name, field in known.items()
        if name in values and (default_of(field) is not None or name in NAMES["inner"])
    }
    return {**found, **_own(model_type, size)}


@dataclass(frozen=True)
class Texts:
    """Lengths of the texts of batches.

    `lengths`: what texts are drawn from; `per_batch`: texts of a batch.
    """

    lengths: tuple[int, ...]
    per_batch: int

    def batch(self, number: int) -> list[int]:
        """The lengths of one batch, the same for a number."""
        return random.Random(number).choices(self.lengths, k=self.per_batch)  # noqa: S311


def review_lengths(path: Path, longest: int) -> tuple[int, ...]:
    """Words and punctuation marks of the texts of a CSV file (its column ``text``), each at most `longest`."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        return tuple(min(longest, len(re.findall(r"\w+|[^\w\s]", row["text"]))) for row in csv.DictReader(file))
