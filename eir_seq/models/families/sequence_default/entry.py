"""The catalogue's entry of sequence-default."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "sequence-default": Entry(
        config="options:SequenceDefaultConfig",
        architecture="architecture:SEQUENCE_DEFAULT",
        paper="https://arxiv.org/abs/1706.03762",
        summary="This project's own encoder: pre-norm with RMS norms, RoPE, gated feed-forward and optional windows.",
    ),
}
