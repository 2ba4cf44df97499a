"""The catalogue's entry of distilbert."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "distilbert": Entry(
        config="options:DistilBertConfig",
        architecture="architecture:DISTILBERT",
        paper="https://arxiv.org/abs/1910.01108",
        summary="Bert at half the depth, without segments and pooler, trained by distillation.",
        tasks=("base", "masked-lm", *TEXT_TASKS),
    ),
}
