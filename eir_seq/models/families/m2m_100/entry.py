"""The catalogue's entry of m2m_100."""

from eir_seq.models.entry import PAIR_TASKS, Entry

ENTRIES = {
    "m2m_100": Entry(
        config="options:M2M100Config",
        architecture="architecture:M2M_100",
        paper="https://arxiv.org/abs/2010.11125",
        summary="Encoder-decoder that translates between any two of a hundred languages; sinusoidal positions.",
        tasks=PAIR_TASKS[:3],
    ),
}
