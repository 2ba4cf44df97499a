"""The catalogue's entry of imagegpt."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "imagegpt": Entry(
        config="options:ImageGPTConfig",
        architecture="architecture:IMAGEGPT",
        paper="https://cdn.openai.com/papers/Generative_Pretraining_from_Pixels_V2.pdf",
        summary="Gpt2 over the quantized colours of an image's pixels, with RMS norms.",
        tasks=("base", "causal-lm", "image-classification"),
    ),
}
