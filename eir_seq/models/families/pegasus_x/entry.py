"""The catalogue's entry of pegasus_x."""

from eir_seq.models.entry import DENSE, PAIR_TASKS, Entry, Export

ENTRIES = {
    "pegasus_x": Entry(
        config="options:PegasusXConfig",
        architecture="architecture:PEGASUS_X",
        paper="https://arxiv.org/abs/2208.04347",
        summary="Pegasus for long texts: staggered block-local attention with global tokens in its encoder.",
        tasks=PAIR_TASKS[:3],
        export=Export(note=DENSE),
    ),
}
