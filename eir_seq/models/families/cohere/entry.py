"""The catalogue's entry of cohere."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "cohere": Entry(
        config="options:CohereConfig",
        architecture="architecture:COHERE",
        paper="https://cohere.com/blog/command-r",
        summary="Causal decoder whose sublayers read the same normed state, with rotations of neighbouring channels.",
        tasks=("base", "causal-lm"),
    ),
}
