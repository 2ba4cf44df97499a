"""Draws samples for rows of a split, and measures them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from eir_seq.outputs.diffusion.head import row_generators
from eir_seq.outputs.generation.writing import spread

if TYPE_CHECKING:
    from eir_seq.outputs.arrays.output import FittedGridOutput
    from eir_seq.outputs.generation.source import WritingNetwork
    from eir_seq.rows import Rows


@dataclass
class Drawer:
    """Draws samples of an output, batch by batch; see `eir_seq.outputs.generation.writing.RowWriter`.

    A sample depends on the weights, the inputs of its row, the seed and the id of the row; not on its batch.

    Attributes:
        output: whose form generates.
        network: whose head draws.
        ids: of all rows of the split.
        rows: those to draw for.
        seed: of the run.
        drawn: standardized samples, by row.
        targets: stored targets of the rows that have one, by row.
    """

    output: FittedGridOutput
    network: WritingNetwork
    ids: Sequence[str]
    rows: frozenset[int]
    seed: int
    drawn: dict[int, Tensor] = field(default_factory=dict)
    targets: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, output: FittedGridOutput, network: WritingNetwork, rows: Rows, *, seed: int, count: int | None) -> Self:
        """For `count` rows, evenly spread; None: for all."""
        size = rows.num_rows
        return cls(output, network, list(rows["id"]), spread(size, size if count is None else count), seed)

    @property
    def name(self) -> str:
        """Of the output."""
        return self.output.name

    def write(self, rows: Sequence[int], batch: Mapping[str, Any]) -> None:
        """Draw for those of a batch's rows that are wanted."""
        wanted = [place for place, row in enumerate(rows) if row in self.rows]
        if not wanted:
            return
        features = self.network.features_for(self.name, batch)[wanted]
        values = {name: x[wanted] for name, x in self.network.values_for(self.name, batch).items()}
        generators = row_generators(self.seed, f"samples of {self.name}", [batch["id"][place] for place in wanted])
        options = self.output.config.diffusion
        samples = self.network.head(self.name).sample(features, generators, options, values).float().cpu()
        target = batch["targets"].get(self.name)
        labelled = range(len(rows)) if (known := batch.get("labelled", {}).get(self.name)) is None else known.tolist()
        for place, sample in zip(wanted, samples, strict=True):
            self.drawn[rows[place]] = sample
            if target is not None and place in labelled:
                self.targets[rows[place]] = target[place].cpu()

    def take(self) -> tuple[dict[str, Tensor], Any]:
        """Samples and targets by row."""
        found = {f"drawn/{row}": x for row, x in self.drawn.items()}
        found |= {f"target/{row}": x for row, x in self.targets.items()}
        self.drawn, self.targets = {}, {}
        return found, None

    def give(self, tensors: Mapping[str, Tensor], state: Any) -> None:
        """See `take`."""
        del state
        for key, x in tensors.items():
            kind, _, row = key.partition("/")
            (self.drawn if kind == "drawn" else self.targets)[int(row)] = x

    def check(self) -> None:
        """Nothing: options are checked with the config."""

    def arrays(self) -> tuple[list[int], Tensor, Tensor] | None:
        """The rows that have a target, their samples and the targets; None if there are none."""
        if not self.targets:
            return None
        rows = sorted(self.targets)
        samples, targets = (torch.stack([found[row] for row in rows]) for found in (self.drawn, self.targets))
        return rows, samples, targets

    def metrics(self) -> dict[str, float]:
        """Those of the samples that have a target."""
        if (found := self.arrays()) is None:
            return {}
        _, samples, targets = found
        return self.output.measured(samples, targets)

    def columns(self) -> dict[str, list[Any]]:
        """The column NAME with a file for each sample, "" where none was drawn."""
        return {self.name: [self._file(row) if row in self.drawn else "" for row in range(len(self.ids))]}

    def samples(self, count: int) -> list[tuple[str, str, str]]:
        """None: it draws no texts."""
        del count
        return []

    def _file(self, row: int) -> Any:
        return self.output.cells(self.drawn[row][None])[0]
