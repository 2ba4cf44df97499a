"""The catalogue's entry of starcoder2."""

from eir_seq.models.entry import DENSE, Entry, Export

ENTRIES = {
    "starcoder2": Entry(
        config="options:Starcoder2Config",
        architecture="architecture:STARCODER2",
        paper="https://arxiv.org/abs/2402.19173",
        summary="Causal decoder for code: RoPE, grouped-query attention, layer norms, optional sliding window.",
        tasks=("base", "causal-lm", "sequence-classification", "token-classification"),
        export=Export(note=f"With `sliding_window`: {DENSE[0].lower()}{DENSE[1:]}"),
    ),
}
