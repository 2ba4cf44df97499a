"""The catalogue's entry of git."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "git": Entry(
        config="options:GitConfig",
        architecture="architecture:GIT",
        paper="https://arxiv.org/abs/2205.14100",
        summary="Causal decoder of text about an image or a video, whose patches come before the text (pixel_values).",
        tasks=("base", "causal-lm"),
        tensors=("pixel_values",),
    ),
}
