"""The catalogue's entry of mamba."""

from eir_seq.models.entry import Entry, Export

ENTRIES = {
    "mamba": Entry(
        config="options:MambaConfig",
        architecture="architecture:MAMBA",
        paper="https://arxiv.org/abs/2312.00752",
        summary="Causal decoder of selective state spaces, without attention and feed-forward blocks.",
        tasks=("base", "causal-lm"),
        export=Export(operations=("eir_seq::selective_scan",)),
    ),
}
