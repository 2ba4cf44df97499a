"""The catalogue's entry of openai-gpt."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "openai-gpt": Entry(
        config="options:OpenAIGPTConfig",
        architecture="architecture:OPENAI_GPT",
        paper="https://s3-us-west-2.amazonaws.com/openai-assets/research-covers/language-unsupervised/language_understanding_paper.pdf",
        summary="The first GPT: causal post-norm decoder with learned positions.",
        tasks=("base", "causal-lm", "double-heads", "sequence-classification"),
    ),
}
