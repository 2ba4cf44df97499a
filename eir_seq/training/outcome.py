"""What a run leaves of its best weights: the result, and by split predictions, latent states and attributions."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from eir_seq.config.metrics import AVERAGE
from eir_seq.config.schema import ExperimentConfig
from eir_seq.outputs.generation.source import BETWEEN
from eir_seq.outputs.predictions import write_predictions
from eir_seq.training.assemble import Parts
from eir_seq.training.attributions import Evaluated, interpretations_of, write_attributions
from eir_seq.training.console import Console
from eir_seq.training.evaluation import Evaluation
from eir_seq.training.latents import write_latents
from eir_seq.training.monitor import Monitor
from eir_seq.training.report_data import ReportData
from eir_seq.training.run_state import RunState
from eir_seq.training.sample_arrays import write_sample_arrays
from eir_seq.training.samples import read_samples


def result_of(
    config: ExperimentConfig,
    run_dir: Path,
    state: RunState,
    monitor: Monitor,
    evaluations: Mapping[str, Evaluation],
) -> dict[str, Any]:
    """What ``result.json`` of a finished run holds."""
    return {
        "status": "finished",
        "name": config.name,
        "run_dir": str(run_dir),
        "seed": config.seed,
        "steps": state.step,
        "epochs": state.epoch,
        "stopped_early": state.stopped_early,
        "best_step": state.best_step,
        "monitor": {**asdict(monitor), "value": state.best_value},
        **{
            metric: {split: found.values["", metric] for split, found in evaluations.items()}
            for metric in ("loss", AVERAGE)
            if all(("", metric) in found.values for found in evaluations.values())
        },
        **{split: found.by_output() for split, found in evaluations.items()},
    }


@dataclass(frozen=True)
class Outcome:
    """Evaluations of the best weights by split, and the run folder that gets what is made of them.

    Attributes:
        report: gets the examples that the report shows.
    """

    config: ExperimentConfig
    run_dir: Path
    parts: Parts
    evaluations: Mapping[str, Evaluation]
    report: ReportData
    device: torch.device
    console: Console

    def write(self) -> None:
        """Write all that the config wants."""
        self._write_predictions()
        self._write_latents()
        self._write_attributions()

    def _write_predictions(self) -> None:
        folder = self.run_dir / "predictions"
        folder.mkdir(exist_ok=True)
        for split, found in self.evaluations.items():
            rows = dict(self.parts.splits.items())[split]
            ids, limit = list(self.parts.data.encoded[split].ids), self.config.trainer.limit_of(split)
            assert found.ids == [ids[row] for row in found.rows], f"the evaluation of {split} mixed up rows"
            assert limit or len(ids) == len(found.ids), f"the evaluation of {split} did not see every row once"
            shown = {name: self.parts.shown(split, name) for name in self.parts.inputs}
            for name, output in self.parts.outputs.items():
                if name not in found.targets:
                    continue
                raw, places = found.of_labelled(name)
                if name in found.labelled:
                    self.report.labelled.setdefault(split, {})[name] = places
                self.report.add_worst(
                    split,
                    output,
                    raw,
                    found.targets[name],
                    [found.ids[place] for place in places],
                    inputs={
                        input_: [values[found.rows[place]] for place in places] for input_, values in shown.items()
                    },
                )
            write_sample_arrays(self.run_dir, split, self.parts.outputs, found)
            wanted = self.report.shown_inputs(split) | {
                part for sample in read_samples(self.run_dir) for part in sample.prompt.split(BETWEEN)
            }
            pictures = self.parts.thumbnails(split, shown, wanted)
            self.report.thumbnails |= {form: b64encode(x).decode("ascii") for form, x in pictures.items()}
            write_predictions(folder / f"{split}.csv", found.ids, found.columns(self.parts.outputs, rows))

    def _write_latents(self) -> None:
        if (latents := self.config.trainer.latents) is None:
            return
        network = self.parts.network.to(self.device)
        for split, found in self.evaluations.items():
            write_latents(
                network,
                latents,
                self.parts.batches(split),
                self.run_dir / "latents" / split,
                device=self.device,
                precision=str(self.config.trainer.precision),
                evaluation=found,
                colours=found.columns(self.parts.outputs, dict(self.parts.splits.items())[split]),
                seed=self.config.seed,
                place="trainer.latents",
            )
        network.to("cpu")

    def _write_attributions(self) -> None:
        if not (wanted := interpretations_of(self.config.inputs)):
            return
        rows = dict(self.parts.splits.items())
        evaluated = [
            Evaluated(split, rows[split], self.parts.data.encoded[split], found)
            for split, found in self.evaluations.items()
        ]
        write_attributions(
            self.run_dir,
            wanted,
            self.parts.network.to(self.device),
            self.parts.inputs,
            self.parts.outputs,
            evaluated,
            device=self.device,
            console=self.console,
        )
        self.parts.network.to("cpu")
