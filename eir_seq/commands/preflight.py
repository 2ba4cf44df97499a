"""What can be said against an experiment from its config and a first look at what it names, in about a second.

Headers of tables, packages, folders: nothing here imports torch, reads a whole file of some size, or writes anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eir_seq.config.columns import Columns, columns_of
from eir_seq.config.packages import is_installed, missing_package
from eir_seq.config.schema import DataConfig, ExperimentConfig
from eir_seq.config.sections import Sections
from eir_seq.config.start_from import modules_of
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.remote import is_url, url_fault


def preflight(sections: Sections, config: ExperimentConfig | None) -> Iterator[Fault]:
    """What would stop a run later, of the valid sections; `config` is there where all of them are."""
    for place, tracker in (sections.tracker.named() if sections.tracker is not None else {}).items():
        if tracker.PACKAGE is not None and not is_installed(tracker.PACKAGE):
            yield Fault(f"{place}.type", missing_package(tracker.PACKAGE))
    for name, source in sections.inputs.items():
        yield from source.preflight(f"inputs.{name}")
    for name, output in sections.outputs.items():
        yield from output.preflight(f"outputs.{name}")
    if config is not None:
        from eir_seq.training.folder import check_destination

        try:
            check_destination(config)
        except UserError as error:
            yield from error.faults
        yield from start_faults(config)
    if sections.data is not None:
        yield from table_faults(sections.data, columns_of(sections.data, sections.inputs, sections.outputs))


def start_faults(config: ExperimentConfig) -> Iterator[Fault]:
    """What is wrong with a warm start by the names of runs and modules."""
    start = config.start_from
    if start is None:
        return
    from eir_seq.training.folder import read_config

    if is_url(start.run):
        if (fault := url_fault(start.run, "start_from.run")) is not None:
            yield fault
        return
    folder = Path(start.run).expanduser()
    if not folder.is_dir():
        names = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
        yield Fault("start_from.run", f"no such folder: {start.run!r}{nearest(folder.name, names)}")
        return
    try:
        other = read_config(folder / "config.yaml")
        modules: list[str] | None = modules_of(other["inputs"], other["outputs"])
    except (UserError, KeyError, TypeError):
        modules = None  # reading the bundle says what is wrong with it
    yield from start.faults(modules_of(config.inputs, config.outputs), modules)


def table_faults(data: DataConfig, columns: Columns, *, need_targets: bool = True) -> Iterator[Fault]:
    """What the headers of the tables show: files that cannot be read, columns that are missing."""
    if not data.reads_files:
        return
    train = data.train
    if data.source == "sample" and train is None and data.name is not None:
        from eir_seq.samples import SAMPLES, sample_path

        train = str(sample_path(data.name)) if data.name in SAMPLES else None
    named = {"train": None if data.streaming else train, "validation": data.validation, "test": data.test}
    paths = {split: os.path.expanduser(path) for split, path in named.items() if isinstance(path, str)}
    if any(map(os.path.isdir, paths.values())):  # of one text file per row; the other columns are those of the labels
        paths = {"labels": os.path.expanduser(data.labels)} if data.labels is not None else {}
        columns = columns.without("input").without("group")
    if not (paths or data.streaming) or not columns.places:
        return
    from eir_seq.data.id_lists import is_id_list
    from eir_seq.data.readers.base import wanted_of
    from eir_seq.data.readers.header import check_header

    optional = frozenset() if need_targets else frozenset(columns.of("target"))
    if not need_targets and data.on_missing == "keep":
        optional = optional.union(columns.of("input"))
    wanted = wanted_of(columns, data, optional)
    reported: set[Fault] = set()
    if data.streaming and train is not None and not is_url(train):
        from eir_seq.data.stream.shards import open_shards

        try:
            open_shards(data, wanted)
        except UserError as error:
            yield from error.faults
            reported.update(error.faults)
    for split, path in paths.items():
        if is_url(path) and (fault := url_fault(path, f"data.{split}")) is not None:
            yield fault
        if not os.path.exists(path):
            continue  # which the rules of the config have said
        if split in ("validation", "test") and need_targets and is_id_list(path, data, columns):
            continue
        try:
            check_header(path, data, wanted, f"data.{split}")
        except UserError as error:
            yield from (fault for fault in error.faults if fault not in reported)
            reported.update(error.faults)


def prediction_faults(bundle: Path, test: str | None, reading: Mapping[str, Any]) -> Iterator[Fault]:
    """What the header of the rows to predict shows; labels, ids and prompts may be missing there.

    `reading`: keys of `data` that say how they are read, in place of the run's.
    """
    from eir_seq.training.folder import read_config

    try:
        config = ExperimentConfig.model_validate(read_config(bundle / "config.yaml"))
    except ValueError:
        return  # reading the bundle says what is wrong with it
    writes = any(output.completes for output in config.outputs.values())
    if test is None or Path(test).suffix == ".txt" or writes:
        return
    given = {"source": "table", "train": None, "validation": None, "test": test, "labels": None, **reading}
    data = config.data.model_copy(update=given)
    columns = replace(columns_of(config.data, config.inputs, config.outputs).without("group"), id=None)
    yield from table_faults(data, columns, need_targets=False)
