"""Metrics as outputs declare them: one entry per metric, read by the monitor, the report and the docs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from eir_seq.errors import nearest

Better = Literal["min", "max"]


@dataclass(frozen=True)
class Metric:
    """One metric of a kind of output.

    Attributes:
        name: in metrics.csv, result.json and `trainer.monitor.metric`.
        title: in the report.
        better: whether lower or higher values are better.
        group: metrics of one group share a plot of the report.
        per_class: given for single classes, too, as ``NAME(CLASS)``.
        overall: given for all rows together; without it for single classes only.
        monitored: whether `trainer.monitor.metric` may name it.
        share_of_rows: a share of rows, of which the report gives a confidence interval.
        aliases: other names under which people look for it.
        function: ``module:name`` of what computes it; None where the output's `evaluate` does. It is called as
            ``function(output, raw, target)`` with raw outputs (rows, output_size) and targets (rows, ...), both on the
            CPU, and gives a number, or None where these rows leave the metric undefined.

    Example:
        >>> from eir_seq.config.metrics import Metric
        >>> Metric("brier", "Brier score", "min", function="my_project.metrics:brier").better
        'min'
    """

    name: str
    title: str
    better: Better
    group: str = "metrics"
    per_class: bool = False
    overall: bool = True
    monitored: bool = True
    share_of_rows: bool = False
    aliases: tuple[str, ...] = ()
    function: str | None = None


AVERAGE = "average"
"""The mean over outputs of what each of them declares as `OutputBase.AVERAGED`; higher is better."""

LOSS = Metric("loss", "Loss", "min", "loss", aliases=("cross_entropy", "nll", "ce", "bce", "total_loss"))
PERPLEXITY = Metric("perplexity", "Perplexity", "min", "perplexity", aliases=("ppl", "pplx"))

_SPLIT = re.compile(r"(val|valid|validation|eval|dev|test)[_/-]")


def nearest_metric(name: str, known: Iterable[Metric]) -> str:
    """``; did you mean 'x'?`` for what is called `name` elsewhere, or for the nearest of the `known` names."""
    known = list(known)
    wanted = _SPLIT.sub("", name.casefold().strip(), count=1).replace("-", "_").replace(" ", "_")
    for metric in known:
        if wanted == metric.name.casefold() or wanted in metric.aliases:
            return f"; did you mean {metric.name!r}?"
    return nearest(wanted, [metric.name for metric in known])


def find_metric(name: str, metrics: Mapping[str, Metric]) -> Metric | None:
    """The metric that `trainer.monitor.metric` names, ``NAME`` or ``NAME(CLASS)``; None where there is none."""
    base, _, of_class = name.partition("(")
    metric = metrics.get(base)
    if metric is None or not metric.monitored:
        return None
    if of_class:
        return metric if metric.per_class and of_class.endswith(")") else None
    return metric if metric.overall else None
