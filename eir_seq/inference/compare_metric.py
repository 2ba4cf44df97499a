"""The metric that ``runs compare --metric`` names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eir_seq.config.metrics import find_metric
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.registry import OUTPUTS

_SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Chosen:
    """A metric that runs have.

    Attributes:
        split: validation or test, if it was named.
        name: ``output.metric``, ``loss`` or ``average``.
        mode: ``min`` or ``max``, whichever is better.
    """

    split: str | None
    name: str
    mode: str


def chosen_metric(given: str, measured: Sequence[str], config: Mapping[str, Any]) -> Chosen:
    """What a metric is, by its full name or by an end of it that only one metric has.

    Args:
        given: ``accuracy``, ``sentiment.accuracy`` or ``test.sentiment.accuracy``.
        measured: metrics of runs as ``split.output.metric``.
        config: of a run, as ``a.b.c: value``.

    Raises:
        UserError: no run has it, or it may be several.
    """
    split, _, rest = given.partition(".")
    if split not in _SPLITS:
        split, rest = "", given
    names = list(dict.fromkeys(name.partition(".")[2] for name in measured if not split or name.startswith(split)))
    found = [rest] if rest in names else [name for name in names if name.endswith(f".{rest}")]
    if not found:
        listed = ", ".join(name for name in names if "(" not in name) or "there are none"
        message = f"no run has the metric {given!r} ({listed}){nearest(rest, names)}"
        raise UserError(Fault("--metric", message))
    if len(found) > 1:
        raise UserError(Fault("--metric", f"{given!r} may be {', '.join(found)}; write one of them"))
    return Chosen(split or None, found[0], _better(found[0], config))


def _better(name: str, config: Mapping[str, Any]) -> str:
    output, _, metric = name.rpartition(".")
    kind = OUTPUTS.get(str(config.get(f"outputs.{output}.type"))) if output else None
    known = find_metric(metric.partition("(")[0], kind.metrics()) if kind is not None else None
    if known is not None:
        return str(known.better)
    return "min" if metric == "loss" else "max"
