"""What the `loss` of an output of arrays or pictures means: the shape of raw outputs, losses and metrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from eir_seq.modalities.encoders.layers.patches import Shape
from eir_seq.outputs.arrays.output import Form, parts

if TYPE_CHECKING:
    pass

SMOOTH = 1e-5
"""Added to numerator and denominator of the soft Dice."""
IGNORED = -1
"""In targets of classes, an element that is none."""


class Numbers(Form):
    """Numbers, with the squared or the absolute error of standardized values as the loss.

    Raw outputs are standardized. Elements that a target lacks (NaN) are in no sum.
    """

    @property
    def raw_grid(self) -> Shape:
        """That of the target."""
        return self.output.grid

    def standardized(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Standardized targets, (rows, channels, height, width), with zeros where they lack, and where they do not."""
        values = self.output.numbers(target)
        known = ~values.isnan()
        return self.output.scale.standardized(values).where(known, values.new_zeros(())), known

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """The sum over elements, (batch, 1)."""
        wanted, known = self.standardized(target)
        difference = (raw.float() - wanted).where(known, wanted.new_zeros(()))
        losses = difference.abs() if self.output.config.loss == "mae" else difference.square()
        return losses.flatten(1).sum(dim=1, keepdim=True)

    def loss_counts(self, target: Tensor) -> Tensor:
        """Elements that each row has, (batch, 1)."""
        return (~self.output.numbers(target).isnan()).flatten(1).sum(dim=1, keepdim=True).float()

    def predicted(self, raw: Tensor) -> Tensor:
        """Values in the units of the target."""
        return self.output.restored(raw.float())

    def measure(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """MSE, MAE and R2 of all elements, and the mean cosine similarity of rows, in the target's own units.

        R2 is one minus the ratio of the squared errors to the squared differences from the mean of each element over
        these rows, both summed over all elements.
        """
        sums = _Sums()
        cosines: list[Tensor] = []
        for some_raw, some_target in parts(raw, target):
            true, guess = self.output.numbers(some_target).double(), self.predicted(some_raw).double()
            sums.add(guess, true, self.output.scale.mean.double())
            true, guess = (values.where(~true.isnan(), true.new_zeros(())).flatten(1) for values in (true, guess))
            lengths = true.norm(dim=1), guess.norm(dim=1)
            cosine = (true * guess).sum(1) / (lengths[0] * lengths[1]).clamp_min(torch.finfo(torch.float64).tiny)
            cosines.append(cosine[lengths[0] > 0])
        if not sums.count.sum():
            return {}
        values = sums.values()
        if len(rows := torch.cat(cosines)):
            values["cosine"] = float(rows.mean())
        return values

    def undefined(self, target: Tensor) -> dict[str, str]:
        """R2 where each element is the same in all rows, cosine similarity where all are zero."""
        sums, zero = _Sums(), True
        for (some,) in parts(target):
            true = self.output.numbers(some).double()
            sums.add(true, true, self.output.scale.mean.double())
            zero = zero and not bool(true.nan_to_num(0.0).any())
        if not sums.count.sum():
            names = (
                {metric.name for metric in self.output.config.METRICS} - {"loss"} - {*self.output.config.unmeasured()}
            )
            return dict.fromkeys(sorted(names), "no row has a value")
        found = {}
        if "r2" not in sums.values():
            found["r2"] = "each element is the same in all rows"
        if zero:
            found["cosine"] = "all targets are zero"
        return found

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """Mean squared error of each row, in the target's own units."""
        found = []
        for some_raw, some_target in parts(raw, target):
            true = self.output.numbers(some_target)
            known = ~true.isnan()
            squares = (self.predicted(some_raw) - true).square().where(known, true.new_zeros(()))
            found.append(squares.flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1))
        return torch.cat(found)


class _Sums:
    """Sums over rows, element by element."""

    def __init__(self) -> None:
        self.count = self.first = self.second = self.squares = self.absolute = torch.zeros((), dtype=torch.float64)

    def add(self, guess: Tensor, true: Tensor, centre: Tensor) -> None:
        """Take in rows, (rows, ...), of values without NaN in `guess`; `centre` is near the mean, for precision."""
        known = ~true.isnan()
        zero = true.new_zeros(())
        shifted, error = ((values).where(known, zero) for values in (true - centre, guess - true))
        self.count = self.count + known.sum(0)
        self.first = self.first + shifted.sum(0)
        self.second = self.second + shifted.square().sum(0)
        self.squares = self.squares + error.square().sum(0)
        self.absolute = self.absolute + error.abs().sum(0)

    def values(self) -> dict[str, float]:
        """MSE, MAE, and R2 where the values of an element differ."""
        count = float(self.count.sum())
        values = {"mse": float(self.squares.sum()) / count, "mae": float(self.absolute.sum()) / count}
        spread = self.second - self.first.square() / self.count.clamp_min(1)
        varies = spread > 1e-12 * self.second  # what is smaller is rounding
        total = float(spread[varies].sum())
        if total > 0:
            values["r2"] = 1 - float(self.squares.sum()) / total
        return values


class Classes(Form):
    """Classes, by cross-entropy and soft Dice (Milletari et al. 2016, arXiv:1606.04797).

    Raw outputs are logits, the classes of each channel side by side. Targets are indices of classes, `IGNORED` where an
    element is not counted. The Dice loss of a row is one minus the mean over the classes that it has.
    """

    @property
    def raw_grid(self) -> Shape:
        """That of the target with as many times its channels as there are classes."""
        channels, height, width = self.output.grid
        return channels * len(self.output.classes), height, width

    def logits(self, raw: Tensor) -> Tensor:
        """Shape: (rows, classes, elements)."""
        return raw.float().reshape(len(raw), len(self.output.classes), -1)

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """The sum of cross-entropies over elements, and the Dice loss, (batch, 2)."""
        logits, wanted = self.logits(raw), target.flatten(1).long()
        entropy = F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="none").sum(dim=1)
        known = (wanted != IGNORED)[:, None]
        probabilities = logits.softmax(dim=1) * known
        true = F.one_hot(wanted.clamp_min(0), logits.shape[1]).transpose(1, 2) * known
        sizes = true.sum(2)
        dice = (2 * (probabilities * true).sum(2) + SMOOTH) / (probabilities.sum(2) + sizes + SMOOTH)
        there = sizes > 0
        loss = ((1 - dice) * there).sum(1) / there.sum(1).clamp_min(1)
        return torch.stack([entropy, self.output.config.dice_weight * loss], dim=1)

    def loss_counts(self, target: Tensor) -> Tensor:
        """Elements that are counted, and whether there are any, (batch, 2)."""
        known = (target != IGNORED).flatten(1).sum(1)
        return torch.stack([known, known > 0], dim=1).float()

    def predicted(self, raw: Tensor) -> Tensor:
        """Indices of classes."""
        return self.logits(raw).argmax(dim=1).reshape(len(raw), *self.output.grid)

    def true(self, target: Tensor) -> Tensor:
        """Indices of classes."""
        return target.float().masked_fill(target == IGNORED, math.nan)

    def _counts(self, raw: Tensor, target: Tensor) -> Tensor:
        """How many elements of each true class are predicted as each class, (classes, classes)."""
        classes = len(self.output.classes)
        counts = torch.zeros(classes * classes, dtype=torch.long)
        for some_raw, some_target in parts(raw, target):
            true = some_target.flatten().long()
            known = true != IGNORED
            pairs = true[known] * classes + self.predicted(some_raw).flatten()[known]
            counts += pairs.bincount(minlength=classes * classes)
        return counts.reshape(classes, classes).double()

    def measure(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Accuracy of elements, Dice of each class that is true or predicted anywhere and their mean, and MCC."""
        counts = self._counts(raw, target)
        total = float(counts.sum())
        if not total:
            return {}
        right, true, guess = counts.diag(), counts.sum(1), counts.sum(0)
        values = {"accuracy": float(right.sum()) / total}
        dice = {
            str(name): float(2 * hit / (a + b))
            for name, hit, a, b in zip(self.output.classes, right, true, guess, strict=True)
            if a + b > 0
        }
        values["dice"] = math.fsum(dice.values()) / len(dice)
        values |= {f"dice({name})": value for name, value in dice.items()}
        spread = float(total**2 - (guess**2).sum()) * float(total**2 - (true**2).sum())
        if spread > 0:
            values["mcc"] = float(right.sum() * total - (true * guess).sum()) / math.sqrt(spread)
        elif float(true.max()) < total:  # one class is predicted everywhere
            values["mcc"] = 0.0
        return values

    def undefined(self, target: Tensor) -> dict[str, str]:
        """All where no element is counted, MCC where they are of one class."""
        found = torch.unique(target[target != IGNORED])
        if not len(found):
            return dict.fromkeys(("accuracy", "dice", "mcc"), "no element is counted")
        if len(found) == 1:
            return {"mcc": f"all elements are of class {self.output.classes[int(found)]}"}
        return {}

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """Share of the counted elements of each row that are wrong."""
        found = []
        for some_raw, some_target in parts(raw, target):
            known = (some_target != IGNORED).flatten(1)
            wrong = (self.predicted(some_raw) != some_target).flatten(1) & known
            found.append(wrong.sum(1) / known.sum(1).clamp_min(1))
        return torch.cat(found)
