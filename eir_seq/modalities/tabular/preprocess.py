"""Columns of categories and numbers: what training rows say about them, ids of categories, and standard scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.base import RowSource, stacked
from eir_seq.modalities.json_state import JsonFittedModality, JsonModality
from eir_seq.modalities.tabular.codes import KNOWN, MISSING, UNSEEN
from eir_seq.modalities.tabular.config import TabularInputConfig
from eir_seq.randomness import Draw
from eir_seq.rows import Rows

CATEGORIES, NUMBERS, FOREIGN = "categories", "numbers", "foreign"
"""Features: ids of categories (rows, columns), standard scores (rows, columns) with NaN for missing ones, and how many
categories of a row are unseen."""
FURTHEST = 1e6
"""Standard deviations from the mean up to which numbers are distinguished, so that their sums stay finite."""
UNSEEN_SHARE = 0.2
"""From this share of unseen categories on there is a warning."""
SHOWN = 12
"""Columns that descriptions name; the rest is counted."""


@dataclass(frozen=True)
class TabularCollator:
    """Cells to tensors; in training a share `unseen` of known categories is read as unseen ones."""

    name: str
    unseen: float

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """`categories` int64 and `numbers` float32, NaN where they are missing; (batch, columns) each."""
        tensors = {}
        if CATEGORIES in encoded.features:
            ids = encoded.arrays(CATEGORIES, rows).astype(np.int64)
            if self.unseen and draw.epoch is not None:
                drawn = draw.uniforms(rows, ids.shape[1], self.name, "unseen") < self.unseen
                ids[drawn & (ids >= KNOWN)] = UNSEEN
            tensors["categories"] = torch.from_numpy(ids)
        if NUMBERS in encoded.features:
            tensors["numbers"] = torch.from_numpy(np.array(encoded.arrays(NUMBERS, rows)))
        return tensors


class FittedTabular(JsonFittedModality):
    """Columns with their categories, means and scales.

    `state`: by column, ``categories`` (a list of names by column), ``mean``, ``scale``, ``lacking`` (whether training
    rows lack numbers) and ``edges`` of bins, in standard deviations, where an encoder needs them.
    """

    config: TabularInputConfig

    @property
    def counts(self) -> list[int]:
        """Ids of each column of categories, those of missing and unseen ones included."""
        return [KNOWN + len(names) for names in self.state["categories"]]

    @property
    def lacking(self) -> list[bool]:
        """Of each column of numbers, whether training rows lack it."""
        lacking: list[bool] = self.state["lacking"]
        return lacking

    @property
    def edges(self) -> list[list[float]]:
        """Of each column of numbers, the edges of its bins in standard deviations."""
        edges: list[list[float]] = self.state["edges"]
        return edges

    @property
    def collator(self) -> TabularCollator:
        """Makes the tensors of a batch."""
        return TabularCollator(self.name, self.config.unseen)

    @cached_property
    def _known(self) -> list[tuple[pa.Array, dict[str, int]]]:
        """Of each column of categories: its names, and ids by their plain forms where these are unique."""
        found = []
        for names in self.state["categories"]:
            plain: dict[str, list[int]] = {}
            for number, name in enumerate(names):
                plain.setdefault(_plain(name), []).append(KNOWN + number)
            unique = {name: ids[0] for name, ids in plain.items() if len(ids) == 1}
            found.append((pa.array(names, pa.string()), unique))
        return found

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
        """See `encode_table`."""
        kinds = dict.fromkeys(self.config.categorical, pa.string())
        kinds |= dict.fromkeys(self.config.continuous, pa.float64())
        return self.encode_table(pa.table({name: pa.array(rows[name], kind) for name, kind in kinds.items()}))

    def encode_table(self, table: pa.Table) -> dict[str, pa.Array]:
        """Ids of categories, and standard scores of numbers."""
        features = {}
        if self.config.categorical:
            ids = np.empty((table.num_rows, len(self.config.categorical)), np.int32)
            for place, name in enumerate(self.config.categorical):
                ids[:, place] = self._ids(place, table.column(name))
            features[CATEGORIES] = stacked(ids)
            features[FOREIGN] = pa.array((ids == UNSEEN).sum(axis=1, dtype=np.int32))
        if self.config.continuous:
            values = _matrix(table, self.config.continuous)
            scores = (values - np.array(self.state["mean"])) / np.array(self.state["scale"])
            features[NUMBERS] = stacked(np.clip(scores, -FURTHEST, FURTHEST).astype(np.float32))
        return features

    def _ids(self, place: int, column: pa.ChunkedArray) -> NDArray[np.int32]:
        names, plain = self._known[place]
        column = column.cast(pa.string())
        found = pc.index_in(column, names)
        ids: NDArray[np.int32] = found.fill_null(UNSEEN - KNOWN).to_numpy().astype(np.int32) + KNOWN
        if found.null_count == column.null_count:  # all that are there are known
            ids[column.is_null().to_numpy()] = MISSING
            return ids
        codes = column.combine_chunks().dictionary_encode()
        known = pc.index_in(codes.dictionary, names).to_pylist()
        by_code = [
            plain.get(_plain(name), UNSEEN) if index is None else KNOWN + index
            for name, index in zip(codes.dictionary.to_pylist(), known, strict=True)
        ]
        ids = np.array([*by_code, MISSING], np.int32)
        return np.asarray(ids[codes.indices.fill_null(len(by_code)).to_numpy()])

    def review(self, encoded: RowSource, split: str) -> list[str]:
        """A warning where many categories of a split are unseen."""
        if not self.config.categorical:
            return []
        share = float(encoded.numbers(FOREIGN).mean()) / len(self.config.categorical)
        if share < UNSEEN_SHARE:
            return []
        return [f"inputs.{self.name}: {share:.0%} of the categories of the {split} rows are not those of training rows"]

    def show(self, rows: Mapping[str, Sequence[Any]]) -> list[str]:
        """The values of each row with the names of their columns: ``age 39, ward –``, the latter missing."""
        cells = zip(*(rows[name] for name in self.columns), strict=True)
        return [", ".join(map(_cell, self.columns, row)) for row in cells]

    def describe(self) -> dict[str, Any]:
        """Its columns, and how many categories each has."""
        sizes = dict(zip(self.config.categorical, map(len, self.state["categories"]), strict=True))
        listed = [f"{name} ({count:,})" for name, count in sizes.items()]
        return {
            "type": "tabular",
            **({"categorical": _shortened(listed)} if listed else {}),
            **({"continuous": _shortened(self.config.continuous)} if self.config.continuous else {}),
            "model": self.config.model.model_type,
        }


class Tabular(JsonModality):
    """Columns of categories and numbers, as configured."""

    FITTED = FittedTabular
    config: TabularInputConfig

    def learn(self, train_rows: Rows, seed: int) -> dict[str, Any]:
        """Categories of each column in the order of their names; mean, scale and bins of each column of numbers.

        Raises:
            UserError: columns have no value in the training rows.
        """
        del seed
        faults = [
            Fault(f"inputs.{self.name}.{key}", f"no training row has a value in column {name!r}; leave it out")
            for key, names in (("categorical", self.config.categorical), ("continuous", self.config.continuous))
            for name in names
            if train_rows.column(name).null_count == train_rows.num_rows
        ]
        if faults:
            raise UserError(*faults)
        state: dict[str, Any] = {"categories": [], "mean": [], "scale": [], "lacking": [], "edges": []}
        for name in self.config.categorical:
            counted = pc.value_counts(train_rows.column(name).drop_null())
            frequent = counted.filter(pc.greater_equal(counted.field("counts"), self.config.min_freq))
            state["categories"].append(sorted(frequent.field("values").cast(pa.string()).to_pylist()))
        bins = getattr(self.config.model, "bins", 0)  # encoders of plug-ins need none
        for name in self.config.continuous:
            column = train_rows.column(name)
            values = column.cast(pa.float64()).drop_null().to_numpy()
            mean, scale = _standard(values)
            state["mean"].append(mean)
            state["scale"].append(scale)
            state["lacking"].append(bool(column.null_count))
            if bins:
                state["edges"].append(_edges((values - mean) / scale, bins))
        return state


def _cell(name: str, value: Any) -> str:
    missing = value is None or value != value
    return f"{name} {'–' if missing else str(value).removesuffix('.0')}"


def _plain(name: str) -> str:
    """A category without what the file it comes from may have made of it: spaces, 1.0 for 1, True for true."""
    name = name.strip()
    if name.casefold() in ("true", "false"):
        return name.casefold()
    whole, point, fraction = name.partition(".")
    return whole if point and not fraction.strip("0") and whole.lstrip("-").isdigit() else name


def _matrix(table: pa.Table, names: Sequence[str]) -> NDArray[np.float64]:
    """Columns of numbers as (rows, columns), NaN where they are null."""
    values = np.empty((len(names), table.num_rows))
    for place, name in enumerate(names):
        values[place] = table.column(name).cast(pa.float64()).to_numpy()
    return values.T


def _standard(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation; 1 in place of the latter where numbers do not differ, and 0 and 1 of none."""
    if not len(values):
        return 0.0, 1.0
    largest = float(np.abs(values).max()) or 1.0  # squares of the largest numbers are infinite
    scaled = values / largest
    if values.min() == values.max():
        return float(values[0]), 1.0
    return float(scaled.mean()) * largest, float(scaled.std()) * largest


def _edges(scores: NDArray[np.float64], bins: int) -> list[float]:
    """The edges of bins with as many numbers each, fewer of them where many numbers are the same."""
    if not len(scores):
        return [-1.0, 1.0]
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, bins + 1)).astype(np.float32))
    return [float(edges[0]) - 1, float(edges[0]) + 1] if len(edges) == 1 else edges.tolist()


def _shortened(names: Sequence[str]) -> str:
    return _named(names) if len(names) <= SHOWN else f"{_named(names[:SHOWN])} and {len(names) - SHOWN:,} more"


def _named(names: Sequence[str]) -> str:
    return ", ".join(names)
