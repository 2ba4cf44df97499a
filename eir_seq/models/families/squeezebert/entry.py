"""The catalogue's entry of squeezebert."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "squeezebert": Entry(
        config="options:SqueezeBertConfig",
        architecture="architecture:SQUEEZEBERT",
        paper="https://arxiv.org/abs/2006.11316",
        summary="Bert with grouped convolutions in place of linear layers.",
        tasks=("base", "masked-lm", *TEXT_TASKS),
        pooler=True,
    ),
}
