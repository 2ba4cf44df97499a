"""What a tokenizer's call gives, and token ids in whatever holds them."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any, Self

from eir_seq.errors import Fault, UserError

SPACED = (".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re")
"""Marks and endings before which `cleaned_up` takes a space away."""


class BatchEncoding(dict[str, Any]):
    """`input_ids`, `attention_mask` and what else a model takes, by name: ``batch["input_ids"]``, ``batch.input_ids``.

    Example:
        >>> batch = BatchEncoding(input_ids=[[4, 7]], attention_mask=[[1, 1]])
        >>> batch.input_ids
        [[4, 7]]
        >>> sorted(batch)
        ['attention_mask', 'input_ids']
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r} in this batch: {', '.join(self)}") from None

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move all tensors, in place, as `torch.Tensor.to` does; what is no tensor stays as it is."""
        import torch

        for name, values in self.items():
            if isinstance(values, torch.Tensor):
                self[name] = values.to(*args, **kwargs)
        return self


def as_tensors(rows: dict[str, Any], kind: str) -> dict[str, Any]:
    """Rows of numbers as tensors ("pt") or arrays ("np"), ``(batch, length)``; a number per row as ``(batch,)``.

    Raises:
        UserError: rows differ in length.
    """
    for name, values in rows.items():
        if len({len(row) if isinstance(row, list) else 0 for row in values}) > 1:
            raise UserError(Fault("return_tensors", f"rows of {name} differ in length; give padding=True"))
    if kind == "np":
        import numpy as np

        return {name: np.array(values, None if _fractional(values) else np.int64) for name, values in rows.items()}
    import torch

    return {
        name: torch.tensor(values, dtype=None if _fractional(values) else torch.long) for name, values in rows.items()
    }


def _fractional(values: list[Any]) -> bool:
    return any(isinstance(x, float) for row in values for x in (row if isinstance(row, list) else (row,)))


def as_ids(ids: Any) -> list[int]:
    """The ids of one text as a list: of a number, of several in a list, an array, or a tensor on any device.

    Raises:
        ValueError: these are not integers, or those of several texts.

    Example:
        >>> as_ids(7), as_ids(range(3))
        ([7], [0, 1, 2])
    """
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    try:
        return list(map(index, values)) if isinstance(values, Iterable) else [index(values)]
    except TypeError as error:
        message = "token ids of one text are integers, in a list, an array or a tensor of one dimension"
        raise ValueError(f"{message}; batch_decode takes several texts") from error


def cleaned_up(text: str) -> str:
    """The text without the spaces that splitting into words sets before punctuation marks and English endings.

    Example:
        >>> cleaned_up("it is n't here , is it ?")
        "it isn't here, is it?"
    """
    for mark in SPACED[:4]:
        text = text.replace(f" {mark}", mark)
    text = text.replace(" ' ", "'")
    for ending in SPACED[4:]:
        text = text.replace(f" {ending}", ending)
    return text
