"""The catalogue's entry of xglm."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "xglm": Entry(
        config="options:XGLMConfig",
        architecture="architecture:XGLM",
        paper="https://arxiv.org/abs/2112.10668",
        summary="Multilingual causal decoder with scaled embeddings and sinusoidal positions.",
        tasks=("base", "causal-lm"),
    ),
}
