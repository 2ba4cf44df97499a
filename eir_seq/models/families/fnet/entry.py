"""The catalogue's entry of fnet."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "fnet": Entry(
        config="options:FNetConfig",
        architecture="architecture:FNET",
        paper="https://arxiv.org/abs/2105.03824",
        summary="Bert with a Fourier transform in place of attention; without a mask, so padding is mixed in.",
        tasks=(
            "base",
            "masked-lm",
            "next-sentence",
            "pretraining",
            "sequence-classification",
            "token-classification",
            "question-answering",
            "multiple-choice",
        ),
        pooler=True,
    ),
}
