"""The report of a run: one HTML page that needs nothing else, made from the files of the run folder."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import yaml

from eir_seq import __version__
from eir_seq.config.metrics import AVERAGE
from eir_seq.errors import Fault, UserError
from eir_seq.explanations.records import RECORDS, Attribution, loaded
from eir_seq.files import open_regular, read_text, reason
from eir_seq.inference.page import environment
from eir_seq.inference.prediction_table import PredictionTable, read_predictions
from eir_seq.inference.report_attributions import attribution_sections
from eir_seq.inference.report_network import network_picture
from eir_seq.inference.report_sections import Kind, Values, cards, learning_plots, length_plots, output_sections
from eir_seq.outputs.reporting.sections import ShownRows
from eir_seq.training.console import listed
from eir_seq.training.folder import write_text
from eir_seq.training.metrics_file import Measurement, read_metrics
from eir_seq.training.report_data import ReportData
from eir_seq.training.sample_arrays import read_sample_arrays
from eir_seq.training.samples import Sample, read_samples

SPLITS = ("validation", "test")
LOG_LINES, LOG_BYTES = 30, 1 << 16


@dataclass(frozen=True)
class RunFiles:
    """What the run folder holds; whatever a run did not come to write is empty."""

    folder: Path
    config: str
    manifest: dict[str, Any]
    result: dict[str, Any]
    measurements: list[Measurement]
    predictions: dict[str, PredictionTable]
    data: ReportData
    samples: list[Sample]
    arrays: dict[str, dict[str, ShownRows]]
    log: list[str]
    attributions: list[Attribution]

    @classmethod
    def read(cls, run_dir: Path) -> RunFiles:
        """All files of a run folder.

        Raises:
            UserError: not a run folder, or one of its files is damaged.
        """
        if not (run_dir / "config.yaml").is_file():
            raise UserError(Fault(str(run_dir), "is not a run folder (it has no config.yaml)"))
        predictions = {}
        for split in SPLITS:
            if (run_dir / "predictions" / f"{split}.csv").exists():
                predictions[split] = _read(run_dir, f"predictions/{split}.csv", read_predictions)
        there = (run_dir / "metrics.csv").exists()
        return cls(
            folder=run_dir,
            config=_read(run_dir, "config.yaml", read_text),
            manifest=_read(run_dir, "manifest.json", _read_json),
            result=_read(run_dir, "result.json", _read_json),
            measurements=_read(run_dir, "metrics.csv", read_metrics) if there else [],
            predictions=predictions,
            data=_read(run_dir, "report/data.json", lambda _: ReportData.load(run_dir)),
            samples=_read(run_dir, "samples.csv", lambda _: read_samples(run_dir)),
            arrays=_read(run_dir, "samples", lambda _: read_sample_arrays(run_dir)),
            log=_last_lines(run_dir / "log.txt"),
            attributions=_read(run_dir, RECORDS, loaded),
        )

    @property
    def name(self) -> str:
        """The experiment's name."""
        return str(self.manifest.get("name") or self.folder.resolve().name)

    @property
    def status(self) -> str:
        """``finished``, ``running``, ``stopped`` or ``failed``."""
        if self.result:
            return "finished"
        ending = str(self.manifest.get("status") or "running")
        return ending if ending in ("finished", "running") else "stopped" if ending.startswith("stopped") else "failed"

    @property
    def failure(self) -> str:
        """Why the run did not come to its end, in its own words; empty where it did or still may."""
        return str(self.manifest["status"]) if self.status in ("failed", "stopped") else ""

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint."""
        step = self.result.get("best_step")
        return step if isinstance(step, int) else None

    @cached_property
    def declared(self) -> dict[str, Any]:
        """The config; empty where it is damaged, and shown as is."""
        try:
            declared = yaml.safe_load(self.config)
        except yaml.YAMLError:
            declared = None
        return declared if isinstance(declared, dict) else {}

    @property
    def data_folders(self) -> list[str]:
        """The folders of the data files, with a slash at the end, the longest first."""
        data = self.declared.get("data")
        given = {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(data, dict) else {}
        named = [os.path.dirname(given[key]) for key in ("train", "validation", "test") if key in given]
        named += [given["file_dir"]] if "file_dir" in given else []
        folders = {os.path.abspath(os.path.expanduser(name)) for name in named}
        return sorted((f"{folder}{os.sep}" for folder in folders - {os.sep}), key=len, reverse=True)

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each output, as the run noted it, or else as its config says."""
        outputs = self.declared.get("outputs")
        types = {name: output.get("type") for name, output in outputs.items()} if isinstance(outputs, dict) else {}
        types |= {name: described.get("type") for name, described in self.data.outputs.items()}
        return {str(name): Kind.of(str(type_)) for name, type_ in types.items() if type_}

    @property
    def average(self) -> dict[str, float]:
        """The average over outputs by split, of a finished run whose outputs have one."""
        given = self.result.get(AVERAGE)
        found = given.items() if isinstance(given, dict) else ()
        return {str(split): float(value) for split, value in found if isinstance(value, int | float)}

    @property
    def metrics(self) -> Values:
        """Metrics by split and output: those of the result, else the last ones that were measured."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for split in SPLITS:
            given = self.result.get(split)
            if isinstance(given, dict):
                found[split] = {name: values for name, values in given.items() if isinstance(values, dict)}
                continue
            for m in self.measurements:
                if m.split == split and m.output:
                    found.setdefault(split, {}).setdefault(m.output, {})[m.metric] = m.value
        return found


def write_report(run_dir: Path) -> Path:
    """Write ``report/index.html`` into the run folder, atomically, and give its path.

    Raises:
        UserError: not a run folder, or one of its files is damaged.
    """
    folder = run_dir / "report"
    page = render_report(RunFiles.read(run_dir))
    folder.mkdir(exist_ok=True)
    write_text(folder / "index.html", page)
    return folder / "index.html"


def render_report(run: RunFiles) -> str:
    """The report's HTML."""
    templates = environment()
    templates.filters |= {"number": number_text, "seconds": _seconds, "words": _words, "listed": _listed}
    templates.filters["relative"] = partial(_relative, run.data_folders)
    kinds, rows = run.kinds, {split: len(table.ids) for split, table in run.predictions.items()}
    return templates.get_template("report.html.j2").render(
        run=run,
        title=run.name,
        cards=cards(run.metrics, kinds, rows, final=bool(run.result), labelled=run.data.labelled, average=run.average),
        curves=learning_plots(run.measurements, kinds, run.best_step),
        outputs=output_sections(run.metrics, run.predictions, kinds, run.data, run.samples, run.arrays),
        metric_splits=list(run.metrics),
        attributions=attribution_sections(run.attributions),
        lengths=length_plots(run.data),
        network=network_picture(run.data.diagram),
        subtitle=_subtitle(run),
        version=__version__,
        environment={key: value for key, value in run.manifest.items() if value not in (None, "", [], {})},
    )


def _subtitle(run: RunFiles) -> list[str]:
    facts = []
    sessions = run.manifest.get("sessions") or [{}]
    facts += [str(value) for value in (_minute(sessions[0].get("started")), sessions[-1].get("device")) if value]
    if run.data.parameters.get("total"):
        facts.append(f"{run.data.parameters['total']:,} parameters")
    if run.data.fusion is not None:
        facts.append(f"fusion: {run.data.fusion}")
    if run.best_step is not None:
        facts.append(f"best checkpoint at step {run.best_step:,}")
    return facts


def _minute(time: object) -> str | None:
    """A human-readable form of an ISO time."""
    return str(time)[:16].replace("T", " ") + str(time)[19:].replace("+00:00", " UTC") if time else None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content = json.loads(read_text(path))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return content


def _read(run_dir: Path, name: str, read: Callable[[Path], Any]) -> Any:
    """What `read` makes of a file of the run.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return read(run_dir / name)
    except UserError:
        raise
    except OSError as error:
        raise UserError(Fault(str(run_dir / name), f"cannot be read: {reason(error)}")) from None
    except (ValueError, KeyError, TypeError, csv.Error, RecursionError) as error:
        detail = (str(error).splitlines() or [""])[0]
        raise UserError(Fault(str(run_dir / name), f"is damaged: {type(error).__name__} {detail}".rstrip())) from None


def _last_lines(log: Path) -> list[str]:
    try:
        with open_regular(log) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
            return file.read(LOG_BYTES).decode("utf-8", errors="replace").splitlines()[-LOG_LINES:]
    except OSError:  # there is none, or it is none: nothing depends on it
        return []


def number_text(value: float | None, decimals: int = 3) -> str:
    """A human-readable value: fixed decimals near one, significant digits elsewhere, thousands apart."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0 or 0.01 <= abs(value) < 100:
        return f"{value:.{decimals}f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{decimals}g}"


def _seconds(value: float) -> str:
    """A time: ``1 h 02 min``, ``3 min 05 s``, ``4.2 s``."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def _listed(values: Sequence[Any]) -> str:
    return listed([str(value) for value in values], values)


def _relative(folders: Sequence[str], text: str) -> str:
    """A text with the names of files as the data have them."""
    for folder in folders:
        text = text.replace(folder, "")
    return text


def _words(name: str) -> str:
    return name.replace("_", " ")
