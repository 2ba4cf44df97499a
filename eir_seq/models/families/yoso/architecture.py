"""Yoso (https://arxiv.org/abs/2111.09714)."""

from __future__ import annotations

from dataclasses import replace

from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.families.nystromformer.architecture import long_bert_architecture, long_bert_plan
from eir_seq.models.families.yoso.attention import YosoAttention
from eir_seq.models.families.yoso.options import YosoConfig
from eir_seq.models.initialization import Initialization


def yoso_plan(c: YosoConfig) -> StackPlan:
    """Attention by the probability that hashes agree.

    A mask is honoured, as the paper has it, where the published code of today leaves padding in.
    """
    mixer = YosoAttention.Config(
        hidden_size=c.hidden_size,
        num_heads=c.num_attention_heads,
        dropout=c.attention_probs_dropout_prob,
        hash_length=c.hash_code_len,
        num_hashes=None if c.use_expectation else c.num_hash,
        rotates=c.use_fast_hash,
        sampled_gradient=c.lsh_backward,
        convolution=c.conv_window,
    )
    return long_bert_plan(c, mixer)


def _yoso_initialization(c: YosoConfig) -> Initialization:
    """Bert's, but for the convolution: as wide as the uniform distribution that published code draws it from."""
    stds = {"*.mixer.conv.weight": (3 * c.conv_window) ** -0.5} if c.conv_window else {}
    return Initialization(c.initializer_range, stds)


YOSO = replace(long_bert_architecture("Yoso", "yoso", yoso_plan), initialization=_yoso_initialization)
