"""The table of parity: one row per architecture and documented variant; a lineage of architectures has one file."""

from __future__ import annotations

from tests.parity.cases import (
    approximate_attention,
    bart_like,
    bert_like,
    big_bird,
    bloom,
    core,
    gpt_like,
    gpt_successors,
    images,
    llama_like,
    long_range,
    mega,
    opt,
    prophetnet,
    recurrent,
    reformer,
    relative,
    special_inputs,
    stablelm_like,
    t5_like,
    xlm_like,
)
from tests.parity.cases.base import DECODER_LENGTH, DECODER_LENGTHS, LENGTH, LENGTHS, VOCABULARY, Case, Inputs

CASES: list[Case] = [
    *core.CASES,
    *approximate_attention.CASES,
    *bart_like.CASES,
    *bert_like.CASES,
    *big_bird.CASES,
    *opt.CASES,
    *bloom.CASES,
    *gpt_like.CASES,
    *gpt_successors.CASES,
    *images.CASES,
    *long_range.CASES,
    *mega.CASES,
    *prophetnet.CASES,
    *recurrent.CASES,
    *reformer.CASES,
    *relative.CASES,
    *special_inputs.CASES,
    *llama_like.CASES,
    *stablelm_like.CASES,
    *t5_like.CASES,
    *xlm_like.CASES,
]

__all__ = ["CASES", "DECODER_LENGTH", "DECODER_LENGTHS", "LENGTH", "LENGTHS", "VOCABULARY", "Case", "Inputs"]
