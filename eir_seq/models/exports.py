"""What `torch.export` makes of each architecture: the table of the documentation, which a test holds."""

from __future__ import annotations

from dataclasses import dataclass

GROUPED, SCAN, HASHES = ("eir_seq::grouped_linear",), ("eir_seq::selective_scan",), ("eir_seq::order_by_hashes",)
FADING = ("eir_seq::fading_maximum", "eir_seq::recurrence")
"""Operations whose loop depends on data or on a dynamic length, and which a graph holds as one node each."""
DENSE = (
    "Its attention scores all pairs of tokens under a mask, so that time and memory grow with the square of the length."
)


@dataclass(frozen=True)
class Export:
    """One row.

    Attributes:
        refused: why the architecture does not export with dynamic batch and length; None where it does.
        operations: of this library, which has to be imported where the program runs.
        note: what a program does in another way than the model.
        lengths: which lengths a program takes, where not all that the model takes.
    """

    refused: str | None = None
    operations: tuple[str, ...] = ()
    note: str | None = None
    lengths: str | None = None


_BLOCKS = (
    "An example of at most `(5 + 2 * num_random_blocks) * block_size` tokens gives a program for such texts, where \
all tokens look at all; a longer one gives a program for longer texts."
)
_PAIRS = "An example of which all pairs of blocks are computed token by token gives a program for such texts, a longer \
one for longer texts."
_CHUNKS = "An example longer than one chunk gives a program for such texts, a shorter one for shorter texts."
_SUMS = "With `encoder_attention_type: transient-global`, texts have at least `global_block_size` tokens."

EXPORTS: dict[str, Export] = {
    "big_bird": Export(lengths=_BLOCKS),
    "bigbird_pegasus": Export(lengths=_BLOCKS),
    "led": Export(note=DENSE),
    "longformer": Export(note=DENSE),
    "longt5": Export(note=DENSE, lengths=_SUMS),
    "mamba": Export(operations=SCAN),
    "mixtral": Export(operations=GROUPED),
    "mra": Export(lengths=_PAIRS),
    "nllb-moe": Export(operations=GROUPED),
    "pegasus_x": Export(note=DENSE),
    "qwen2": Export(note=f"With `use_sliding_window`: {DENSE[0].lower()}{DENSE[1:]}"),
    "reformer": Export(operations=HASHES, lengths=_CHUNKS),
    "rwkv": Export(operations=FADING),
    "starcoder2": Export(note=f"With `sliding_window`: {DENSE[0].lower()}{DENSE[1:]}"),
    "switch_transformers": Export(operations=GROUPED),
    "yoso": Export(note=DENSE),
}
"""By name in the catalogue; the rest exports without more to say."""


def export_of(model_type: str) -> Export:
    """The row of an architecture."""
    return EXPORTS.get(model_type, Export())
