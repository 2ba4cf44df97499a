"""The catalogue's entries of gpt_neox, gpt_neox_japanese."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "gpt_neox": Entry(
        config="options:GPTNeoXConfig",
        architecture="architecture:GPT_NEOX",
        paper="https://arxiv.org/abs/2204.06745",
        summary="Causal decoder with partial RoPE and parallel attention and feed-forward.",
        tasks=("base", "causal-lm", *TEXT_TASKS[:3]),
    ),
    "gpt_neox_japanese": Entry(
        config="options:GPTNeoXJapaneseConfig",
        architecture="architecture:GPT_NEOX_JAPANESE",
        paper="https://github.com/tanreinama/gpt-neox-japanese",
        summary="Gpt_neox for Japanese, almost without biases, with sequential sublayers.",
        tasks=("base", "causal-lm"),
    ),
}
