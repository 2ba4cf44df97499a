"""Mra (https://arxiv.org/abs/2207.10284)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Constant, Row
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.mra.attention import MraAttention
from eir_seq.models.families.mra.options import BLOCK, MraConfig
from eir_seq.models.families.nystromformer.architecture import UNUSED_POSITIONS, long_bert_architecture, long_bert_plan

NARROWEST_HEAD = 32
"""Scores of narrower heads are scaled as if they had this width, as published code fills them up to it."""


def mra_plan(c: MraConfig) -> StackPlan:
    """Attention between blocks, and between tokens of the best pairs of blocks."""
    mixer = MraAttention.Config(
        hidden_size=c.hidden_size,
        num_heads=c.num_attention_heads,
        dropout=c.attention_probs_dropout_prob,
        block=BLOCK,
        fine_pairs=c.fine_pairs(),
        scale=max(NARROWEST_HEAD, c.hidden_size // c.num_attention_heads) ** -0.5,
        coarse_rest=c.approx_mode == "full",
        first=c.initial_prior_first_n_blocks,
        diagonal=c.initial_prior_diagonal_n_blocks,
    )
    return long_bert_plan(c, mixer)


def mra_rows(c: MraConfig) -> Iterator[Row]:
    """Bert's key map, and the position ids that files hold."""
    numbers = torch.arange(c.max_position_embeddings)[None] + UNUSED_POSITIONS
    yield Constant("embeddings.position_ids", numbers)
    yield from bert_rows(c)


MRA = long_bert_architecture("Mra", "mra", mra_plan, mra_rows)
