"""The catalogue's entry of nystromformer."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "nystromformer": Entry(
        config="options:NystromformerConfig",
        architecture="architecture:NYSTROMFORMER",
        paper="https://arxiv.org/abs/2102.03902",
        summary="Bert for long texts: the Nystrom approximation of attention by a few landmarks.",
        tasks=("base", "masked-lm", *TEXT_TASKS),
    ),
}
