"""Options of mra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.nystromformer.options import TableOfPositionsConfig
from eir_seq.models.options import option, size

BLOCK = 32
"""Tokens per block of mra."""


@dataclass(frozen=True, kw_only=True)
class MraConfig(TableOfPositionsConfig):
    """Options of mra."""

    model_type: ClassVar[str] = "mra"

    max_position_embeddings: int = option(
        512, "the longest text in tokens, at least a block of 32; the position table has two rows more", minimum=BLOCK
    )
    layer_norm_eps: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)
    block_per_row: int = size(
        4,
        "pairs of blocks that are computed token by token, per block of the longest text; shorter texts have as many "
        "in all, so that they may be exact",
    )
    approx_mode: str = option(
        "full",
        "other pairs of blocks count with their mean scores (full) or not at all (sparse)",
        choices=("full", "sparse"),
    )
    initial_prior_first_n_blocks: int = option(
        0, "blocks at the begin of a text whose pairs are computed token by token before all others", minimum=0
    )
    initial_prior_diagonal_n_blocks: int = option(
        0,
        "width of the band of pairs around a block's own that is computed token by token before others; an even width "
        "counts as the next one, as the band has a middle",
        minimum=0,
    )

    def fine_pairs(self) -> int:
        """Pairs of blocks per text and head that are computed token by token."""
        rows = self.max_position_embeddings // BLOCK
        return min(rows * self.block_per_row, rows**2)
