"""The catalogue's entry of mpt."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "mpt": Entry(
        config="options:MptConfig",
        architecture="architecture:MPT",
        paper="https://www.databricks.com/blog/mpt-7b",
        summary="Causal decoder without biases, with ALiBi.",
        tasks=("base", "causal-lm", *TEXT_TASKS[:3]),
    ),
}
