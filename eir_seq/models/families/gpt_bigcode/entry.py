"""The catalogue's entry of gpt_bigcode."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "gpt_bigcode": Entry(
        config="options:GPTBigCodeConfig",
        architecture="architecture:GPT_BIGCODE",
        paper="https://arxiv.org/abs/2301.03988",
        summary="Gpt2 with multi-query attention, trained on source code.",
        tasks=("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
}
