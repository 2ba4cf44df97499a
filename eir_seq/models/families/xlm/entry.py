"""The catalogue's entries of flaubert, xlm."""

from eir_seq.models.entry import XLM_TASKS, Entry

ENTRIES = {
    "flaubert": Entry(
        config="options:FlaubertConfig",
        architecture="architecture:FLAUBERT",
        paper="https://arxiv.org/abs/1912.05372",
        summary="Xlm for French, optionally with norms in front of the sublayers and with layers left out in training.",
        tasks=XLM_TASKS,
        tensors=("langs",),
    ),
    "xlm": Entry(
        config="options:XLMConfig",
        architecture="architecture:XLM",
        paper="https://arxiv.org/abs/1901.07291",
        summary="Bert without segments and pooler that may add a vector per language (langs) to each token.",
        tasks=XLM_TASKS,
        tensors=("langs",),
    ),
}
