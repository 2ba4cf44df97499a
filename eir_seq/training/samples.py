"""Texts that language models write while they learn: samples.csv, at each evaluation."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.data.missing import Missing, rows_where
from eir_seq.files import open_text
from eir_seq.modalities.cells import parse_cell
from eir_seq.modalities.sequence.fitted import FittedSequence
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.generation.completion import completer
from eir_seq.outputs.generation.writing import RowWriter, build_writers
from eir_seq.randomness import Draw, derive_seed
from eir_seq.training.evaluation import Evaluation
from eir_seq.training.metrics_file import AppendedFile
from eir_seq.training.network import Network
from eir_seq.training.sample_arrays import write_sample_arrays

SAMPLES = "samples.csv"
NOTHING = "(no text)"
"""In place of an empty text where texts are shown."""
ROWS = 4
"""Of those that a model describes while it learns."""

if TYPE_CHECKING:
    from eir_seq.rows import Rows


class Sample(NamedTuple):
    """One line of samples.csv."""

    epoch: int
    """Counted from 1."""
    step: int
    """Optimizer steps done."""
    output: str
    prompt: str
    text: str
    """What the model wrote after the prompt, or from it."""
    true: str = ""
    """What it should have written, where that is known."""

    @property
    def shown(self) -> str:
        """Prompt and text, in readable form."""
        return f"{self.prompt}\n→ {self.text or NOTHING}\n= {self.true}" if self.true else f"{self.prompt}{self.text}"


class Samples:
    """Has the language models of an experiment complete their prompts, and keeps the texts in the run folder.

    Of sequence-to-sequence outputs it keeps some of the texts that are written at an evaluation.

    Where a model reads more than a text, such as pictures, it completes the first prompt for some rows of `splits`.
    The texts of a step depend on the weights, the seed and the step alone.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, FittedOutput],
        run_dir: Path,
        splits: Mapping[str, Rows],
    ) -> None:
        self.run_dir = run_dir
        self.validation = splits.get("validation")
        rows = splits["validation" if "validation" in splits else "train"]
        if (missing := Missing.of(config)) is not None:
            rows = rows_where(rows, np.logical_and.reduce(list(missing.present(rows.table).values())))
        self.rows = rows[:ROWS]
        self.seed, self.inputs, self.all_outputs = config.seed, inputs, outputs
        self.outputs = [output for output in outputs.values() if output.config.sample_prompts]
        writes = any(output.config.writes_texts for output in outputs.values())
        self.file = AppendedFile(run_dir / SAMPLES, Sample._fields) if self.outputs or writes else None

    def writers(self, network: Network) -> list[RowWriter]:
        """What has sequence-to-sequence outputs write texts for validation rows."""
        if self.validation is None:
            return []
        return build_writers(network, self.inputs, self.all_outputs, self.validation, seed=self.seed, all_rows=False)

    def write(self, network: Network, epoch: int, step: int, evaluation: Evaluation) -> list[Sample]:
        """One text per prompt of every language model, and some that were written in an evaluation, which the file
        gets, too. Arrays that were predicted of some rows go into files of their own."""
        write_sample_arrays(self.run_dir, str(step), self.all_outputs, evaluation)
        found = [
            Sample(epoch, step, writer.name, *shown)
            for writer in evaluation.written.values()
            for shown in writer.samples(ROWS)
        ]
        for output in self.outputs:
            complete = completer(output, self.inputs, network)
            prompts = shown = output.config.sample_prompts
            tensors = further_tensors(self.inputs[output.input], self.rows)
            if tensors:
                names = further_files(self.inputs[output.input], self.rows)
                prompts = prompts[:1] * len(names)
                shown = [f"[{name}] {prompt}" for name, prompt in zip(names, prompts, strict=True)]
            seed = derive_seed(self.seed, "samples", output.name, step)
            pairs = zip(shown, complete(prompts, seed=seed, tensors=tensors), strict=True)
            found += [Sample(epoch, step, output.name, prompt, text) for prompt, text in pairs]
        if self.file is not None:
            self.file.append(found)
        return found


def further_tensors(fitted: FittedSequence, rows: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """What the model reads besides the tokens of some rows, such as pictures."""
    names = [name for source in fitted.sources.values() if source.per_row for name in source.tensors]
    if not names:
        return {}
    encoded, count = EncodedInMemory(fitted, rows), len(rows[fitted.config.column])
    batch = fitted.collator(encoded, range(count), Draw(0))
    return {name: batch[name] for name in names}


def further_files(fitted: FittedSequence, rows: Mapping[str, Sequence[str]]) -> list[str]:
    """The name of the (first) file that holds it, row by row."""
    column = next(source.column for source in fitted.sources.values() if source.per_row)
    assert column is not None
    first = (parse_cell(cell)[0] for cell in rows[column])
    return [Path(name if isinstance(name, str) else name[0]).name for name in first]


def read_samples(run_dir: Path) -> list[Sample]:
    """All lines of a run's samples.csv; none if there is no such file."""
    path = run_dir / SAMPLES
    if not path.exists():
        return []
    with open_text(path) as file:
        rows = csv.DictReader(file)
        return [
            Sample(int(r["epoch"]), int(r["step"]), r["output"], r["prompt"], r["text"], r.get("true") or "")
            for r in rows
        ]
