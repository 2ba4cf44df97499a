"""The catalogue's entries of flaubert, xlm."""

from eir_seq.models.entry import XLM_TASKS, Entry

ENTRIES = {
    "flaubert": Entry(
        config="options:FlaubertConfig",
        architecture="architecture:FLAUBERT",
        paper="https://arxiv.org/abs/1912.05372",
        summary="Xlm for French, optionally pre-norm and with LayerDrop.",
        tasks=XLM_TASKS,
        tensors=("langs",),
    ),
    "xlm": Entry(
        config="options:XLMConfig",
        architecture="architecture:XLM",
        paper="https://arxiv.org/abs/1901.07291",
        summary="Bert without segments and pooler, with optional language embeddings (langs).",
        tasks=XLM_TASKS,
        tensors=("langs",),
    ),
}
