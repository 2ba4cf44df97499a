"""The catalogue's entry of qwen2."""

from eir_seq.models.entry import DENSE, TEXT_TASKS, Entry, Export

ENTRIES = {
    "qwen2": Entry(
        config="options:Qwen2Config",
        architecture="architecture:QWEN2",
        paper="https://arxiv.org/abs/2407.10671",
        summary="Llama with biases on queries, keys and values, and optional sliding windows in its upper layers.",
        tasks=("base", "causal-lm", *TEXT_TASKS[:3]),
        export=Export(note=f"With `use_sliding_window`: {DENSE[0].lower()}{DENSE[1:]}"),
    ),
}
