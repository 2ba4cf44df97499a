"""Explain rows of an evaluation: what each token of an input adds to what outputs predict of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eir_seq.config.explanations import ExplanationBase
from eir_seq.config.inputs import InputBase
from eir_seq.data.dataset import BatchKey, EncodedSplit
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.explanations.method import Explained, Method, Scores
from eir_seq.explanations.records import RECORDS, TABLE, Attribution, Token, columns, dumped
from eir_seq.explanations.rows import MOST_ROWS, drawn_rows, targets_of
from eir_seq.explanations.varied import VariedInput, varied
from eir_seq.modalities.attributable import Attributable
from eir_seq.modalities.base import FittedModality
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.predictions import write_predictions
from eir_seq.outputs.scored import Scored
from eir_seq.randomness import Draw
from eir_seq.registry import imported
from eir_seq.rows import Rows
from eir_seq.training.console import Console
from eir_seq.training.evaluation import Evaluation, evaluation_mode, to_device
from eir_seq.training.folder import write_text
from eir_seq.training.network import Network

Interpretations = Mapping[str, ExplanationBase]
"""By input how it is explained."""
LARGE_GAP = 0.1
"""Share of all absolute attributions of a score from which on their error is mentioned."""


@dataclass(frozen=True)
class Evaluated:
    """Rows that were evaluated.

    Attributes:
        split: their name.
        rows: their columns.
        encoded: what batches are made of.
        found: the evaluation.
    """

    split: str
    rows: Rows
    encoded: EncodedSplit
    found: Evaluation


def interpretations_of(inputs: Mapping[str, InputBase]) -> dict[str, ExplanationBase]:
    """The inputs of an experiment that are to be explained."""
    return {name: found for name, config in inputs.items() if (found := config.interpretation) is not None}


def check_interpretations(
    wanted: Interpretations,
    network: Network,
    inputs: Mapping[str, FittedModality],
    outputs: Mapping[str, FittedOutput],
    splits: Mapping[str, EncodedSplit],
    place: str = "inputs.{}.interpretation",
) -> None:
    """Raise `UserError` for inputs and rows that cannot be explained.

    Args:
        wanted: by input.
        network: which reads them.
        inputs: fitted.
        outputs: fitted.
        splits: the rows by split, the training rows among them.
        place: the config path of what is wanted of an input.
    """
    evaluated = {split: encoded for split, encoded in splits.items() if split != "train"}
    faults = []
    for name, config in wanted.items():
        here = place.format(name)
        if name not in inputs:
            faults.append(Fault(here, f"{name!r} is not an input{nearest(name, inputs)}"))
            continue
        if (reason := _unexplained(network, inputs[name], outputs)) is not None:
            faults.append(Fault(here, reason))
        if not evaluated:
            faults.append(Fault(here, "there are neither test nor validation rows that could be explained"))
        elif config.ids:
            faults += [Fault(f"{here}.ids", reason) for reason in _wrong_ids(name, config.ids, evaluated, splits)]
        elif config.rows is not None and config.rows > (most := len(evaluated[(split := _drawn_from(evaluated))])):
            faults.append(Fault(f"{here}.rows", f"{config.rows} is more than the {most} {split} rows"))
    if faults:
        raise UserError(*faults)


def _unexplained(network: Network, fitted: FittedModality, outputs: Mapping[str, FittedOutput]) -> str | None:
    """Why an input cannot be explained; None if it can."""
    for name, output in outputs.items():
        if output.config.corruption is not None and output.input == fitted.name:
            return f"its texts are corrupted for outputs.{name}, so that there is no text that could be explained"
    if fitted.attributable(network.encoder(fitted.name)) is None:
        kind, article = fitted.config.type, "an" if fitted.config.type[0] in "aeiou" else "a"
        texts = ", as it is read here," if fitted.config.HAS_TOKENS else ""
        return f"{article} {kind} input{texts} has no tokens whose vectors could be varied"
    if not any(output.scored() is not None for output in outputs.values()):
        types = ", ".join(sorted({output.config.type for output in outputs.values()}))
        return f"no output has a score that could be explained (there are: {types})"
    return None


def _wrong_ids(
    name: str, ids: Sequence[str], evaluated: Mapping[str, EncodedSplit], splits: Mapping[str, EncodedSplit]
) -> Iterator[str]:
    """Why rows that are named cannot be explained."""
    known = {
        row_id: name not in encoded.present or bool(encoded.present[name][row])
        for encoded in evaluated.values()
        for row, row_id in enumerate(encoded.ids)
    }
    unknown = [row_id for row_id in ids if row_id not in known]
    training = set(splits["train"].ids) if unknown and "train" in splits else set()
    for row_id in ids:
        if known.get(row_id):
            continue
        if row_id in known:
            yield f"row {row_id!r} lacks this input"
        elif row_id in training:
            yield f"{row_id!r} is a training row; rows of {' and '.join(evaluated)} are explained"
        else:
            yield f"there is no row {row_id!r} among those of {' and '.join(evaluated)}{nearest(row_id, known)}"


def _drawn_from(splits: Mapping[str, Any]) -> str:
    """The split whose rows are drawn."""
    return "test" if "test" in splits else next(iter(splits))


def most_gradients(wanted: Interpretations, outputs: Mapping[str, FittedOutput], rows: int) -> tuple[int, int]:
    """How many explanations of rows there are at most, and gradients for them, if `rows` can be drawn from."""
    explained, gradients = 0, 0
    for config in wanted.values():
        for output in outputs.values():
            if (scored := output.scored()) is None:
                continue
            classes = len(scored.names) if scored.predicted is not None else 1
            count = len(config.ids) or min(rows, config.per_class * classes, MOST_ROWS)
            explained, gradients = explained + count, gradients + count * config.baselines * config.most_gradients
    return explained, gradients


def explain(
    wanted: Interpretations,
    network: Network,
    inputs: Mapping[str, FittedModality],
    outputs: Mapping[str, FittedOutput],
    evaluated: Sequence[Evaluated],
    *,
    device: torch.device,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[Attribution]:
    """The attributions of rows, in single precision.

    Args:
        wanted: by input; see `check_interpretations`.
        network: on `device`.
        inputs: fitted.
        outputs: fitted, those with `FittedOutput.scored` are explained.
        evaluated: rows, of one or more splits.
        device: where the network is.
        progress: called with what is done, how much of it, and of how much.

    Raises:
        UserError: an input or a baseline that there is not.
    """
    by_split = {rows.split: rows for rows in evaluated}
    planned = [
        (name, rows, output, place)
        for name, config in wanted.items()
        for rows in (evaluated if config.ids else [by_split[_drawn_from(by_split)]])
        for output in outputs.values()
        if (scored := output.scored()) is not None
        for place in _chosen(config, name, rows, output.name, scored)
    ]
    found: list[Attribution] = []
    with evaluation_mode(network):
        for name, config in wanted.items():
            fitted = inputs[name]
            attributable = fitted.attributable(network.encoder(name))
            assert attributable is not None, "checked before"
            with varied(network, name, attributable) as source:
                row = _ExplainedInput(config, fitted, attributable, source, device)
                for of, rows, output, place in planned:
                    if of == name:
                        found += row.explained(rows, output, place)
                        progress("explaining", len(found), len(planned))
    return found


def _chosen(config: ExplanationBase, name: str, rows: Evaluated, output: str, scored: Scored) -> list[int]:
    """The places in an evaluation of the rows whose scores are explained."""
    places = range(len(rows.found.ids))
    present = rows.encoded.present.get(name)
    can = [present is None or bool(present[rows.found.rows[place]]) for place in places]
    for place in rows.found.unread.get(output, ()):
        can[place] = False
    if config.ids:
        ids = set(config.ids)
        return [place for place in places if can[place] and rows.found.ids[place] in ids]
    raw = rows.found.raw[output]
    return drawn_rows(config, scored, raw, _true(rows.found, output, scored), torch.tensor(can, dtype=torch.bool))


def _true(found: Evaluation, output: str, scored: Scored) -> Tensor | None:
    """The true classes of all rows, (rows, names), none where they are not known; None of numbers."""
    if scored.true is None or output not in found.targets:
        return None
    known = scored.true(found.targets[output])
    true = torch.zeros(len(found.ids), known.shape[1], dtype=torch.bool)
    true[found.of_labelled(output)[1]] = known
    return true


@dataclass(frozen=True)
class _ExplainedInput:
    """Explains rows of one input."""

    config: ExplanationBase
    fitted: FittedModality
    attributable: Attributable
    source: VariedInput
    device: torch.device

    def explained(self, rows: Evaluated, output: FittedOutput, place: int) -> list[Attribution]:
        """The scores of one row, by its place in the evaluation."""
        scored, name = output.scored(), self.fitted.name
        assert scored is not None
        number, raw = rows.found.rows[place], rows.found.raw[output.name][[place]]
        true = _true(rows.found, output.name, scored)
        roles = targets_of(scored, raw, None if true is None else true[[place]])
        cells = rows.rows.select([number]).select_columns(list(self.fitted.columns))[:]
        units = self.attributable.units(cells, number, Draw(rows.encoded.seed))
        batch = to_device(rows.encoded[BatchKey((number,))], self.device)
        given = self.source.vectors(batch)
        of = list(roles)
        scores = self.source.scores(batch, lambda found: scored.of(found[output.name], of))
        result = self._divided(scores, given, [unit.position for unit in units])
        values, ends = result.values.cpu().tolist(), zip(result.score.tolist(), result.baseline.tolist(), strict=True)
        return [
            Attribution(
                id=rows.found.ids[place],
                split=rows.split,
                input=name,
                output=output.name,
                what=scored.what,
                target=scored.names[target],
                role=role,
                score=score,
                baseline_score=baseline_score,
                tokens=[
                    Token(
                        position=unit.position,
                        column=unit.column,
                        text=unit.text,
                        start=unit.start,
                        end=unit.end,
                        value=own[unit.position],
                    )
                    for unit in units
                ],
            )
            for (target, role), own, (score, baseline_score) in zip(roles.items(), values, ends, strict=True)
        ]

    def _divided(self, scores: Scores, given: Tensor, varied: Sequence[int]) -> Explained:
        """The scores of a row divided among its positions, as the mean over all baselines."""
        method: Method = imported(self.config.IMPLEMENTATION)
        results = []
        for vector in self.attributable.baselines(self.config.baseline, self.config.baselines):
            baseline = given.clone()
            baseline[varied] = vector.to(given.dtype)
            results.append(method(self.config, scores, given, baseline))
        return Explained(
            torch.stack([result.values for result in results]).mean(dim=0),
            results[0].score,
            torch.stack([result.baseline for result in results]).mean(dim=0),
        )


def warnings_about(found: Sequence[Attribution]) -> list[str]:
    """Scores whose attributions do not sum up to what they should, by input."""
    warnings = []
    for name in dict.fromkeys(row.input for row in found):
        own = [row for row in found if row.input == name]
        wrong = [row for row in own if abs(row.gap) > LARGE_GAP * sum(abs(token.value) for token in row.tokens)]
        if wrong:
            what = f"the attributions of {len(wrong)} of {len(own)} scores miss their sum by more than {LARGE_GAP:.0%}"
            warnings.append(f"inputs.{name}.interpretation: {what}: the score jumps, or max_steps is too small")
    return warnings


def write_table(path: Path, found: Sequence[Attribution], *, csv_safe: bool = False) -> None:
    """Write the table of attributions; arguments and errors as of `write_predictions`."""
    table = columns(found)
    write_predictions(path, table.pop("id"), {"attributions": table}, csv_safe=csv_safe)


def write_attributions(
    run: Path,
    wanted: Interpretations,
    network: Network,
    inputs: Mapping[str, FittedModality],
    outputs: Mapping[str, FittedOutput],
    evaluated: Sequence[Evaluated],
    *,
    device: torch.device,
    console: Console,
) -> None:
    """Explain rows of a run, and write the table and what the report shows of it; see `explain`."""
    with console.phase("explaining rows") as said:
        found = explain(wanted, network, inputs, outputs, evaluated, device=device, progress=console.progress)
        said.append(f"{len(found):,} scores")
    for warning in warnings_about(found):
        console.say(f"warning: {warning}")
    write_table(run / TABLE, found)
    (run / RECORDS).parent.mkdir(exist_ok=True)
    write_text(run / RECORDS, dumped(found))
