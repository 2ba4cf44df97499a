"""The catalogue's entry of reformer."""

from eir_seq.models.entry import Entry, Export

ENTRIES = {
    "reformer": Entry(
        config="options:ReformerConfig",
        architecture="architecture:REFORMER",
        paper="https://arxiv.org/abs/2001.04451",
        summary="Encoder or decoder for long texts: local and LSH attention in reversible layers.",
        tasks=("base", "masked-lm", "causal-lm", "sequence-classification", "question-answering"),
        export=Export(
            operations=("eir_seq::order_by_hashes",),
            lengths=(
                "An example longer than one chunk gives a program for such texts, a shorter one for shorter texts."
            ),
        ),
    ),
}
