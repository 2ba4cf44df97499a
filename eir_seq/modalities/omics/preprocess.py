"""Genotypes: files and samples found and checked, kept as one byte per SNP, and changed at random in training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.modalities.array_files import UNREADABLE, is_array_file, load_array, locate_array, name_of
from eir_seq.modalities.base import STATE_FILE, FittedModality, Modality, RowSource, stacked
from eir_seq.modalities.cells import parse_cell
from eir_seq.modalities.encoders.layers.patches import Shape
from eir_seq.modalities.file_cells import MOST, FileCells, most_frequent
from eir_seq.modalities.files import missing
from eir_seq.modalities.omics.augmentation import Augmentation, Codes
from eir_seq.modalities.omics.config import OmicsInputConfig
from eir_seq.modalities.omics.genotypes import array_problem, codes_of, is_plink, locate_plink, open_plink
from eir_seq.modalities.omics.snps import Snps, read_bim, read_groups, read_subset
from eir_seq.randomness import Draw

if TYPE_CHECKING:
    from eir_seq.rows import Rows

CODES = "codes"
SNPS_FILE = "snps.bim"
"""The SNPs that the encoder reads, in a bundle."""


@dataclass(frozen=True)
class Panel:
    """Which SNPs files have, and which of them are read.

    Attributes:
        count: SNPs of a file; None if it is not known yet.
        source: what says so, in readable form.
        snps: those that are read; None if they have no names.
        selected: their places in a file, in order; None for all.
        groups: for each group the places of its SNPs among those that are read.
    """

    count: int | None = None
    source: str = MOST
    snps: Snps | None = None
    selected: tuple[int, ...] | None = None
    groups: Mapping[str, Sequence[int]] | None = None

    @classmethod
    def of(cls, name: str, config: OmicsInputConfig) -> Panel:
        """What the files say that the config names.

        Raises:
            UserError: they cannot be read, or do not fit together.
        """
        key, path = ("snp_file", config.snp_file)
        if config.plink is not None:
            key, path = "plink", str(Path(config.plink).with_suffix(".bim"))
        if path is None:
            return cls()
        place = f"inputs.{name}"
        try:
            every = read_bim(Path(path).expanduser())
        except (OSError, ValueError) as error:
            raise UserError(Fault(f"{place}.{key}", f"{path} is no .bim file ({error})")) from None
        selected, groups, snps = None, None, every
        if config.subset_snps_file is not None:
            selected = tuple(read_subset(config.subset_snps_file, every, f"{place}.subset_snps_file"))
            snps = every.select(selected)
        if config.groups_file is not None:
            groups = read_groups(config.groups_file, every, f"{place}.groups_file")
            if selected is not None:
                groups = _within(groups, selected, f"{place}.groups_file", config.groups_file)
        return cls(len(every), f"{path} lists", snps, selected, groups)


def _within(groups: Mapping[str, list[int]], selected: Sequence[int], place: str, path: str) -> dict[str, list[int]]:
    """Groups without the SNPs that are not selected, by their places among the others."""
    places = {given: place for place, given in enumerate(selected)}
    found = {group: [places[snp] for snp in own if snp in places] for group, own in groups.items()}
    if empty := [group for group, own in found.items() if not own]:
        raise UserError(Fault(place, f"{path}: subset_snps_file has no SNP of the group {empty[0]!r}"))
    return found


@dataclass
class GenotypeCells(FileCells):
    """How the column of genotypes is read and checked."""

    name: str
    config: OmicsInputConfig
    panel: Panel
    _compared: dict[str, str | None] = field(default_factory=dict)
    """By PLINK file, why its SNPs are not those that are read."""

    def find(self, text: str, folder: Path) -> Any:
        """The file that a cell names, or the sample; raises `ValueError` with the reason where it names none."""
        found = locate_plink(text, folder, self.config.plink)
        if found is not None:
            return found
        cell = parse_cell(text)
        if not isinstance(cell, str):
            raise ValueError(f"is {text[:40]}, not the name of a file")
        return locate_array(cell, folder)

    def infer_shape(self, cells: Sequence[Any]) -> None:
        """Which SNPs there are, where no file says so."""
        if self.panel.count is None:
            panels = [panel for cell in cells if (panel := _panel(cell)) is not None]
            count = most_frequent(panel.count for panel in panels)
            self.panel = next((panel for panel in panels if panel.count == count), self.panel)

    def faults(self, cell: Any) -> Iterator[str]:
        """What is wrong with the genotypes of a row."""
        if (problem := self._problem(cell)) is not None:
            yield problem

    def _problem(self, cell: Any) -> str | None:
        if isinstance(cell, str):
            return missing(cell)
        if is_plink(cell):
            return self._plink_problem(cell)
        what = f"names {name_of(cell)},"
        try:
            array = load_array(cell)
        except UNREADABLE as error:
            return f"{what} which cannot be read as an array ({' '.join(str(error).split())[:120]})"
        if (problem := array_problem(array, self.panel.count, self.panel.source)) is not None:
            return f"{what} {problem}"
        self._note(Panel(array.shape[1]))
        return None

    def _plink_problem(self, cell: list[Any]) -> str | None:
        try:
            files = open_plink(cell)
        except (OSError, ValueError) as error:
            return f"names {cell[0]}, which cannot be read ({error})"
        if files.path not in self._compared:
            self._compared[files.path] = self._foreign(files.snps)
        if (problem := self._compared[files.path]) is not None:
            return f"names {cell[0]}, which {problem}"
        try:
            files.place(cell[3])
        except ValueError as error:
            return f"is {cell[3]!r}: {error}"
        self._note(Panel(len(files.snps), snps=files.snps))
        return None

    def _foreign(self, snps: Snps) -> str | None:
        """Why the SNPs of a file are not those that are read."""
        panel = self.panel
        if panel.count is not None and len(snps) != panel.count:
            return f"has {len(snps):,} SNPs; {panel.source} {panel.count:,}"
        if panel.snps is None:
            return None
        difference = panel.snps.difference(snps if panel.selected is None else snps.select(panel.selected))
        return None if difference is None else f"has other SNPs ({difference})"

    def _note(self, panel: Panel) -> None:
        """The first genotypes say which SNPs all others have, where no file does."""
        if self.panel.count is None:
            self.panel = panel


def _panel(cell: Any) -> Panel | None:
    """The SNPs of the genotypes of a cell, if there are any."""
    try:
        if is_plink(cell):
            snps = open_plink(cell).snps
            return Panel(len(snps), snps=snps)
        array = None if isinstance(cell, str) else load_array(cell)
    except (OSError, *UNREADABLE):
        return None
    return None if array is None or array_problem(array, None, MOST) is not None else Panel(array.shape[1])


@dataclass(eq=False)
class FittedOmics(FittedModality):
    """An input of genotypes that knows its SNPs."""

    name: str
    config: OmicsInputConfig
    panel: Panel

    @property
    def columns(self) -> tuple[str, ...]:
        """The column of files or ids."""
        return (self.config.column,)

    @property
    def cells(self) -> GenotypeCells:
        """How its column is read and checked."""
        return GenotypeCells(self.name, self.config, self.panel)

    @property
    def snps(self) -> Snps | None:
        """The SNPs that the encoder reads, in order; None if they have no names."""
        return self.panel.snps

    @property
    def groups(self) -> Mapping[str, Sequence[int]]:
        """For each named group the places of its SNPs."""
        return self.panel.groups or {}

    @property
    def grid(self) -> Shape:
        """Categories, 1, and SNPs of the one-hot values that encoders read."""
        count = self.panel.count if self.panel.selected is None else len(self.panel.selected)
        assert count is not None, "a fitted input has seen a row"
        return 4 if self.config.missing_as == "category" else 3, 1, count

    @property
    def collator(self) -> GenotypeCollator:
        """Codes of rows, changed at random in training."""
        return GenotypeCollator(Augmentation(self.name, self.config.augmentation))

    def fingerprint(self) -> str:
        """Hash of which SNPs are read."""
        selected = self.panel.selected
        return hashlib.sha256(f"omics {self.config.column} {self.panel.count} {selected}".encode()).hexdigest()

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
        """The codes of the SNPs that are read, one byte for each.

        Raises:
            UserError: files cannot be read any more.
        """
        cells = [parse_cell(cell) for cell in rows[self.config.column]]
        codes = np.empty((len(cells), self.grid[2]), np.uint8)
        by_file: dict[str, list[int]] = {}
        selected = None if self.panel.selected is None else np.array(self.panel.selected)
        for place, cell in enumerate(cells):
            if is_plink(cell):
                by_file.setdefault(cell[0], []).append(place)
            else:
                codes[place] = self._from_array(cell, selected)
        for path, places in by_file.items():
            try:
                files = open_plink(cells[places[0]])
                codes[places] = files.codes([cells[place][3] for place in places], self.panel.selected)
            except (OSError, ValueError) as error:
                raise UserError(Fault(path, f"cannot be read ({error})")) from error
        return {CODES: stacked(codes)}

    def _from_array(self, cell: Any, selected: NDArray[np.int64] | None) -> Codes:
        try:
            array = load_array(cell)
        except UNREADABLE as error:
            raise UserError(Fault(name_of(cell), f"cannot be read as an array ({error})")) from error
        if (problem := array_problem(array, self.panel.count, self.panel.source)) is not None:
            raise UserError(Fault(name_of(cell), f"is {problem}"))
        return codes_of(array, selected)

    def show(self, rows: Mapping[str, Sequence[Any]]) -> list[str]:
        """The names of the files, with those of samples."""
        cells = [parse_cell(cell) for cell in rows[self.config.column]]
        return [name_of(cell) if is_array_file(cell) else str(cell) for cell in cells]

    def describe(self) -> dict[str, Any]:
        """Number of SNPs, and the encoder."""
        found = {"type": "omics", "column": self.config.column, "snps": self.grid[2]}
        if self.groups:
            found["groups"] = len(self.groups)
        return {**found, "model": self.config.model.model_type}

    def save(self, folder: str | Path) -> None:
        """Write ``input.json`` and the SNPs into `folder`, which is made if absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        panel = self.panel
        state = {
            "name": self.name,
            "config": self.config.model_dump(mode="json"),
            "count": panel.count,
            "selected": None if panel.selected is None else list(panel.selected),
            "groups": None if panel.groups is None else {name: list(places) for name, places in panel.groups.items()},
            "names": panel.snps is not None,
        }
        (folder / STATE_FILE).write_text(json.dumps(state) + "\n", encoding="utf-8")
        if panel.snps is not None:
            panel.snps.write(folder / SNPS_FILE)

    @classmethod
    def load(cls, folder: str | Path) -> FittedOmics:
        """What `save` wrote; raises `UserError` if it is missing or damaged."""
        path = Path(folder) / STATE_FILE
        try:
            state = read_json(path)
            snps = read_bim(path.parent / SNPS_FILE) if state["names"] else None
            selected = None if state["selected"] is None else tuple(state["selected"])
            panel = Panel(state["count"], "the model reads", snps, selected, state["groups"])
            return cls(state["name"], OmicsInputConfig.model_validate(state["config"]), panel)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(Fault(str(path), f"no fitted omics input ({type(error).__name__}: {error})")) from None


class OmicsModality(Modality):
    """An input of genotypes, as configured."""

    FITTED = FittedOmics
    config: OmicsInputConfig

    @cached_property
    def cells(self) -> GenotypeCells:
        """How its column is read and checked, the same for all splits; raises `UserError` for files of SNPs."""
        return GenotypeCells(self.name, self.config, Panel.of(self.name, self.config))

    def fit(self, train_rows: Rows, seed: int) -> FittedOmics:
        """Note which SNPs there are; nothing else is learned from the training rows.

        Raises:
            UserError: the files of the first row or of SNPs cannot be read any more.
        """
        del seed
        cells = self.cells
        if cells.panel.count is None:  # rows that were not read through `cells`
            cell = parse_cell(train_rows[0][self.config.column])
            if (problem := cells._problem(cell)) is not None:
                raise UserError(Fault(f"inputs.{self.name}.column", f"{self.config.column!r} {problem}"))
        return FittedOmics(self.name, self.config, cells.panel)


@dataclass(frozen=True)
class GenotypeCollator:
    """Codes of rows to the tensor that encoders read; training changes them at random."""

    augmentation: Augmentation

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """`codes`, (batch, SNPs), bytes of 0 to 3."""
        codes = encoded.arrays(CODES, rows)
        if draw.epoch is not None:
            codes = np.stack([self.augmentation(own, row, draw) for own, row in zip(codes, rows, strict=True)])
        return {CODES: torch.from_numpy(codes)}
