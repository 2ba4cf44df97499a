"""The catalogue's entry of electra."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "electra": Entry(
        config="options:ElectraConfig",
        architecture="architecture:ELECTRA",
        paper="https://openreview.net/pdf?id=r1xMH1BtvB",
        summary="Bert with narrower tables and no pooler, pretrained to tell which tokens were replaced.",
        tasks=("base", "masked-lm", "causal-lm", "pretraining", *TEXT_TASKS),
        replaced_tokens=True,
    ),
}
