"""The catalogue's entry of electra."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "electra": Entry(
        config="options:ElectraConfig",
        architecture="architecture:ELECTRA",
        paper="https://openreview.net/pdf?id=r1xMH1BtvB",
        summary="Bert with factorized embeddings and no pooler, pretrained to detect replaced tokens.",
        tasks=("base", "masked-lm", "causal-lm", "pretraining", *TEXT_TASKS),
        replaced_tokens=True,
    ),
}
