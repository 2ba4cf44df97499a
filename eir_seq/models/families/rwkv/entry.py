"""The catalogue's entry of rwkv."""

from eir_seq.models.entry import Entry, Export

ENTRIES = {
    "rwkv": Entry(
        config="options:RwkvConfig",
        architecture="architecture:RWKV",
        paper="https://arxiv.org/abs/2305.13048",
        summary="Linear-recurrent causal decoder without attention (version 4), with a state of fixed size.",
        tasks=("base", "causal-lm"),
        export=Export(operations=("eir_seq::decayed_maximum", "eir_seq::recurrence")),
    ),
}
