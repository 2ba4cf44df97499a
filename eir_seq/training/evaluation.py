"""Evaluate a network on all rows of a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from eir_seq.errors import RunFailed
from eir_seq.outputs.base import FittedOutput, KeptRows, measure
from eir_seq.outputs.generation.writing import Writer
from eir_seq.training.network import Network

if TYPE_CHECKING:
    from eir_seq.rows import Rows as SplitRows

Batch = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, its rows in the order of the split."""

    ids: list[str]
    raw: dict[str, Tensor]
    """Raw outputs by output name, (rows, width), on the CPU."""
    targets: dict[str, Tensor]
    """Targets by output name, (labelled rows,), on the CPU; only of outputs whose rows have labels."""
    values: dict[tuple[str, str], float]
    """(output, metric) to value, of outputs with targets; ``("", "loss")`` is the weighted sum of all losses."""
    written: dict[str, Writer] = field(default_factory=dict)
    """Texts that outputs wrote, by output name."""
    labelled: dict[str, list[int]] = field(default_factory=dict)
    """By output name the rows that have a label, in order; of outputs for which some rows have none."""
    unread: dict[str, list[int]] = field(default_factory=dict)
    """By output name the rows that lack the input whose tokens it reads: they have no prediction."""

    def columns(self, outputs: Mapping[str, FittedOutput], rows: SplitRows) -> dict[str, dict[str, list[Any]]]:
        """The columns of the table of predictions by output: the true values, where `rows` have them, then its own.

        Cells are empty where a row has no true value, or no prediction.
        """
        return {name: self._truth(output, rows) | self._predicted(output) for name, output in outputs.items()}

    def of_labelled(self, name: str) -> tuple[Tensor, list[int]]:
        """The raw outputs of the rows that have a label, (labelled rows, width), and these rows."""
        places = self.labelled.get(name)
        return (self.raw[name], [*range(len(self.ids))]) if places is None else (self.raw[name][places], places)

    def _truth(self, output: FittedOutput, rows: SplitRows) -> dict[str, list[Any]]:
        if output.name not in self.targets:
            return {}
        if (places := self.labelled.get(output.name)) is None:
            return output.truth(rows)
        found = {}
        for column, values in output.truth(rows.select(places)).items():
            found[column] = [""] * len(self.ids)
            for place, value in zip(places, values, strict=True):
                found[column][place] = value
        return found

    def _predicted(self, output: FittedOutput) -> dict[str, list[Any]]:
        name = output.name
        columns = self.written[name].columns() if name in self.written else output.decode(self.raw[name])
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
    writers: Sequence[Writer] = (),
) -> Evaluation:
    """Run `network` over all batches without learning and measure every output.

    Args:
        network: the network; put into evaluation mode for the while, its own modes restored afterwards.
        outputs: the fitted outputs by name.
        batches: the batches of a split, each row once. An output without targets is predicted and not measured.
        device: where the network is.
        precision: the trainer's precision; the forward pass runs as it does in training.
        between: called after each batch; may raise to leave early.
        writers: have outputs write texts for rows, which are measured, too.

    Raises:
        RunFailed: a raw output or a loss is not finite.
    """
    kept: dict[str, KeptRows] = {name: KeptRows() for name in outputs}
    labels: dict[str, KeptRows] = {}
    labelled: dict[str, list[Tensor]] = {}
    unread: dict[str, list[int]] = {}
    seen: list[Tensor] = []
    ids: list[str] = []
    with evaluation_mode(network), torch.inference_mode(), autocast(device, precision):
        for batch in batches:
            on_device = to_device(batch, device)
            here = batch["row"]
            present = batch.get("present", {})
            for name, raw in network(on_device["inputs"], on_device.get("present", {})).items():
                kept[name].add(raw.float(), here)
                read = network.token_inputs.get(name)
                if read in present:
                    unread.setdefault(name, []).extend(here[~present[read]].tolist())
                if name not in batch["targets"]:
                    continue
                target, of = batch["targets"][name], here
                if (places := batch.get("labelled", {}).get(name)) is not None:
                    target, of = target[places], here[places]
                    labelled.setdefault(name, []).append(of)
                labels.setdefault(name, KeptRows()).add(target, of)
            for writer in writers:
                writer.write(here.tolist(), on_device["inputs"][writer.input])
            seen.append(here)
            ids += batch["id"]
            between()
    rows = torch.cat(seen) if seen else torch.empty(0, dtype=torch.long)
    order, places = _ordered(rows)
    raws = {name: found.take(places) for name, found in kept.items() if seen}
    known = {name: torch.cat(found) for name, found in labelled.items()}
    targets = {
        name: found.take(places if name not in known else _ordered(known[name])[1]) for name, found in labels.items()
    }
    some = {name: places[found.sort().values] for name, found in known.items()}
    values = {
        (name, metric): value
        for name, target in targets.items()
        for metric, value in measure(
            outputs[name], raws[name] if name not in some else raws[name][some[name]], target
        ).items()
    }
    values |= {(writer.name, metric): value for writer in writers for metric, value in writer.metrics().items()}
    if all((name, "loss") in values for name in outputs):
        values["", "loss"] = sum(output.config.loss_weight * values[name, "loss"] for name, output in outputs.items())
        if not math.isfinite(values["", "loss"]):
            raise RunFailed("the loss of the evaluation is not finite")
    return Evaluation(
        ids=[ids[index] for index in order.tolist()],
        raw=raws,
        targets=targets,
        values=values,
        written={writer.name: writer for writer in writers},
        labelled={name: found.tolist() for name, found in some.items()},
        unread={name: places[torch.tensor(found, dtype=torch.long)].tolist() for name, found in unread.items()},
    )


def _ordered(rows: Tensor) -> tuple[Tensor, Tensor]:
    """What sorts rows by their positions in the split, and by position the place of each row among them."""
    order = rows.argsort()
    places = torch.empty(int(rows.max()) + 1 if len(rows) else 0, dtype=torch.long)
    places[rows[order]] = torch.arange(len(rows))
    return order, places


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context in which the trainer computes forward passes under `precision`."""
    if precision == "32":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


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
