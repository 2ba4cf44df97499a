"""Damaged files: of finished and interrupted runs, searches, bundles, published models and data.

Each case damages one file of a project in one way, then predicts, compares, and trains or extends. Either the results
are those of the undamaged project, or one line names the file.
"""

from __future__ import annotations

import atexit
import csv
import functools
import gzip
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import yaml

from tests.campaign import damages
from tests.campaign.case import Case, command
from tests.campaign.damages import DAMAGES, Damage
from tests.campaign.forked import Forked
from tests.campaign.parts import sweeps
from tests.campaign.projects import Outcome, different, lines, outcome, small, write_experiment

TITLE = "damaged files of runs, checkpoints in shards, searches, bundles, published models, data, and streamed data"
WANTED = "the results of the undamaged files, or one line (exit code 2 or 3) that names the file"

MOST_LINES = 30
EPOCHS = 3
EXTENDED = f"trainer.max_epochs={EPOCHS + 1}"
FORMATS = ("csv", "tsv", "jsonl", "json", "csv.gz", "parquet", "arrow", "stream.arrow", "feather", "conll")
NOT_RESULTS = ("log.txt", ".owner")
"""Files of a run on which nothing depends."""

# --------------------------------------------------------------------------------------------------------- templates


def moods(project: Path) -> list[str]:
    """Classes and numbers from texts; can be extended."""
    return small(project, trainer={"max_epochs": EPOCHS, "accelerator": "cpu", "keep_optimizer_state": True})


@contextmanager
def rewritten(project: Path) -> Iterator[dict[str, Any]]:
    """The experiment of a project, to be changed."""
    experiment = yaml.safe_load((project / "conf/experiment/small.yaml").read_text())
    yield experiment
    write_experiment(project, experiment)


def masked(project: Path) -> list[str]:
    """A model that learns from texts, and is left in published names."""
    words = small(project, trainer={"max_epochs": 1, "accelerator": "cpu"})
    with rewritten(project) as experiment:
        experiment["outputs"] = {"text": {"type": "masked_lm"}}
        del experiment["fusion"]
    return words


def adapted(project: Path) -> list[str]:
    """Adapters beside a published model."""
    published(project)
    model = {"model_type": "./published", "pretrained_model": True, "lora": {"rank": 2, "merge": True}}
    source = {"type": "sequence", "column": "text", "max_length": 12, "model": model}
    return small(project, inputs={"text": source}, trainer={"max_epochs": 1, "accelerator": "cpu"})


def published(project: Path) -> None:
    """A small published model with its tokenizer, made in another process."""
    _run(masked(project), project)
    (project / "run/pretrained/text").rename(project / "published")
    (project / "published/manifest.json").unlink()
    for leftover in ("run", "cache"):
        shutil.rmtree(project / leftover)


def tables(project: Path) -> list[str]:
    """The rows in every format."""
    words = small(project, trainer={"max_epochs": 1, "accelerator": "cpu"})
    with (project / "train.csv").open() as file:
        rows = list(csv.DictReader(file))
    typed = [{**row, "score": float(row["score"])} for row in rows]
    plain = (project / "train.csv").read_bytes()
    (project / "rows.csv").write_bytes(plain)
    (project / "rows.csv.gz").write_bytes(gzip.compress(plain, mtime=0))
    (project / "rows.tsv").write_bytes(plain.replace(b",", b"\t"))
    (project / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in typed))
    (project / "rows.json").write_text(json.dumps(typed))
    table = pa.Table.from_pylist(typed)
    pyarrow.parquet.write_table(table, project / "rows.parquet")
    pyarrow.feather.write_feather(table, str(project / "rows.feather"))
    with pa.ipc.new_file(str(project / "rows.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_stream(str(project / "rows.stream.arrow"), table.schema) as stream:
        stream.write_table(table)
    tagged = [f"{word} {'AB'[len(word) % 2]}\n" for row in rows for word in (*row["text"].split(), "")]
    (project / "rows.conll").write_text("".join(line.lstrip(" AB") if line[0] == " " else line for line in tagged))
    return words


def fork() -> None:
    """In a command's process: the other processes of a training, and trials, are forks."""
    subprocess.Popen = Forked  # type: ignore[misc]


def sharded(project: Path) -> list[str]:
    """Two processes that train in shards."""
    return [*moods(project), "trainer.devices=2", "trainer.strategy=fsdp"]


def searched(project: Path) -> list[str]:
    """Two trials of a search."""
    space = "optimizer.lr=tag(log,interval(1e-3,1e-1))"
    return ["sweep", *moods(project), "trainer.max_epochs=1", space, "sweep.dir=search", "sweep.trials=2"]


def streamed(suffix: str, project: Path) -> list[str]:
    """Training rows in three files, which are read while the run trains."""
    words = moods(project)
    names, *rows = (project / "train.csv").read_text().splitlines(keepends=True)
    (project / "shards").mkdir()
    for number in range(3):
        path = project / "shards" / f"{number}.csv"
        path.write_text("".join([names, *rows[20 * number : 20 * number + 20]]))
        if suffix == "parquet":
            pyarrow.parquet.write_table(pyarrow.csv.read_csv(path), path.with_suffix(".parquet"))
            path.unlink()
    return [*words, "data.train=shards", "data.streaming=true", "data.shuffle_buffer=8"]


def _run(words: Sequence[str], project: Path, prepare: Callable[[], object] = fork, code: int = 0) -> None:
    ended = command(words, project, prepare=prepare)
    assert ended.code == code, ended.err


def _dies_after(checkpoints: int) -> None:
    """End the process as by SIGKILL once so many checkpoints are written."""
    from eir_seq.training.checkpoints import CheckpointStore

    fork()
    left, prune = [checkpoints], CheckpointStore.prune

    def counted(self: CheckpointStore, best_of: Any) -> None:
        prune(self, best_of)
        left[0] -= 1
        if not left[0]:
            os._exit(9)

    CheckpointStore.prune = counted  # type: ignore[method-assign]


MAKERS: dict[str, Callable[[Path], list[str]]] = {
    "finished": moods, "masked": masked, "adapted": adapted, "published": adapted, "tables": tables, "sharded": sharded,
    "search": searched,
    "streamed csv": partial(streamed, "csv"), "streamed parquet": partial(streamed, "parquet"),
}  # fmt: skip
"""What writes the projects of each kind, all of which have finished a run but for two."""
INTERRUPTED = "interrupted"


def source_of(kind: str) -> str:
    """The kind of the run that was interrupted or extended, or the kind itself."""
    return "finished" if kind in (INTERRUPTED, "extended") else kind.removeprefix(f"{INTERRUPTED} ")


@functools.cache
def template(kind: str) -> tuple[Path, tuple[str, ...]]:
    """An undamaged project of a kind, and the words of its training command."""
    project = Path(tempfile.mkdtemp(prefix="campaign-template-")) / "project"
    atexit.register(shutil.rmtree, project.parent, ignore_errors=True)
    project.mkdir()
    words = MAKERS[source_of(kind)](project)
    if kind.startswith(INTERRUPTED):
        _run(words, project, partial(_dies_after, 2), 9)
    elif kind == "search":
        _run(words, project, search)
    elif kind not in ("published", "tables"):
        _run(words, project)
    return project, tuple(words)


@functools.cache
def wanted(kind: str) -> Outcome:
    """What the undamaged project comes to: ``extended`` is a finished one that goes on."""
    project, words = template(source_of(kind))
    if kind != "extended":
        return everything(project / "run")
    with tempfile.TemporaryDirectory(prefix="campaign-extended-") as name:
        copy = Path(name) / "project"
        shutil.copytree(project, copy)
        _run([*words, EXTENDED], copy)
        return everything(copy / "run")


@functools.cache
def table_of(kind: str, what: str) -> bytes:
    """What `predict` or ``runs compare`` writes of the undamaged project."""
    project, _ = template(kind)
    with tempfile.TemporaryDirectory(prefix="campaign-reading-") as name:
        copy = Path(name) / "project"
        shutil.copytree(project, copy)
        words, written = reading(what)
        _run(words, copy)
        return (copy / written).read_bytes()


def reading(what: str) -> tuple[list[str], str]:
    """A command that reads a run, and the file that it writes."""
    if what == "predict":
        return ["predict", "run=run", "data.test=test.csv", "output=predicted.csv"], "predicted.csv"
    return ["runs", "compare", "."], "compare.csv"


def everything(run: Path) -> Outcome:
    """The outcome with the folders for others, and whether there is a whole report."""
    found = outcome(run)
    for name in ("adapters", "pretrained"):
        found |= {f"{name}/{file}": digest for file, digest in _hashes(run / name).items()}
    report = run / "report" / "index.html"
    found["report"] = "whole" if report.is_file() and report.read_bytes().endswith(b"</html>\n") else "none"
    return found


def _hashes(place: Path) -> Outcome:
    from eir_seq.files import hash_file

    return {p.relative_to(place).as_posix(): hash_file(p) for p in sorted(place.rglob("*")) if p.is_file()}


# ------------------------------------------------------------------------------------------------------------- cases


FOR_OTHERS = ("run/pretrained/**/*", "run/adapters/**/*")
FILES = {
    "finished": (("run/**/*",), 4), "interrupted": (("run/**/*",), 4),
    "masked": (FOR_OTHERS, 2), "adapted": (FOR_OTHERS, 2),
    "published": (("published/**/*",), 6), "interrupted sharded": (("run/checkpoints/**/*",), 4),
    "interrupted streamed csv": (("shards/*",), 6), "interrupted streamed parquet": (("shards/*",), 6),
    "search": (("search/*", "search/jobs/*"), 6), "tables": (tuple(f"rows.{suffix}" for suffix in FORMATS), 6),
}  # fmt: skip
"""By kind of project, the files that are damaged, each in so many ways."""
SMALL = 0.1
"""A share that is taken of three kinds of projects, as each has to be made first."""


def cases(seed: int, share: float) -> Sequence[Case]:
    """A few damages for every file of every project."""
    kinds = [kind for kind in FILES if kind != "search" or find_spec("optuna")]
    if share < SMALL:
        kinds, share = Random(seed).sample(kinds, 3), share * len(kinds) / 3
    found: list[Case] = []
    for kind in kinds:
        project, _ = template(kind)
        patterns, count = FILES[kind]
        paths = sorted(path for pattern in patterns for path in project.glob(pattern))
        for path in paths:
            if path.is_file() and path.stat().st_size:
                found += _damages(kind, path.relative_to(project), count, seed)
    if share < 1:
        found = Random(seed).sample(found, max(1, round(len(found) * share)))
    return found


def _damages(kind: str, name: Path, count: int, seed: int) -> list[Case]:
    random = Random(f"{seed} {kind} {name}")
    run = {"tables": damaged_table, "search": damaged_search}.get(kind, damaged)
    return [
        Case(f"{kind}/{name}/{damage.__name__}", partial(run, kind, name, damage, random.random()))
        for damage in random.sample(DAMAGES, count)
    ]


def damaged(kind: str, name: Path, damage: Damage, number: float, folder: Path) -> str | None:
    """Damage a file of a project, and use what there is."""
    project, words = template(kind)
    shutil.copytree(project, folder, dirs_exist_ok=True, symlinks=True)
    random = Random(number)
    damage(folder / name, random)
    named = [name.name, *(part for part in name.parts[:-1] if part != "run")]
    if name.parts[0] == "shards":
        named += ["data.", "data: "]
    report = _content(folder / "run/report/index.html")
    if kind == "finished" and "checkpoints" not in name.parts:
        in_bundle = "bundle" in name.parts
        wrong = _read(kind, "predict" if in_bundle else "compare", named, folder)
        if wrong is not None:
            return wrong
    extends = kind == "finished" and random.random() < 0.35
    ended = command([*words, EXTENDED] if extends else words, folder, prepare=fork, seconds=90)
    wrong = ended.fault([0, 2, 3])
    if wrong is None and ended.code:
        wrong = _told(ended.err, named)
    elif wrong is None and kind != "published":  # no hash says what published weights were
        wrong = different(everything(folder / "run"), wanted("extended" if extends else kind))
        if wrong is None and name.name == "index.html" and not extends and damage is not damages.remove:
            found = _content(folder / name)
            wrong = "the damaged report stays" if found == report != _content(project / name) else None
    return wrong


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _read(kind: str, what: str, named: Sequence[str], folder: Path) -> str | None:
    words, written = reading(what)
    ended = command(words, folder)
    wrong = ended.fault([0, 2, 3])
    if wrong is None and ended.code:
        wrong = _told(ended.err, named)
    elif wrong is None and (folder / written).read_bytes() != table_of(kind, what):
        wrong = _told(ended.out, named)
    (folder / written).unlink(missing_ok=True)
    (folder / "compare.md").unlink(missing_ok=True)
    return f"{what}: {wrong}" if wrong else None


def _told(text: str, named: Sequence[str]) -> str | None:
    """What is wrong with a message that should name a file or a folder that it lies in."""
    said = lines(text)
    if not 1 <= len(said) <= MOST_LINES:
        return f"{len(said)} lines: {text[:300]}"
    return None if any(word in text for word in named) else f"names none of {', '.join(named)}: {text[:300]}"


def damaged_table(kind: str, name: Path, damage: Damage, number: float, folder: Path) -> str | None:
    """Damage a data file, and look through it; a row that has become another valid one is no fault of the program.

    What such rows are then lacking (two rows of each class, say) is told by the key of the config.
    """
    project, words = template(kind)
    shutil.copytree(project, folder, dirs_exist_ok=True)
    damage(folder / name, Random(number))
    if name.suffix == ".conll":
        with rewritten(folder) as experiment:
            experiment["outputs"] = {"tag": {"type": "token_classification", "column": "tags"}}
            experiment["inputs"]["text"] |= {"column": "words", "is_split_into_words": True}
            del experiment["data"]["id"], experiment["data"]["test"], experiment["fusion"]
    ended = command(["check", *words, f"data.train={name}"], folder)
    wrong = ended.fault([0, 2])
    return _told(ended.err, [name.name, "data."]) if wrong is None and ended.code else wrong


def damaged_search(kind: str, name: Path, damage: Damage, number: float, folder: Path) -> str | None:
    """Damage a file of a search, and add a trial."""
    project, words = template(kind)
    shutil.copytree(project, folder, dirs_exist_ok=True, symlinks=True)
    damage(folder / name, Random(number))
    ended = command([*words, "sweep.trials=3"], folder, prepare=search, seconds=90)
    wrong = ended.fault([0, 2, 3])
    if wrong is None and ended.code:
        return _told(ended.err, [name.name])
    return wrong or different(trials_of(folder), trials_of(whole_search()))


@functools.cache
def whole_search() -> Path:
    """A search whose files are as they were."""
    project, words = template("search")
    copy = Path(tempfile.mkdtemp(prefix="campaign-search-")) / "project"
    atexit.register(shutil.rmtree, copy.parent, ignore_errors=True)
    shutil.copytree(project, copy)
    _run([*words, "sweep.trials=3"], copy, search)
    return copy


def trials_of(folder: Path) -> Outcome:
    """What the trials of a search came to."""
    found = {path.parent.name: outcome(path.parent) for path in sorted((folder / "search").glob("*/config.yaml"))}
    flat = {f"{trial}/{name}": digest for trial, files in found.items() for name, digest in files.items()}
    rows = list(csv.DictReader((folder / "search/trials.csv").open()))  # with the paths that the study holds
    return {**flat, "trials.csv": json.dumps([{**row, "run_dir": ""} for row in rows])}


def search() -> None:
    """In the process of a search."""
    fork()
    sweeps.quick()
