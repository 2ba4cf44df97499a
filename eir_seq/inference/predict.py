"""Predict the rows of a file with the bundle of a finished run, and nothing else of the run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from eir_seq.config.cache import CacheConfig
from eir_seq.config.explanations import ExplanationBase
from eir_seq.config.latents import LatentsConfig
from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.dataset import EncodedSplit
from eir_seq.data.loaded import Splits
from eir_seq.data.source import load_test
from eir_seq.errors import Fault, UserError
from eir_seq.explanations.records import Attribution
from eir_seq.inference.fill import fill_gaps, gap_filler
from eir_seq.inference.predictor import Predictor
from eir_seq.inference.prompts import (
    complete,
    drawing,
    is_prompt_file,
    language_model,
    read_prompts,
    reads_besides,
    rows_of_texts,
    text_writer,
    text_writers,
    writing,
)
from eir_seq.inference.report_attributions import write_page
from eir_seq.machine import cannot_write
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.files import files_folder
from eir_seq.outputs.predictions import NOT_PREDICTED, LeftOut, write_predictions
from eir_seq.remote import by_url
from eir_seq.training.attributions import warnings_about, write_table
from eir_seq.training.bundle import WEIGHTS, Bundle, read_bundle
from eir_seq.training.console import Console
from eir_seq.training.evaluation import Batch, Evaluation
from eir_seq.training.folder import write_json
from eir_seq.training.latents import check_layers, write_latents

if TYPE_CHECKING:
    from eir_seq.rows import Rows

BUNDLE = "bundle"


def predict(
    run: Path,
    *,
    test: str | None = None,
    output: Path | None = None,
    batch_size: int | None = None,
    accelerator: str = "auto",
    prompt: str | None = None,
    generation: Mapping[str, Any] = MappingProxyType({}),
    reading: Mapping[str, Any] = MappingProxyType({}),
    csv_safe: bool = False,
    latents: LatentsConfig | None = None,
    interpretation: Mapping[str, ExplanationBase] = MappingProxyType({}),
) -> Path:
    """Predict every row of a file, in its order, and give the path of the table that was written.

    With `data.on_bad_row=skip`, of the run or in `reading`, rows that cannot be used have no prediction, and the table
    has a column ``not predicted`` that says why. Otherwise such a row is an error.

    Predictions that no cell holds, such as arrays and pictures, are files in the folder ``NAME.files`` next to the
    table, whose cells name them; both are replaced together.

    Labels are not needed. Where each row of an output has one, its metrics are printed and written next to the table
    (``NAME.metrics.json``). The same rows in batches of the same sizes give the same bytes.

    Of a language model the rows are prompts, one per line of a text file or per row of a table, and the table holds
    what it writes after them. Of a sequence-to-sequence output they may be the lines of a text file, too. Lines and
    prompts of a masked language model, or of one that restores spans or texts, have gaps, which it fills.

    Args:
        run: a run folder, or a bundle.
        test: the file or folder with the rows; those of the run's `data.test` if absent.
        output: the CSV to write; by default ``predictions/STEM.predicted.csv`` in the run folder, with the name of
            the file that was read (in the working directory for a bundle without its run).
        batch_size: rows per batch; that of the run if absent.
        accelerator: auto, cpu, gpu or mps.
        prompt: a text for a language model to complete (or for a sequence-to-sequence output to write from), in place
            of a file.
        generation: for either, options of `generate` that replace those of the run; for outputs that draw arrays or
            pictures, options of their sampler.
        reading: keys of `data` that say how the file is read (`on_bad_row`, `quote`, `rename` ...) in place of the
            run's.
        csv_safe: put a quote (') before cells of the table that a spreadsheet would take for a formula: that begin with
            ``=``, ``+``, ``-``, ``@``, a tab or the end of a line, and are no numbers.
        latents: layers whose states are written as well, into the folder ``NAME.latents`` next to the table.
        interpretation: inputs by which predictions of some rows are explained, in ``NAME.attributions.csv`` and, to be
            looked at, ``NAME.attributions.html`` next to the table.

    Raises:
        UserError: no bundle, or one that is damaged; rows that cannot be used; a table that cannot be written.
        RunFailed: not enough memory.
    """
    folder = find_bundle(run)
    destination = output.expanduser() if output is not None else None
    if destination is not None:
        _check_destination(destination, test)
    with Console() as console:
        with console.phase(f"reading {by_url(str(folder))}"):
            bundle = read_bundle(folder)
        config = config_of(bundle.config, test, batch_size, accelerator, reading)
        if latents is not None:
            check_layers(bundle.network, latents, bundle.outputs, "latents")
            if language_model(bundle) is not None or prompt is not None:
                raise UserError(Fault("latents", "are written of rows of a table, not of prompts"))
        if language_model(bundle) is not None and interpretation:
            raise UserError(Fault("interpretation", "a language model has no score that could be explained"))
        if language_model(bundle) is not None:
            return _complete(run, folder, bundle, config, test, prompt, generation, destination, console, csv_safe)
        if interpretation and (prompt is not None or is_prompt_file(str(test))):
            raise UserError(Fault("interpretation", "rows of a table are explained, not prompts"))
        fills, prompted = gap_filler(bundle), prompt is not None or is_prompt_file(str(test))
        if latents is not None and fills is not None and prompted:
            raise UserError(Fault("latents", "are written of rows of a table, not of prompts"))
        if fills is not None and prompted:
            return _fill(run, folder, bundle, fills, config, test, prompt, generation, destination, console, csv_safe)
        writes, writers = text_writer(bundle), text_writers(bundle)
        if writers and (writes is not None or not prompted):
            bundle = writing(bundle, writers, generation)
        elif fills is not None and generation:
            raise UserError(
                Fault("generation", "has no effect on rows of a table: what is taken out of them is measured")
            )
        elif writers:
            message = (
                f"the texts of {run} are written from rows of a table, not from a single text; give data.test=TABLE"
            )
            raise UserError(Fault("prompt" if prompt is not None else "data.test", message))
        elif generation and prompt is None and any(output.config.generates for output in bundle.outputs.values()):
            bundle = drawing(bundle, generation)
        elif prompt is not None or generation:
            if prompt is not None:
                raise UserError(Fault("prompt", f"{run} writes no texts: no output is a language model"))
            raise UserError(Fault("generation", f"{run} generates nothing: it has no text and no loss 'diffusion'"))
        locating: AbstractContextManager[None]
        with console.phase("reading rows") as found:
            if writes is not None and prompted:
                if prompt is not None and test is not None:
                    raise UserError(Fault("data.test", "give this or prompt, not both"))
                rows = rows_of_texts(bundle, writes, prompt, test)
                left_out, locating = None, nullcontext()
            else:
                splits = load_rows(config, bundle, console, may_lack_id="id" not in reading)
                assert splits.test is not None
                rows, left_out = _with_known_classes(splits.test, _left_out(config, splits), bundle.outputs, config)
                locating = splits.locating()
            found.append(f"{rows.num_rows:,} of {test or config.data.test if prompt is None else 'prompt'}")
        if destination is None:
            destination = _default_destination(run, folder, "prompt" if prompt is not None else str(config.data.test))
        _say_left_out(left_out, console)
        predictor = Predictor(bundle, batch_size=batch_size, accelerator=accelerator)
        with console.phase("predicting"), locating:
            explained: list[Attribution] = []

            def also(encoded: EncodedSplit, evaluation: Evaluation) -> None:
                if latents is not None:
                    _write_latents(predictor, latents, rows, destination, encoded.batches(predictor.data), evaluation)
                if interpretation:
                    explained.extend(predictor.explain(interpretation, rows, encoded, evaluation, console.progress))

            evaluation, warnings = predictor.evaluate(rows, console.progress, also)
            warnings += warnings_about(explained)
        for warning in warnings:
            console.say(f"warning: {warning}")
        columns = evaluation.columns(bundle.outputs, rows)
        write_predictions(destination, evaluation.ids, columns, left_out, csv_safe=csv_safe)
        if prompt is not None:
            assert writes is not None
            console.say(evaluation.written[writes.name].columns()[writes.name][0])
        _report_metrics(evaluation, destination, console)
        if latents is not None:
            console.say(f"latent states: {_latents_folder(destination)}")
        if interpretation:
            base = destination.with_name(f"{destination.name.removesuffix('.csv')}.attributions")
            write_table(base.with_name(f"{base.name}.csv"), explained, csv_safe=csv_safe)
            write_page(base.with_name(f"{base.name}.html"), bundle.config.name, explained)
            console.say(f"attributions: {base}.html")
    return destination


def _latents_folder(table: Path) -> Path:
    return table.with_name(f"{table.name.removesuffix('.csv')}.latents")


def _write_latents(
    predictor: Predictor,
    latents: LatentsConfig,
    rows: Rows,
    table: Path,
    batches: Iterator[Batch],
    evaluation: Evaluation,
) -> None:
    bundle = predictor.bundle
    write_latents(
        bundle.network,
        latents,
        batches,
        _latents_folder(table),
        device=predictor.device,
        precision=predictor.precision,
        evaluation=evaluation,
        colours=evaluation.columns(bundle.outputs, rows),
        seed=bundle.config.seed,
    )


def _complete(
    run: Path,
    folder: Path,
    bundle: Bundle,
    config: ExperimentConfig,
    test: str | None,
    prompt: str | None,
    generation: Mapping[str, Any],
    destination: Path | None,
    console: Console,
    csv_safe: bool,
) -> Path:
    """The completions of the prompts in a file, or of a single one, which is also shown."""
    if (test is None) == (prompt is None):
        message = "give a file of prompts, or one by prompt=TEXT" if test is None else "give this or prompt, not both"
        raise UserError(Fault("data.test", message))
    besides, rows, left_out = reads_besides(bundle), None, None
    if besides is not None and (prompt is not None or is_prompt_file(str(test))):
        place = "prompt" if prompt is not None else "data.test"
        raise UserError(
            Fault(place, f"the model of {run} reads {besides} in addition to a text; give a table with its rows")
        )
    if prompt is not None:
        prompts = {"1": prompt}
    elif is_prompt_file(str(test)):
        prompts = read_prompts(str(test))
    else:
        splits = load_rows(config, bundle, console, need_texts=besides is None)
        rows, left_out = splits.test, _left_out(config, splits)
        assert rows is not None
        _say_left_out(left_out, console)
        prompts = dict(zip(rows["id"], rows[_text_column(config)], strict=True))
    destination = destination or _default_destination(run, folder, test or "prompt")
    with console.phase("completing") as found:
        texts = complete(bundle, config, prompts, generation, destination, console, rows, left_out, csv_safe=csv_safe)
        found.append(f"{len(texts):,} prompts")
    if prompt is not None:
        console.say(f"{prompt}{texts[0]}")
    return destination


def _fill(
    run: Path,
    folder: Path,
    bundle: Bundle,
    output: FittedOutput,
    config: ExperimentConfig,
    test: str | None,
    prompt: str | None,
    generation: Mapping[str, Any],
    destination: Path | None,
    console: Console,
    csv_safe: bool,
) -> Path:
    """The prompts of a file, or a single one, without their gaps."""
    if prompt is not None and test is not None:
        raise UserError(Fault("data.test", "give this or prompt, not both"))
    prompts = {"1": prompt} if prompt is not None else read_prompts(str(test))
    destination = destination or _default_destination(run, folder, test or "prompt")
    with console.phase("filling") as found:
        fill_gaps(bundle, output, config, prompts, generation, destination, console, csv_safe=csv_safe)
        found.append(f"{len(prompts):,} prompts")
    return destination


def find_bundle(run: Path) -> Path:
    """The bundle that a path means: that of a run folder, or the path itself.

    Raises:
        UserError: there is none.
    """
    run = run.expanduser()
    if (run / WEIGHTS).is_file():
        return run
    if (run / BUNDLE).is_dir():
        return run / BUNDLE
    if not run.is_dir():
        raise UserError(Fault("run", f"{run} is not a folder"))
    if (run / "fold_0").is_dir():
        raise UserError(
            Fault("run", f"{run} holds the folds of a cross-validation; name one, such as {run / 'fold_0'}")
        )
    if (run / "result.json").exists():
        hint = "train with its run.dir makes it again, if a checkpoint is left"
        raise UserError(Fault("run", f"the run in {run} is finished, but its bundle is gone; {hint}"))
    if (run / "config.yaml").is_file():
        raise UserError(Fault("run", f"the run in {run} is not finished and has no bundle yet"))
    raise UserError(Fault("run", f"{run} is neither a run folder nor a bundle"))


def config_of(
    config: ExperimentConfig, test: str | None, batch_size: int | None, accelerator: str, reading: Mapping[str, Any]
) -> ExperimentConfig:
    """The run's config, for these rows."""
    data: dict[str, Any] = {"test": test, "source": "table", "labels": None} if test is not None else {}
    data |= reading
    sizes = {"eval_batch_size": batch_size} if batch_size is not None else {}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={**data, **sizes, "cache_dir": None}),
            "cache": CacheConfig(),
            "trainer": config.trainer.model_copy(update={"accelerator": accelerator, "precision": "32"}),
        }
    )


def _left_out(config: ExperimentConfig, splits: Splits) -> list[LeftOut] | None:
    """The rows without a prediction; None if the config makes them an error."""
    rows = [LeftOut(row.id, row.position, row.reason) for row in splits.skipped]
    return rows if rows or config.data.on_bad_row == "skip" else None


def _with_known_classes(
    rows: Rows, left_out: list[LeftOut] | None, outputs: Mapping[str, FittedOutput], config: ExperimentConfig
) -> tuple[Rows, list[LeftOut] | None]:
    """With `on_bad_row: skip`, rows of classes that training did not have are left out as well."""
    if config.data.on_bad_row != "skip":
        return rows, left_out
    reasons: dict[int, str] = {}
    for output in outputs.values():
        if set(output.config.columns()) <= set(rows.column_names):
            reasons = {**output.unknown_labels(rows), **reasons}
    if not reasons:
        return rows, left_out
    if len(reasons) == len(rows):
        raise UserError(Fault("data.test", f"no row is left: {reasons[min(reasons)]} (the first one)"))
    before = {row.position for row in left_out or ()}
    places = [place for place in range(len(rows) + len(before)) if place not in before]
    further = [LeftOut(rows["id"][row], places[row], reason) for row, reason in reasons.items()]
    kept = rows.select([row for row in range(len(rows)) if row not in reasons])
    return kept, sorted([*(left_out or ()), *further], key=lambda row: row.position)


def _say_left_out(left_out: Sequence[LeftOut] | None, console: Console) -> None:
    if left_out:
        console.say(f"rows without a prediction: {len(left_out):,} (column {NOT_PREDICTED!r} says why)")


def load_rows(
    config: ExperimentConfig, bundle: Bundle, console: Console, *, need_texts: bool = True, may_lack_id: bool = True
) -> Splits:
    """The rows to predict. They may lack the column of ids, as they may lack labels: their numbers are the ids then."""
    try:
        return load_test(config, bundle.inputs, bundle.outputs, need_texts=need_texts)
    except UserError as error:
        fault = error.faults[0]
        if (
            not may_lack_id
            or len(error.faults) > 1
            or fault.place != "data.id"
            or not fault.message.startswith("no column")
        ):
            raise
    console.say(f"{fault.message}: rows are numbered")
    numbered = config.model_copy(update={"data": config.data.model_copy(update={"id": None})})
    return load_test(numbered, bundle.inputs, bundle.outputs, need_texts=need_texts)


def _check_destination(path: Path, test: str | None) -> None:
    """Refuse before the work what could not be written after it."""
    if path.is_dir():
        raise UserError(Fault("output", f"{path} is a folder; name the CSV file"))
    if path.suffix.lower() in (".parquet", ".arrow", ".feather", ".jsonl", ".json", ".tsv"):
        raise UserError(Fault("output", f"{path.name} would be a CSV file; name it {path.stem}.csv"))
    for written in (path, _metrics_file(path)):
        if written.exists() and not written.is_file():
            raise UserError(Fault("output", f"{written} is not a regular file; it would be replaced"))
    files = files_folder(path)
    if files.exists() and not (files.is_dir() and path.exists()):
        raise UserError(Fault("output", f"{files} is not of a table of predictions; it might be replaced"))
    if not path.parent.is_dir():
        raise UserError(Fault("output", f"there is no folder {path.parent}"))
    if not os.access(path.parent, os.W_OK):
        raise UserError(Fault("output", f"{path.parent} cannot be written"))
    if test is not None and path.exists() and path.samefile(Path(test).expanduser()):
        raise UserError(Fault("output", f"{path} is the file with the rows to predict"))


def _metrics_file(table: Path) -> Path:
    return table.with_name(f"{table.name.removesuffix('.csv')}.metrics.json")


def _default_destination(run: Path, bundle: Path, test: str) -> Path:
    run = run.expanduser()
    name = f"{Path(test).name.split('.')[0] or 'rows'}.predicted.csv"
    folder = Path() if bundle == run else run / "predictions"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error, "output") from None
    _check_destination(folder / name, None)
    return folder / name


def _report_metrics(evaluation: Evaluation, table: Path, console: Console) -> None:
    metrics = evaluation.by_output()
    if not metrics:
        return
    for name, values in metrics.items():
        shown = ", ".join(f"{metric} {value:.4f}" for metric, value in values.items() if "(" not in metric)
        console.say(f"{name}: {shown}")
    assert all(math.isfinite(value) for values in metrics.values() for value in values.values())
    path = _metrics_file(table)
    write_json(path, metrics)
    console.say(f"metrics: {path}")


def _text_column(config: ExperimentConfig) -> str:
    text = next(iter(config.inputs.values())).text
    assert text is not None, "a language model reads a text"
    return text.column
