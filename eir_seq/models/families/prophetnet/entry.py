"""The catalogue's entries of prophetnet, xlm-prophetnet."""

from eir_seq.models.entry import PAIR_TASKS, Entry

ENTRIES = {
    "prophetnet": Entry(
        config="options:ProphetNetConfig",
        architecture="architecture:PROPHETNET",
        paper="https://arxiv.org/abs/2001.04063",
        summary="Encoder-decoder that predicts several future tokens at once (n-gram streams).",
        tasks=PAIR_TASKS,
    ),
    "xlm-prophetnet": Entry(
        config="options:XLMProphetNetConfig",
        architecture="architecture:XLM_PROPHETNET",
        paper="https://arxiv.org/abs/2001.04063",
        summary="Prophetnet with a multilingual vocabulary.",
        tasks=PAIR_TASKS,
    ),
}
