"""The catalogue's entry of yoso."""

from eir_seq.models.entry import DENSE, TEXT_TASKS, Entry, Export

ENTRIES = {
    "yoso": Entry(
        config="options:YosoConfig",
        architecture="architecture:YOSO",
        paper="https://arxiv.org/abs/2111.09714",
        summary="Bert for long texts: attention weights are LSH collision probabilities, expected or sampled.",
        tasks=("base", "masked-lm", *TEXT_TASKS),
        export=Export(note=DENSE),
    ),
}
