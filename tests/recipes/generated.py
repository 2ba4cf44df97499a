"""Whether generated arrays and pictures show what the true ones show: the class, and the number of active elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def share_right(rows: Sequence[Mapping[str, str]], name: str, generated: Path, true: Path) -> float:
    """The share of rows whose generated array or picture has the active elements of the true class in the true number.

    Values are rounded: numbers to integers, pixels to black or white. Missing values of the true array do not count.

    Args:
        rows: of the table of predictions.
        name: of the output.
        generated: the folder that its files are relative to.
        true: that of the true ones.
    """
    return float(np.mean([_agree(_read(generated / row[name]), _read(true / row[f"{name}_true"])) for row in rows]))


def _agree(generated: NDArray[Any], true: NDArray[Any]) -> bool:
    generated = np.where(np.isnan(true), np.nan, generated)
    if true.ndim == 2 and true.shape[0] == true.shape[1]:  # the class of a picture is the corner of its patch
        half = len(true) // 2
        parts = [(slice(top, top + half), slice(left, left + half)) for top in (0, half) for left in (0, half)]
        return all(np.nansum(generated[part]) == np.nansum(true[part]) for part in parts)
    return all(np.sum(generated == number) == np.sum(true == number) for number in (-1, 1, 2, 3))


def _read(path: Path) -> NDArray[Any]:
    if path.suffix == ".npy":
        values: NDArray[Any] = np.round(np.load(path))
        return values
    with Image.open(path) as picture:
        pixels: NDArray[Any] = np.round(np.asarray(picture) / 255)
        return pixels
