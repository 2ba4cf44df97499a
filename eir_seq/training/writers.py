"""What has the outputs of a network write texts for the rows of a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eir_seq.modalities.base import FittedModality
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.generation.writing import Writer, spread
from eir_seq.training.network import Network

if TYPE_CHECKING:
    from eir_seq.rows import Rows


def build_writers(
    network: Network,
    inputs: Mapping[str, FittedModality],
    outputs: Mapping[str, FittedOutput],
    rows: Rows,
    *,
    seed: int,
    all_rows: bool,
) -> list[Writer]:
    """One writer per output that learns to write texts: for all rows of the split, or as many as its config says."""
    found = []
    for output in outputs.values():
        wanted, generation = output.config.target_text, output.config.generation_options
        if wanted is None:
            continue
        assert generation is not None
        fitted: Any = inputs[output.input]
        encoder = network.encoder(output.input)
        backbone: Any = encoder.backbone
        longest, count = int(fitted.target_statistics["max"]), rows.num_rows
        if (most := backbone.config.target_positions()) is not None:
            longest = min(longest, most - 1)
        before, behind = fitted.target_frame
        true = list(rows[wanted.column]) if wanted.column in rows.column_names else [None] * count
        found.append(
            Writer(
                output.name,
                generation,
                output.input,
                encoder,
                fitted.tokenizer,
                fitted.end,
                before,
                behind,
                longest,
                sources=fitted.show(rows[:]),
                true=true,
                rows=frozenset(range(count)) if all_rows else spread(count, wanted.generate_rows),
                seed=seed,
                measure=output.measure_texts,
            )
        )
    return found
