"""The catalogue's entry of gpt2."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "gpt2": Entry(
        config="options:GPT2Config",
        architecture="architecture:GPT2",
        paper="https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf",
        summary="Causal pre-norm decoder with learned positions.",
        tasks=(
            "base",
            "causal-lm",
            "double-heads",
            "sequence-classification",
            "token-classification",
            "question-answering",
        ),
        synonyms=("gpt-sw3",),
    ),
}
