"""The catalogue's entry of t5gemma."""

from eir_seq.models.entry import T5_TASKS, Entry

ENTRIES = {
    "t5gemma": Entry(
        config="options:T5GemmaConfig",
        architecture="architecture:T5GEMMA",
        paper="https://arxiv.org/abs/2504.06225",
        summary="Encoder-decoder of any two sizes with soft-capped scores, RoPE, sliding windows and sandwich norms.",
        tasks=T5_TASKS[:5],
    ),
}
