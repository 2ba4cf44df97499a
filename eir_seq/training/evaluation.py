"""Evaluate a network on all rows of a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from eir_seq.config.metrics import AVERAGE
from eir_seq.errors import RunFailed
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.generation.writing import RowWriter
from eir_seq.outputs.kept import KeptPositions, KeptRows, KeptTexts
from eir_seq.outputs.measure import measure
from eir_seq.rows import Picked
from eir_seq.spool import Packed
from eir_seq.training.network import Network
from eir_seq.training.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from eir_seq.rows import Rows as SplitRows

Batch = dict[str, Any]
ROWS_AT_ONCE = 8192
"""Rows whose ids, or whose predictions, are Python objects at once."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, its rows in the order of the split."""

    ids: Sequence[str]
    raw: dict[str, Tensor]
    """Raw outputs by output name, (rows, width), on the CPU."""
    targets: dict[str, Tensor]
    """Targets by output name, (labelled rows,), on the CPU; only of outputs whose rows have labels."""
    rows: Sequence[int]
    """Their positions in the split."""
    values: dict[tuple[str, str], float]
    """(output, metric) to value, of outputs with targets; ``("", "loss")`` is the weighted sum of all losses, and
    ``("", "average")`` the mean of what outputs declare as `OutputBase.AVERAGED`."""
    written: dict[str, RowWriter] = field(default_factory=dict)
    """Texts that outputs wrote, by output name."""
    labelled: dict[str, list[int]] = field(default_factory=dict)
    """By output name the rows that have a label, in order; of outputs for which some rows have none."""
    unread: dict[str, list[int]] = field(default_factory=dict)
    """By output name the rows that lack the input whose tokens it reads: they have no prediction."""

    def columns(self, outputs: Mapping[str, FittedOutput], rows: SplitRows) -> dict[str, dict[str, Sequence[Any]]]:
        """The columns of the table of predictions by output: the true values, where `rows` have them, then its own.

        Cells are empty where a row has no true value, or no prediction.
        """
        return {name: self._columns(output, rows) for name, output in outputs.items()}

    def _columns(self, output: FittedOutput, rows: SplitRows) -> dict[str, Sequence[Any]]:
        """The columns of an output; packed, and where it can be done made of a part of the rows at a time."""
        name, found = output.name, dict[str, Packed]()
        apart = output.BY_ROW and not any(name in other for other in (self.written, self.labelled, self.unread))
        size = ROWS_AT_ONCE if apart else max(1, len(self.ids))
        for start in range(0, max(1, len(self.ids)), size):
            part = self if start == 0 and size >= len(self.ids) else self._part(name, start, start + size)
            for column, values in (part._truth(output, rows) | part._predicted(output, rows)).items():
                found.setdefault(column, Packed()).extend(values)
        return {column: packed.values() for column, packed in found.items()}

    def _part(self, name: str, start: int, stop: int) -> Evaluation:
        """An output's raw outputs and targets of some of the rows."""
        chosen = slice(start, stop)
        targets = {name: self.targets[name][chosen]} if name in self.targets else {}
        ids: Sequence[str] = Picked(self.ids, range(len(self.ids))[chosen])
        return Evaluation(ids, {name: self.raw[name][chosen]}, targets, self.rows[chosen], {})

    def of_labelled(self, name: str) -> tuple[Tensor, Sequence[int]]:
        """The raw outputs of the rows that have a label, (labelled rows, width), and these rows."""
        places = self.labelled.get(name)
        return (self.raw[name], range(len(self.ids))) if places is None else (self.raw[name][places], places)

    def _truth(self, output: FittedOutput, rows: SplitRows) -> dict[str, list[Any]]:
        if output.name not in self.targets:
            return {}
        if (places := self.labelled.get(output.name)) is None:
            return output.truth(rows.select(self.rows))
        found = {}
        for column, values in output.truth(rows.select([self.rows[place] for place in places])).items():
            found[column] = [""] * len(self.ids)
            for place, value in zip(places, values, strict=True):
                found[column][place] = value
        return found

    def _predicted(self, output: FittedOutput, rows: SplitRows) -> dict[str, list[Any]]:
        """The columns of an output's predictions; empty where a row has none."""
        name = output.name
        if (writer := self.written.get(name)) is None:
            columns = output.decode_rows(self.raw[name], lambda: rows.select(self.rows))
        else:
            columns = {column: [values[row] for row in self.rows] for column, values in writer.columns().items()}
            columns |= output.decode_beside(self.raw[name])
        for values in columns.values():
            for row in self.unread.get(name, ()):
                values[row] = ""
        return columns

    def by_output(self) -> dict[str, dict[str, float]]:
        """The values as ``{output: {metric: value}}``, without the sum of losses."""
        nested: dict[str, dict[str, float]] = {}
        for (output, metric), value in self.values.items():
            if output:
                nested.setdefault(output, {})[metric] = value
        return nested


def evaluate(
    network: Network,
    outputs: Mapping[str, FittedOutput],
    batches: Iterable[Batch],
    *,
    device: torch.device,
    precision: str = "32",
    between: Callable[[], None] = lambda: None,
    writers: Sequence[RowWriter] = (),
    average: bool = False,
    metrics: bool = True,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Run `network` over all batches without learning and measure every output.

    Args:
        network: the network; put into evaluation mode, and its modes restored afterwards.
        outputs: the fitted outputs by name; others that the network has are left out.
        batches: the batches of a split, each row once. An output without targets is predicted and not measured.
        device: where the network is.
        precision: the trainer's precision; the forward pass runs as it does in training.
        between: called after each batch; may raise to leave early.
        writers: have outputs write texts for rows, which are measured, too.
        average: give the average over outputs also where there is one output alone.
        metrics: without them nothing is measured.
        ranks: the processes that share the batches. All of them get the values, and rank 0 all else.

    Raises:
        RunFailed: a raw output or a loss is not finite.
    """
    gathered = Gathered(outputs, writers, average=average)
    further = 0
    if ranks.several:  # `between` may communicate: all processes call it as often as the one with most batches
        assert isinstance(batches, Sized)
        further = ranks.maximum(len(batches)) - len(batches)
    with evaluation_mode(network), torch.inference_mode(), autocast(device, precision):
        for batch in batches:
            on_device = to_device(batch, device)
            raw = network.run(on_device)
            gathered.add(batch, {name: raw[name] for name in outputs}, network.token_inputs)
            for writer in writers:
                writer.write(batch["row"].tolist(), on_device)
            between()
    for _ in range(further):
        between()
    if not ranks.several:
        return gathered.measured(metrics=metrics)
    return _measured_of_all(gathered, ranks, metrics=metrics)


def _measured_of_all(gathered: Gathered, ranks: Ranks, *, metrics: bool) -> Evaluation:
    """The evaluation of the rows of all processes, in rank 0; in the others its values alone."""
    parts = ranks.gather(*gathered.take())
    if not ranks.is_first:
        received = ranks.broadcast()
        if "failed" in received:
            raise RunFailed(received["failed"])
        values = {(output, metric): value for output, metric, value in received["values"]}
        return Evaluation([], {}, {}, [], values, {writer.name: writer for writer in gathered.writers})
    for part in parts:
        gathered.give(*part)
    try:
        found = gathered.measured(metrics=metrics)
    except RunFailed as error:
        ranks.broadcast({"failed": str(error)})
        raise
    ranks.broadcast({"values": [[*key, value] for key, value in found.values.items()]})
    return found


def calibrate(outputs: Mapping[str, FittedOutput], found: Evaluation) -> tuple[dict[str, FittedOutput], Evaluation]:
    """The outputs that are calibrated on an evaluation of the validation rows, and its values with these."""
    resolved, values = {}, dict(found.values)
    for name, output in outputs.items():
        if output.config.calibrated_by is None or name not in found.targets:
            continue
        raw, target = found.of_labelled(name)[0], found.targets[name]
        resolved[name] = output.calibrated(raw, target)
        values = {key: value for key, value in values.items() if key[0] != name}
        values |= {(name, metric): value for metric, value in measure(resolved[name], raw, target).items()}
    return resolved, replace(found, values=values)


class Gathered:
    """Raw outputs and targets of an evaluation, batch by batch, on the CPU.

    Args:
        outputs: the fitted outputs by name. One without targets is predicted and not measured.
        writers: what writes texts for the same rows, which are measured, too.
        average: give the average over outputs also where there is one output alone.
    """

    def __init__(
        self, outputs: Mapping[str, FittedOutput], writers: Sequence[RowWriter] = (), *, average: bool = False
    ) -> None:
        self.outputs, self.writers = outputs, writers
        self._averages = average or len(outputs) > 1
        self._raw = {name: KeptRows() for name in outputs}
        self._targets: dict[str, KeptRows] = {}
        self._labelled: dict[str, KeptPositions] = {}
        self._unread: dict[str, list[int]] = {}
        self._rows, self._ids = KeptPositions(), KeptTexts()

    def add(self, batch: Batch, raw: Mapping[str, Tensor], token_inputs: Mapping[str, str]) -> None:
        """Keep the raw outputs (batch, ...) of a batch, and its targets.

        Args:
            batch: the batch.
            raw: by output.
            token_inputs: the input whose tokens an output reads, of outputs that read tokens.
        """
        here, present = batch["row"].cpu(), batch.get("present", {})
        for name, values in raw.items():
            self._raw[name].add(values.float(), here)
            read = token_inputs.get(name)
            if read in present:
                self._unread.setdefault(name, []).extend(here[~present[read].cpu()].tolist())
            if name not in batch["targets"]:
                continue
            target, of = batch["targets"][name], here
            if (places := batch.get("labelled", {}).get(name)) is not None:
                target, of = target[places], here[places.cpu()]
                self._labelled.setdefault(name, KeptPositions()).add(of)
            self._targets.setdefault(name, KeptRows()).add(target, of)
        self._rows.add(here)
        self._ids.add(batch["id"], here)

    def take(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What is kept, as tensors and a JSON value for `give`; it is forgotten."""
        tensors: dict[str, Tensor] = {}
        sizes: dict[str, int] = {}
        states: list[Any] = []
        for group, kept in (("raw", self._raw), ("target", self._targets)):
            for name, rows in kept.items():
                parts = rows.pop_all()
                sizes[f"{group}/{name}"] = len(parts)
                for index, pair in enumerate(parts):
                    for what, x in zip(("part", "rows"), pair, strict=True):
                        tensors[f"{group}/{name}/{index}/{what}"] = x
        tensors |= {f"labelled/{name}": positions.pop_all() for name, positions in self._labelled.items()}
        tensors["rows"] = self._rows.pop_all()
        for writer in self.writers:
            written, state = writer.take()
            tensors |= {f"written/{writer.name}/{key}": x for key, x in written.items()}
            states.append(state)
        about = {"ids": self._ids.pop_all(), "unread": self._unread, "sizes": sizes, "written": states}
        self._targets, self._labelled, self._unread = {}, {}, {}
        return tensors, about

    def give(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Add what another process has kept, see `take`."""
        for place, count in about["sizes"].items():
            group, _, name = place.partition("/")
            kept = self._raw[name] if group == "raw" else self._targets.setdefault(name, KeptRows())
            for index in range(count):
                kept.add(tensors[f"{place}/{index}/part"], tensors[f"{place}/{index}/rows"])
        for key, x in tensors.items():
            if key.startswith("labelled/"):
                self._labelled.setdefault(key.removeprefix("labelled/"), KeptPositions()).add(x)
        for name, rows in about["unread"].items():
            self._unread.setdefault(name, []).extend(rows)
        for writer, state in zip(self.writers, about["written"], strict=True):
            start = f"written/{writer.name}/"
            writer.give({key.removeprefix(start): x for key, x in tensors.items() if key.startswith(start)}, state)
        self._rows.add(tensors["rows"])
        self._ids.add(about["ids"], tensors["rows"])

    def measured(self, *, metrics: bool = True) -> Evaluation:
        """The evaluation of all rows so far, which are forgotten; without `metrics` it has no values.

        Raises:
            RunFailed: a raw output or a loss is not finite.
        """
        any_row = self._rows.filled
        places, rows = self._rows.take()
        raws = {name: found.take(places) for name, found in self._raw.items() if any_row}
        known = {name: positions.take() for name, positions in self._labelled.items()}
        targets = {
            name: found.take(known[name][0] if name in known else places) for name, found in self._targets.items()
        }
        labelled = {name: places[torch.tensor(some, dtype=torch.long)] for name, (_, some) in known.items()}
        outputs, writers = self.outputs, self.writers
        values = {
            (name, metric): value
            for name, target in (targets.items() if metrics else ())
            for metric, value in measure(
                outputs[name], raws[name][labelled[name]] if name in labelled else raws[name], target
            ).items()
        }
        values |= {(writer.name, metric): value for writer in writers for metric, value in writer.metrics().items()}
        if metrics and all((name, "loss") in values for name in outputs):
            weighted = (output.config.loss_weight * values[name, "loss"] for name, output in outputs.items())
            values["", "loss"] = sum(weighted)
            if not math.isfinite(values["", "loss"]):
                raise RunFailed("the loss of the evaluation is not finite")
        if self._averages and (average := average_of(outputs, values)) is not None:
            values["", AVERAGE] = average
        return Evaluation(
            ids=self._ids.take(places),
            rows=rows,
            raw=raws,
            targets=targets,
            values=values,
            written={writer.name: writer for writer in writers},
            labelled={name: found.tolist() for name, found in labelled.items()},
            unread={
                name: places[torch.tensor(found, dtype=torch.long)].tolist() for name, found in self._unread.items()
            },
        )


def average_of(outputs: Mapping[str, FittedOutput], values: Mapping[tuple[str, str], float]) -> float | None:
    """The mean over outputs of the mean of their metrics `OutputBase.AVERAGED`; None where one of these is undefined.

    A metric that is to be small, such as a loss, counts as one minus its value.
    """
    means = []
    for name, output in outputs.items():
        parts = []
        for metric in output.config.AVERAGED:
            if (value := values.get((name, metric))) is None:
                return None
            parts.append(value if output.config.metrics()[metric].better == "max" else 1 - value)
        means.append(math.fsum(parts) / len(parts))
    return math.fsum(means) / len(means)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context in which the trainer computes forward passes under `precision`."""
    if precision in ("32", "tf32"):
        return products_in(precision)
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Under ``tf32`` a GPU rounds the factors of float32 products to TensorFloat-32, whose mantissa has 10 bits."""
    before = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; parts that are in it already (frozen ones) stay in it."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def to_device(value: Any, device: torch.device) -> Any:
    """The same tree with its tensors on `device`."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    return value
