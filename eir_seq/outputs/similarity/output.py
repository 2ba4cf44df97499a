"""The similarity of two inputs: losses and metrics of their vectors, which raw outputs hold."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, UserError
from eir_seq.outputs.base import FittedOutput, Output, TargetRows, ids_of, row_names
from eir_seq.outputs.classes.ranking import auroc_and_average_precision
from eir_seq.outputs.similarity.config import (
    CORRELATIONS,
    RANKS,
    RECALL_AT,
    TRIPLETS,
    TWO_CLASSES,
    SimilarityOutputConfig,
)
from eir_seq.outputs.similarity.head import SimilarityHead
from eir_seq.outputs.similarity.losses import contrastive_terms, margin_terms, triplet_terms
from eir_seq.outputs.similarity.search import Found, search

BLOCK = 1024
"""Rows of an evaluation that loss contrastive compares."""
SHOWN = 200
"""Characters of the nearest content in a table of predictions."""
SCORE, GROUP, FIRST = 0, 1, 2
"""Columns of targets: the score (0 without), the number of the group (-1 without), and of each input's content."""


class SimilarityState(Strict):
    """The state of a fitted similarity output: its config, with the inputs, and the columns that these read."""

    type: Literal["similarity"] = "similarity"
    name: str
    config: SimilarityOutputConfig
    columns: dict[str, list[str]] = Field(
        description="columns of each input that it compares, negatives after the pair"
    )


class FittedSimilarity(FittedOutput):
    """A similarity output.

    Raw outputs are those of `SimilarityHead`: the vector of each input, zeros where a row lacks it. Targets are (rows,
    2 + inputs), integers: the score (`scores_of`), the number of the group, and a number for what is in each input, -1
    where a row lacks it.
    """

    FITTED_FIELDS = ()
    config: SimilarityOutputConfig

    def __init__(self, state: SimilarityState) -> None:
        super().__init__(state)
        self.sources = list(state.columns)
        self._width = 0

    @property
    def output_size(self) -> int:
        """Known when the head was built."""
        return self._width

    @property
    def reads_contents(self) -> bool:
        """Which rows have the same content decides what is no negative."""
        return True

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """NAME_true with the score, if there is a column."""
        column = self.config.column
        return {} if column is None else {f"{self.name}_true": [_number(value) for value in rows[column]]}

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """Scores, groups and contents, LongTensor (rows, 2 + inputs).

        Raises:
            UserError: a score is beyond its range.
        """
        contents = contents_of(rows, self._state.columns)
        count = len(contents[0])
        scores = torch.zeros(count) if self.config.column is None else self._scores(rows, ids)
        groups = torch.full((count,), -1)
        if self.config.group is not None:
            groups = numbered([rows[self.config.group]])
        return torch.stack([scores.view(torch.int32).long(), groups, *contents], dim=1)

    def _scores(self, rows: TargetRows, ids: Sequence[str] | None) -> Tensor:
        column, config = self.config.column, self.config
        assert column is not None
        found = [_number(value) for value in rows[column]]
        low, high = config.range or (-1.0, 1.0)
        if bad := [row for row, score in enumerate(found) if not low <= score <= high]:
            hint = "" if config.range else "; range, such as [0, 5], maps other scores to cosines from 0 to 1"
            message = f"{found[bad[0]]:g} in column {column!r} is not from {low:g} to {high:g} ({row_names(bad, ids)})"
            raise UserError(Fault(f"outputs.{self.name}.column", message + hint))
        scores = torch.tensor(found)
        return scores if config.range is None else (scores - low) / (high - low)

    def build_head(self, in_features: int) -> nn.Module:
        """It reads vectors of inputs (`build_vector_head`)."""
        raise AssertionError(in_features)

    def build_vector_head(self, sizes: Mapping[str, int], owners: Mapping[str, str]) -> SimilarityHead:
        """The head, see there.

        Raises:
            UserError: vectors of different widths without a projection.
        """
        config = self.config
        if config.projection is None and len(set(sizes.values())) > 1:
            listed = ", ".join(f"inputs.{name} {size}" for name, size in sizes.items())
            message = f"is missing: the vectors differ in width ({listed}); set e.g. {min(sizes.values())}"
            raise UserError(Fault(f"outputs.{self.name}.projection", message))
        head = SimilarityHead(
            sizes, owners, config.projection, config.temperature if config.learn_temperature else None
        )
        self._width = len(sizes) * (config.projection or next(iter(sizes.values()))) + config.learn_temperature
        return head

    def embedding(self, head: nn.Module, source: str, vectors: Tensor) -> Tensor | None:
        """The vectors of one of its inputs, projected."""
        assert isinstance(head, SimilarityHead)
        return head.project(source, vectors) if source in self.sources else None

    # ------------------------------------------------------------------------------------------------------- losses

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """The loss of each row, (batch, 1). Contrastive ones compare it with the others of the call."""
        if not len(raw):
            return raw[:, :1].float()
        with torch.autocast(raw.device.type, enabled=False):  # differences of cosines are small
            return self._terms(raw.float(), target)[:, None]

    def _terms(self, raw: Tensor, target: Tensor) -> Tensor:
        left, right, *negatives = self._vectors(raw)
        kind, own, score = self.config.kind, (left * right).sum(dim=1), scores_of(target)
        if kind == "cosine":
            return (own - score).square()
        if kind == "margin":
            return margin_terms(own, score > 0, self.config.distance, online=self.config.online)
        if kind == "triplet":
            found = torch.stack([(left * negative).sum(dim=1) for negative in negatives], dim=1)
            return triplet_terms(own, found, target[:, FIRST + 2 :] >= 0, self.config.distance)
        matching, hard, excluded = alike(target), None, None
        if negatives:
            hard, contents = torch.cat(negatives), target[:, FIRST + 2 :].T.reshape(-1)
            is_right = contents == target[:, FIRST + 1, None]  # of which row, (rows, candidates)
            excluded = (contents < 0) | (matching.float() @ is_right.float() > 0)
        return contrastive_terms(
            left, right, self._scale(raw), matching, hard, excluded, symmetric=self.config.symmetric
        )

    def loss_counts(self, inputs: Mapping[str, Mapping[str, Tensor]], target: Tensor) -> Tensor:
        """1 for each row, (batch, 1); of triplets, for those that have a negative."""
        del inputs
        if self.config.kind == "triplet":
            return (target[:, FIRST + 2 :] >= 0).any(dim=1, keepdim=True).float()
        return torch.ones(len(target), 1)

    def _scale(self, raw: Tensor) -> Tensor | float:
        """The factor on cosines."""
        return raw[0, -1].float().exp() if self.config.learn_temperature else 1 / self.config.temperature

    def _vectors(self, raw: Tensor) -> list[Tensor]:
        """The vectors of each input, (rows, width)."""
        width = (raw.shape[1] - self.config.learn_temperature) // len(self.sources)
        return list(torch.split(raw[:, : width * len(self.sources)], width, dim=1))

    # ------------------------------------------------------------------------------------------------------ metrics

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """The loss and what the config declares for it. Contrastive losses compare blocks of `BLOCK` rows."""
        kind, score = self.config.kind, scores_of(target)
        blocks = zip(torch.split(raw, BLOCK), torch.split(target, BLOCK), strict=True)
        values: dict[str, float] = {}
        if count := float(self.loss_counts({}, target).sum()):
            values["loss"] = math.fsum(float(self.loss_terms(*block).double().sum()) for block in blocks) / count
        left, right, *negatives = self._vectors(raw)
        own = (left * right).sum(dim=1)
        if kind == "cosine":
            values |= correlations(own.double(), score.double())
        if kind in ("cosine", "margin") and not (set(TWO_CLASSES) & self.undefined(target).keys()):
            values["auroc"], values["average_precision"] = auroc_and_average_precision(own.double(), score.long() == 1)
        there = target[:, FIRST + 2 :] >= 0
        if there.any():
            found = torch.stack([(left * negative).sum(dim=1) for negative in negatives], dim=1)
            nearer = own > found.masked_fill(~there, -torch.inf).amax(dim=1)
            values[TRIPLETS] = float(nearer[there.any(dim=1)].double().mean())
        if kind != "cosine" and self.config.ranks and self._matching(target).any():
            ranks = self._search(left, right, target, self._matching(target)).ranks
            values |= {f"recall_at_{k}": float((ranks <= k).double().mean()) for k in RECALL_AT}
            values["mrr"] = float((1 / ranks.double()).mean())
        return values

    def _matching(self, target: Tensor) -> Tensor:
        """Rows that are pairs which match, (rows,)."""
        return scores_of(target) > 0 if self.config.kind == "margin" else torch.ones(len(target), dtype=torch.bool)

    def _search(self, left: Tensor, right: Tensor, target: Tensor, matching: Tensor) -> Found:
        keys = target[:, GROUP if self.config.group is not None else FIRST].contiguous()
        return search(left, right, keys, target[:, FIRST + 1].contiguous(), matching)

    def undefined(self, target: Tensor) -> dict[str, str]:
        """Correlations where all scores are the same, metrics of classes where they are not 0 and 1."""
        kind, score, rows = self.config.kind, scores_of(target), f"{len(target):,} rows"
        found: dict[str, str] = {}
        if kind in ("cosine", "margin"):
            if len(target) == 0 or score.min() == score.max():
                reason = f"the scores of all {rows} are the same" if len(target) > 1 else "there is one row"
                found = dict.fromkeys((*CORRELATIONS, *TWO_CLASSES), reason)
            elif not ((score == 0) | (score == 1)).all():
                found = dict.fromkeys(TWO_CLASSES, "the scores are not 0 and 1")
            if not self._matching(target).any():
                found |= dict.fromkeys(RANKS, f"none of the {rows} is a pair that matches")
        elif self.config.negatives and not (target[:, FIRST + 2 :] >= 0).any():
            found[TRIPLETS] = f"none of the {rows} has a negative"
        return found

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """How far the cosine is from the score, (rows,), of loss triplet from that of the nearest negative.

        Of loss contrastive how many candidates are nearer than the match, plus half the distance, which is below 1.
        """
        left, right, *negatives = self._vectors(raw)
        own, score = (left * right).sum(dim=1), scores_of(target)
        if self.config.kind == "cosine":
            return (own - score).abs()
        if self.config.kind == "margin":
            return torch.where(score > 0, 1 - own, own)
        if self.config.kind == "triplet":
            there = target[:, FIRST + 2 :] >= 0
            found = torch.stack([(left * negative).sum(dim=1) for negative in negatives], dim=1)
            return found.masked_fill(~there, -1.0).amax(dim=1) - own
        nearer = self._search(left, right, target, self._matching(target)).ranks - 1 if self.config.ranks else 0
        return nearer + ((1 - own) / 2).clamp(0, 1 - 1e-6)

    # -------------------------------------------------------------------------------------------------- predictions

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """NAME, the cosine of the pair, and NAME_cosine(INPUT), those of the first input and of each negative.

        Empty where a row lacks an input.
        """
        left, right, *negatives = self._vectors(raw.detach().cpu())
        columns = {self.name: cosines(left, right)}
        for source, negative in zip(self.sources[2:], negatives, strict=True):
            columns[f"{self.name}_cosine({source})"] = cosines(left, negative)
        return columns

    def decode_rows(self, raw: Tensor, rows: Callable[[], TargetRows]) -> dict[str, list[Any]]:
        """As `decode`; of losses of ranks also the place of the row's own second input among those of all rows, in
        NAME_rank, and the nearest: its id in NAME_nearest, its content in NAME_nearest(COLUMN), NAME_nearest_cosine."""
        columns = self.decode(raw)
        if self.config.kind == "cosine" or not self.config.ranks:
            return columns
        left, right = self._vectors(raw.detach().cpu())[:2]
        table, sources = rows(), self._state.columns
        kept = (left.any(dim=1) & right.any(dim=1)).nonzero().flatten()
        contents = torch.stack(contents_of(table, sources), dim=1)[kept]
        if not len(kept):
            return columns
        # Which pairs match is what loss margin predicts: each row is searched by itself.
        keys = torch.arange(len(kept)) if self.config.kind == "margin" else contents[:, 0].contiguous()
        found = search(left[kept], right[kept], keys, contents[:, 1].contiguous())
        nearest = kept[found.nearest].tolist()

        def column(values: Sequence[Any]) -> list[Any]:
            cells: list[Any] = [""] * len(raw)
            for row, value in zip(kept.tolist(), values, strict=True):
                cells[row] = value
            return cells

        columns[f"{self.name}_rank"] = column(found.ranks.tolist())
        ids = ids_of(table)
        columns[f"{self.name}_nearest"] = column(nearest if ids is None else [ids[row] for row in nearest])
        if len(names := sources[self.sources[1]]) == 1:
            cells = table[names[0]]
            columns[f"{self.name}_nearest({names[0]})"] = column([str(cells[row])[:SHOWN] for row in nearest])
        columns[f"{self.name}_nearest_cosine"] = column(found.cosines.tolist())
        return columns

    def describe(self) -> dict[str, Any]:
        """Inputs, column and loss."""
        pair, negatives = self.sources[:2], self.sources[2:]
        return {
            "type": "similarity",
            "inputs": " and ".join(pair),
            "negatives": ", ".join(negatives) or None,
            "column": self.config.column,
            "loss": self.config.kind,
            "columns": dict(self._state.columns),
        }


def scores_of(target: Tensor) -> Tensor:
    """The scores of targets, (rows,), whose bits stand among integers: single precision counts rows to 2^24 alone."""
    return target[:, SCORE].int().view(torch.float32)


def alike(target: Tensor) -> Tensor:
    """Which rows match each other, (rows, rows): by group, or by the content of either input of the pair."""
    left, right, group = target[:, FIRST], target[:, FIRST + 1], target[:, GROUP]
    same: Tensor = (left[:, None] == left) | (right[:, None] == right)
    return same | ((group[:, None] == group) & (group >= 0))


def cosines(left: Tensor, right: Tensor) -> list[Any]:
    """Of pairs of vectors of length 1; empty where one of them is zero."""
    there = (left.any(dim=1) & right.any(dim=1)).tolist()
    values = (left * right).sum(dim=1).clamp(-1, 1).tolist()
    return [value if is_there else "" for value, is_there in zip(values, there, strict=True)]


def correlations(cosine: Tensor, score: Tensor) -> dict[str, float]:
    """Pearson and Spearman of both, (rows,) in double precision; absent where one of them does not vary."""
    from eir_seq.outputs.torchmetrics import pearson_corrcoef, spearman_corrcoef

    if len(score) < 2 or score.min() == score.max() or cosine.min() == cosine.max():
        return {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The variance of predictions or target is close to zero")
        found = {"spearman": spearman_corrcoef(cosine, score), "pearson": pearson_corrcoef(cosine, score)}
    return {name: float(value) for name, value in found.items() if value.isfinite()}


def contents_of(rows: TargetRows, columns: Mapping[str, Sequence[str]]) -> list[Tensor]:
    """A number for what is in each input, (rows,) for each: the same for the same cells, -1 where all are missing."""
    cells = {name: [_column(rows, column) for column in names] for name, names in columns.items()}
    count = max(len(column) for parts in cells.values() for column in parts)
    full = [[part or [None] * count for part in parts] for parts in cells.values()]
    return list(torch.split(numbered(*full), count))


def numbered(*parts: Sequence[Sequence[Any]]) -> Tensor:
    """Numbers for the rows of tables, one after the other, (sum of rows,): the same for equal rows, -1 for empty ones.

    Example:
        >>> numbered([["a", "b", None, "a"]]).tolist()
        [0, 1, -1, 0]
    """
    known: dict[Any, int] = {}
    rows = (row for part in parts for row in zip(*part, strict=True))
    found = [-1 if all(cell is None for cell in row) else known.setdefault(row, len(known)) for row in rows]
    return torch.tensor(found, dtype=torch.long)


def _column(rows: TargetRows, name: str) -> Sequence[Any]:
    try:
        return rows[name]
    except KeyError:  # of an input that rows to be predicted lack
        return []


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


class Similarity(Output):
    """A similarity output as declared."""

    STATE = SimilarityState
    FITTED = FittedSimilarity
    config: SimilarityOutputConfig
    columns: dict[str, list[str]]

    def reading(self, columns: Mapping[str, Sequence[str]]) -> Self:
        """The columns of its inputs; `fit` needs them."""
        names = self.config.vector_inputs(list(columns))
        self.columns = {name: list(columns[name]) for name in names}
        return self

    def fit(self, train_rows: TargetRows) -> FittedSimilarity:
        """Check the training rows; nothing is learned.

        Raises:
            UserError: a score is beyond its range, all scores are the same, or all rows have the same content.
        """
        fitted = FittedSimilarity(SimilarityState(name=self.name, config=self.config, columns=self.columns))
        target, place = fitted.targets(train_rows, ids_of(train_rows)), f"outputs.{self.name}"
        score, rows = scores_of(target), f"{len(target):,} training rows"
        if self.config.column is not None and score.min() == score.max():
            what = f"column {self.config.column!r} is the same on all {rows}; nothing to learn"
            raise UserError(Fault(f"{place}.column", what))
        for number, source in enumerate(fitted.sources[:2]):
            if self.config.kind == "contrastive" and len(set(target[:, FIRST + number].tolist())) == 1:
                raise UserError(Fault(place, f"inputs.{source} is the same on all {rows}; there is no negative"))
        return fitted
