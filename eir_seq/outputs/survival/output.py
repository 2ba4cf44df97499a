"""Time until an event: Cox and discrete-time models, metrics weighted for censoring, predicted risk and survival.

With several events, each has its own hazards (cause-specific): the others censor it. The risk of one of several
competing `causes` is its cumulative incidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, UserError
from eir_seq.models.layers.dropout import Dropout
from eir_seq.outputs.base import FittedOutput, Output, TargetRows, ids_of
from eir_seq.outputs.scored import Scored
from eir_seq.outputs.survival.config import SurvivalOutputConfig
from eir_seq.outputs.survival.curves import Floats, Mask, Steps, breslow, kaplan_meier
from eir_seq.outputs.survival.likelihood import cox_terms, hazard_terms, interval_hazards, intervals
from eir_seq.outputs.survival.scores import (
    area_under_curves,
    brier_scores,
    concordance,
    integrated,
    inverse_probability,
)
from eir_seq.outputs.survival.targets import faulty_targets, read_targets

HELD = 2**22
"""Numbers of a temporary array."""
SHOWN_STEPS = 200
SCORES = ("c_index", "c_index_ipcw", "auc", "integrated_brier")


class EventState(Strict):
    """What is remembered of one event."""

    name: str
    count: int = Field(ge=1, description="training rows that had it")
    edges: list[float] = Field(description="upper ends of the intervals of a discrete model")
    hazards: list[float] = Field(description="hazard of each interval over the training rows")
    survival: Steps = Field(description="Kaplan-Meier curve of the training rows")
    censoring: Steps = Field(description="Kaplan-Meier curve of censoring in the training rows")
    grid: list[float] = Field(description="times at which metrics are computed")
    center: float = Field(0.0, description="mean log hazard of the training rows, a Cox model's")
    baseline: Steps | None = Field(None, description="cumulative hazard of a row with that log hazard")


class SurvivalState(Strict):
    """The state of a fitted survival output, fitted on the training rows."""

    type: Literal["survival"] = "survival"
    name: str
    config: SurvivalOutputConfig
    rows: int = Field(ge=1, description="training rows")
    events: list[EventState] = Field(min_length=1)
    times: list[float] = Field(min_length=1, description="times of which survival is predicted")
    horizon: float = Field(gt=0, description="time until which the risk is predicted")


class FittedSurvival(FittedOutput):
    """A survival output that knows its intervals and the censoring of the training rows.

    Targets are (rows, events, 2): time, and 1 for an event. Raw outputs are the log hazards (rows, events) of a Cox
    model, or the logits (rows, events * intervals) of the hazards of a discrete one.
    """

    config: SurvivalOutputConfig

    def __init__(self, state: SurvivalState) -> None:
        super().__init__(state)
        self.events, self.horizon, self.times = state.events, state.horizon, state.times
        self._is_cox = state.config.model == "cox"
        self._compete = state.config.causes is not None

    def same_state(self, other: FittedOutput) -> bool:
        """Whether the events and, of a discrete model, their intervals are the same."""
        if not isinstance(other, FittedSurvival) or other._is_cox is not self._is_cox:
            return False
        own, others = ([(event.name, event.edges) for event in fitted.events] for fitted in (self, other))
        return own == others

    @property
    def output_size(self) -> int:
        """One log hazard per event, or one hazard per event and interval."""
        return len(self.events) if self._is_cox else sum(len(event.edges) for event in self.events)

    def calibrated(self, raw: Tensor, target: Tensor) -> Self:
        """The output with the baseline hazards of the final model."""
        found = []
        for number, event in enumerate(self.events):
            log_hazard = raw[:, number].double().numpy()
            center = float(log_hazard.mean())
            baseline = breslow(log_hazard - center, *_of_event(target, number))
            found.append(event.model_copy(update={"center": center, "baseline": baseline}))
        return type(self)(self._state.model_copy(update={"events": found}))

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """NAME_time and NAME_event, with several events NAME_time(EVENT) and NAME_event(EVENT)."""
        target = self.targets(rows).double()
        found = {}
        for number, event in enumerate(self.events):
            suffix = f"({event.name})" if len(self.events) > 1 else ""
            found[f"{self.name}_time{suffix}"] = [float(shown(time)) for time in target[:, number, 0].tolist()]
            found[f"{self.name}_event{suffix}"] = target[:, number, 1].long().tolist()
        return found

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """Times and events, FloatTensor (rows, events, 2).

        Raises:
            UserError: a time is negative, or a value of the column of events is none.
        """
        return read_targets(self.config, self.name, rows, ids)

    def build_head(self, in_features: int) -> nn.Module:
        """Dropout and a linear layer; hazards of intervals start at those of the training rows."""
        # What all rows of a Cox model have in common is in its baseline.
        linear = nn.Linear(in_features, self.output_size, bias=not self._is_cox)
        if not self._is_cox:
            hazards = torch.tensor([hazard for event in self.events for hazard in event.hazards])
            with torch.no_grad():
                linear.bias.copy_(hazards.clamp(1e-4, 1 - 1e-4).logit())
        return nn.Sequential(Dropout(self.config.dropout), linear)

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """What each row adds to the negative log likelihood of all events, (batch, 1).

        A Cox model compares the rows of the call; rows without an event add nothing.
        """
        terms = []
        for number, (event, own) in enumerate(zip(self.events, self._by_event(raw.float()), strict=True)):
            time, happened = target[:, number, 0], target[:, number, 1] > 0
            if self._is_cox:
                terms.append(cox_terms(own.squeeze(1), time, happened))
            else:
                edges = torch.tensor(event.edges, device=time.device)
                terms.append(hazard_terms(own, *intervals(time.contiguous(), happened, edges)))
        return torch.stack(terms).sum(dim=0)[:, None]

    def loss_counts(self, inputs: Mapping[str, Mapping[str, Tensor]], target: Tensor) -> Tensor:
        """The events of each row in a Cox model, 1 per row in a discrete one, (batch, 1)."""
        del inputs
        return target[:, :, 1].sum(dim=1, keepdim=True) if self._is_cox else torch.ones(len(target), 1)

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss, c-indices, AUC and integrated Brier score; with several events their mean and those of each.

        The loss of a Cox model compares all rows, so that it grows with their number; it is absent without an event.
        """
        values: dict[str, float] = {}
        count = float(self.loss_counts({}, target).sum())
        if count:
            values["loss"] = float(self.loss_terms(raw, target).double().sum()) / count
        found = {event.name: self._scores(number, raw, target) for number, event in enumerate(self.events)}
        for metric in SCORES:
            known = {name: scores[metric] for name, scores in found.items() if metric in scores}
            if known:
                values[metric] = float(np.mean(list(known.values())))
            if len(found) > 1:
                values |= {f"{metric}({name})": value for name, value in known.items()}
        return values

    def undefined(self, target: Tensor) -> dict[str, str]:
        """Metrics of events that no row has."""
        found: dict[str, str] = {}
        happened = (target[:, :, 1] > 0).any(dim=0).tolist()
        rows = f"{len(target):,} rows" if len(target) > 1 else "one row"
        if not any(happened):
            lacking = (*SCORES, "loss") if self._is_cox else SCORES
            found = dict.fromkeys(lacking, f"none of the {rows} has an event")
        for event, there in zip(self.events, happened, strict=True):
            if len(self.events) > 1 and not there:
                reason = f"none of the {rows} has the event {event.name!r}"
                found |= {f"{metric}({event.name})": reason for metric in SCORES}
        return found

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """How far the risk at the horizon is from what happened until then, (rows,); 0 where that is not known."""
        if not self._is_calibrated:
            return torch.zeros(len(raw))
        risk = torch.from_numpy(self._risk(raw, np.array([self.horizon]))[:, :, 0])
        gone, event = target[:, :, 0] <= self.horizon, target[:, :, 1] > 0
        followed = event.any(dim=1, keepdim=True) if self._compete else event
        wrong = ((gone & event).double() - risk).abs()
        return torch.where(gone & ~followed, 0.0, wrong).amax(dim=1)

    def scored(self) -> Scored:
        """The log hazard of each event; of a discrete model the log of the hazard summed up to its last interval."""
        what = "log hazard" if self._is_cox else "log cumulative hazard"
        return Scored([event.name for event in self.events], self._log_hazards, what)

    def _log_hazards(self, raw: Tensor, events: Sequence[int]) -> Tensor:
        own = self._by_event(raw.float())
        found = [own[index] if self._is_cox else functional.softplus(own[index]) for index in events]
        return torch.cat([x if self._is_cox else x.sum(dim=1, keepdim=True).log() for x in found], dim=1)

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """NAME, the risk at the horizon, NAME_survival(TIME), and of a Cox model NAME_log_hazard.

        With several events NAME is the one with the highest risk at the horizon, and NAME_risk(EVENT, TIME) are given.
        Risk and survival are empty before `calibrated`.
        """
        raw, count = raw.detach().cpu(), len(raw)
        wanted = np.unique([*self.times, self.horizon])
        columns: dict[str, list[Any]] = {self.name: [""] * count}
        risk = self._risk(raw, wanted) if self._is_calibrated else None
        at_horizon = None if risk is None else risk[:, :, np.searchsorted(wanted, self.horizon)]
        several = len(self.events) > 1
        if at_horizon is not None and several:
            columns[self.name] = [self.events[number].name for number in at_horizon.argmax(axis=1).tolist()]
        elif at_horizon is not None:
            columns[self.name] = at_horizon[:, 0].tolist()
        for number, event in enumerate(self.events):
            for place, time in enumerate(wanted.tolist()):
                if not several and time not in self.times:
                    continue
                key = f"risk({event.name}, {shown(time)})" if several else f"survival({shown(time)})"
                value = None if risk is None else risk[:, number, place] if several else 1 - risk[:, number, place]
                columns[f"{self.name}_{key}"] = [""] * count if value is None else value.tolist()
            if self._is_cox:
                suffix = f"({event.name})" if several else ""
                columns[f"{self.name}_log_hazard{suffix}"] = (raw[:, number].double() - event.center).tolist()
        return columns

    def describe(self) -> dict[str, Any]:
        """Events of the training rows, the times, and the Kaplan-Meier curves of the training rows."""
        found: dict[str, Any] = {
            "type": "survival",
            "model": self.config.model,
            "rows": self._state.rows,
            "events": {event.name: event.count for event in self.events},
            "competing": self._compete,
            "horizon": self.horizon,
            "times": self.times,
            "training": {event.name: event.survival.subsampled(SHOWN_STEPS).model_dump() for event in self.events},
        }
        return found

    @property
    def parts(self) -> list[str]:
        """The names of several events."""
        return [event.name for event in self.events] if len(self.events) > 1 else []

    @property
    def _is_calibrated(self) -> bool:
        return not self._is_cox or all(event.baseline is not None for event in self.events)

    def _by_event(self, raw: Tensor) -> list[Tensor]:
        """Raw outputs of each event, (rows, 1 or intervals)."""
        return list(torch.split(raw, [1 if self._is_cox else len(event.edges) for event in self.events], dim=1))

    def _hazard(self, raw: Tensor, times: Floats) -> Floats:
        """Cumulative hazard of each event at some times, (rows, events, times), constant after the last one known."""
        found = []
        for event, own in zip(self.events, self._by_event(raw.double()), strict=True):
            if self._is_cox:
                assert event.baseline is not None
                with np.errstate(divide="ignore"):
                    baseline = np.log(event.baseline(times))
                found.append(np.exp(np.minimum(own.numpy() - event.center + baseline, 700)))
                continue
            # within an interval the hazard is constant
            edges = np.array(event.edges)
            starts = np.concatenate([[0.0], edges[:-1]])
            passed = np.clip((times - starts[:, None]) / (edges - starts)[:, None], 0, 1)
            found.append(functional.softplus(own).numpy() @ passed)
        return np.stack(found, axis=1)

    def _risk(self, raw: Tensor, times: Floats) -> Floats:
        """Probability of each event until some times, (rows, events, times)."""
        if not self._compete:
            return -np.expm1(-self._hazard(raw, times))
        steps = (event.baseline.times if event.baseline is not None else event.edges for event in self.events)
        nodes = np.unique(np.concatenate([times, *map(np.array, steps)]))
        chunk = max(1, HELD // (len(nodes) * len(self.events)))
        return np.concatenate([self._incidence(part, nodes, times) for part in torch.split(raw, chunk)])

    def _incidence(self, raw: Tensor, nodes: Floats, times: Floats) -> Floats:
        """Cumulative incidence of competing events: of those without an event before, who have this one."""
        steps = np.diff(self._hazard(raw, nodes), axis=2, prepend=0.0)
        total = steps.sum(axis=1, keepdims=True)
        before = np.exp(-np.cumsum(total, axis=2) + total)
        share = np.divide(steps, total, out=np.zeros_like(steps), where=total > 0)
        return np.cumsum(before * -np.expm1(-total) * share, axis=2)[:, :, np.searchsorted(nodes, times)]

    def _scores(self, number: int, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Metrics of one event; empty where no row has it."""
        event, (time, happened) = self.events[number], _of_event(target, number)
        if not happened.any():
            return {}
        if self._is_cox:
            score = raw[:, number].double().numpy()
        else:  # a hazard tells rows apart whose risk is nearly 1
            score = self._hazard(raw, np.array([self.horizon]))[:, number, 0]
        weight = inverse_probability(event.censoring, time)
        grid = np.array(event.grid)
        grid = grid[(grid >= time[happened].min()) & (grid < time.max())]
        found = {
            "c_index": concordance(score, time, happened),
            "c_index_ipcw": concordance(score, time, happened, weight),
        }
        if len(grid):
            scores = (
                np.repeat(score[:, None], len(grid), axis=1) if self._is_cox else self._hazard(raw, grid)[:, number]
            )
            found["auc"] = area_under_curves(scores, time, happened, grid, weight)[1]
        if len(grid) and self._is_calibrated:
            followed = (target[:, :, 1] > 0).any(dim=1).numpy() if self._compete else happened
            risk = self._risk(raw, grid)[:, number]
            brier = brier_scores(risk, time, happened, followed, grid, event.censoring)
            found["integrated_brier"] = integrated(brier, grid)
        return {metric: value for metric, value in found.items() if value is not None}


def shown(time: float) -> str:
    """A time as columns name it, in the digits that single precision has."""
    return np.format_float_positional(np.float32(time), trim="-")


def _of_event(target: Tensor, number: int) -> tuple[Floats, Mask]:
    """Times and events of one event, (rows,)."""
    return target[:, number, 0].double().numpy(), (target[:, number, 1] > 0).numpy()


class Survival(Output):
    """A survival output as declared; `fit` learns intervals, times and the distribution of censoring."""

    STATE = SurvivalState
    FITTED = FittedSurvival
    config: SurvivalOutputConfig

    @property
    def checked_columns(self) -> tuple[str, ...]:
        """Times and events."""
        return tuple(self.config.columns())

    def faulty_rows(self, rows: TargetRows) -> Iterator[tuple[int, str]]:
        """Rows with a negative time, or an event that is none."""
        yield from faulty_targets(self.config, rows)

    def fit(self, train_rows: TargetRows) -> FittedSurvival:
        """Events, their times, and censoring of the training rows.

        Raises:
            UserError: a value cannot be used, an event does not occur, or a time is beyond all training rows.
        """
        config, place = self.config, f"outputs.{self.name}"
        target = read_targets(config, self.name, train_rows, ids_of(train_rows))
        faults = []
        for number, ((_, column), name) in enumerate(zip(config.pairs * len(config.names), config.names, strict=False)):
            time, happened = _of_event(target, number)
            if not happened.any():
                what = f"{name!r} in column {column!r}" if config.causes else f"column {column!r}"
                faults.append(Fault(f"{place}.event", f"{what} has no event in the {len(time):,} training rows"))
            elif not time[happened].any():
                faults.append(Fault(f"{place}.time", f"all events of {name!r} are at time 0"))
        last = float(target[:, :, 0].max()) if len(target) else 0.0
        for key, given in (("times", config.times or []), ("horizon", [config.horizon] if config.horizon else [])):
            if beyond := [time for time in given if np.float32(time) > last]:
                what = f"{shown(beyond[0])} is beyond the last time of the training rows, {shown(last)}"
                faults.append(Fault(f"{place}.{key}", f"{what}; survival there is unknown"))
        if faults:
            raise UserError(*faults)
        known = target[target[:, :, 1] > 0][:, 0].double().numpy()
        known = known[known > 0]
        times = np.array(config.times or _quantiles(known, np.linspace(0.1, 0.9, 9)), np.float32)
        horizon = np.float32(config.horizon or _quantiles(known, np.array([0.5]))[0])
        state = SurvivalState(
            name=self.name,
            config=config,
            rows=len(target),
            events=[self._event(number, target) for number in range(len(config.names))],
            times=np.unique(times).tolist(),
            horizon=float(horizon),
        )
        return FittedSurvival(state)

    def _event(self, number: int, target: Tensor) -> EventState:
        config, (time, happened) = self.config, _of_event(target, number)
        followed = (target[:, :, 1] > 0).any(dim=1).numpy() if config.causes else happened
        censoring, known = kaplan_meier(time, followed, censoring=True), time[happened & (time > 0)]
        shares = np.linspace(0, 1, config.bins + 1)[1:]
        edges = _quantiles(known, shares) if config.model == "discrete" else []
        hazards = interval_hazards(target[:, number, 0].contiguous(), target[:, number, 1] > 0, torch.tensor(edges))
        grid = np.array(_quantiles(known, np.linspace(0.05, 0.9, 35)))
        return EventState(
            name=config.names[number],
            count=int(happened.sum()),
            edges=edges,
            hazards=hazards.tolist(),
            survival=kaplan_meier(time, happened),
            censoring=censoring,
            grid=grid[censoring(grid) > 0].tolist(),
        )


def _quantiles(values: Floats, shares: Floats) -> list[float]:
    """Distinct quantiles, each of which is one of the values."""
    found: list[float] = np.unique(np.quantile(values, shares, method="inverted_cdf")).tolist()
    return found
