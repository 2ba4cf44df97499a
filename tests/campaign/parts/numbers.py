"""Odd numbers and odd amounts: targets near 0 and infinity, one row, one class, a vocabulary of one token."""

from __future__ import annotations

import csv
import json
import math
import random
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.campaign.case import Case, command
from tests.campaign.projects import lines, small

TITLE = "odd numbers: tiny, huge, infinite, constant; one row, one class, one token"
WANTED = "trained to finite values with a report and no stray warning, or exit code 2 and a line that names the column"

CPU_SECONDS = 90
"""Of processor time: other work may share the cores."""
Change = Callable[[int, dict[str, str]], object]
"""Changes a row of the training table in place."""
TINY_CHARACTERS: dict[str, Any] = {"type": "character"}


@dataclass(frozen=True)
class Trial:
    """A table that is changed row by row, and what is to come of it.

    `refused`: what the line of exit code 2 says; None: the run trains. `test` and `validation` are applied to those
    tables as well (the training table is used for both where `validation` is given).
    """

    change: Change = lambda row, cells: None
    refused: str | None = None
    outputs: Mapping[str, Any] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 24
    validation: Change | None = None
    validation_rows: int = 8
    test: Change | None = None
    """None: as the training table."""


def _times(scale: float, row: int) -> float:
    return scale * (row % 7 + 1)


def _score(value: Callable[[int], object]) -> Change:
    return lambda row, cells: cells.update(score=str(value(row)))


def _at(number: int, value: str, column: str = "score") -> Change:
    return lambda row, cells: cells.update({column: value}) if row == number else None


def _text(value: Callable[[int], str]) -> Change:
    return lambda row, cells: cells.update(text=value(row))


REGRESSION = {"score": {"type": "regression", "column": "score"}}
MOOD = {"mood": {"type": "classification", "column": "mood"}}
RAW = {"score": {"type": "regression", "column": "score", "standardize": False}}
NEEDS_TEXTS: dict[str, dict[str, Any]] = {
    "masked_lm": {"lm": {"type": "masked_lm"}},
    "causal_lm": {"lm": {"type": "causal_lm", "generation": {"max_new_tokens": 3}}},
    "tags": {"tags": {"type": "token_classification", "column": "tags"}},
    "seq2seq_lm": {"out": {"type": "seq2seq_lm", "column": "mood", "max_length": 8}},
    "span_corruption": {"out": {"type": "span_corruption"}},
}
MODELS = {"causal_lm": "gpt2", "seq2seq_lm": "t5", "span_corruption": "t5"}
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 8, "n_layer": 1, "n_head": 2},
    "t5": {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2},
}


def _number_trials() -> dict[str, Trial]:
    scales = {name: float(name) for name in ("1e-300", "1e-40", "1e-9", "1e6", "1e15", "1e29")}
    found = {f"scale {name}": Trial(_score(partial(_times, s))) for name, s in scales.items()}
    found |= {
        f"scale 1e-300, loss {loss}": Trial(
            _score(lambda row: 1e-300 * (row % 7 + 1)), outputs={"score": {**REGRESSION["score"], "loss": loss}}
        )
        for loss in ("mae", "huber")
    }
    found |= {
        "one 1e300": Trial(_at(3, "1e300"), "'score'"),
        "one 1e31": Trial(_at(3, "1e31"), "'score'"),
        "one 1e400": Trial(_at(3, "1e400"), "'score'"),
        **{f"one {word}": Trial(_at(3, word), "'score'") for word in ("inf", "-inf", "Infinity", "nan", "NaN")},
        "one infinite test row": Trial(test=_at(3, "inf"), refused="'score' is 'inf', infinite"),
        "one huge test row": Trial(test=_at(3, "1e300"), refused="'score'"),
        "thousands separators": Trial(_score(lambda row: f"1,{row:03}.5"), "'score'"),
        "spaces": Trial(_at(3, "1 000"), "'score' is '1 000', not a number"),
        "underscores": Trial(_at(3, "1_000"), "'score' is '1_000', not a number"),
        "negative zero": Trial(_score(lambda row: "-0.0" if row % 2 else "0.5")),
        "zeros of both signs": Trial(_score(lambda row: "-0.0" if row % 2 else "0.0"), "nothing to learn"),
        "constant": Trial(_score(lambda row: 3), "nothing to learn"),
        "constant, not standardized": Trial(_score(lambda row: 3), "nothing to learn", outputs=RAW),
        "constant in test": Trial(test=_score(lambda row: 3)),
        "constant in validation": Trial(validation=_score(lambda row: 3)),
        "all but one the same": Trial(_score(lambda row: 3 + (row == 5))),
        "tiny, not standardized": Trial(_score(lambda row: 1e-300 * (row + 1)), "standardize=true", outputs=RAW),
        "huge, not standardized": Trial(_score(lambda row: 1e28 * (row + 1)), "standardize=true", outputs=RAW),
        "denormal": Trial(_score(lambda row: 5e-324 * (row % 2 + 1)), "'score'"),
        "beyond 2^53": Trial(_score(lambda row: 2**53 + row)),
        "beyond 2^63": Trial(_score(lambda row: 2**64 + row * 4096)),
        "one bit apart": Trial(_score(lambda row: repr(1 + (row % 2) * 2.3e-16))),
        "a test row far away": Trial(
            _score(lambda row: 1e-300 * (row % 7)), "1e+15 standard deviations", test=_score(lambda _: 1)
        ),
        "1e-30 beside 1e30": Trial(_score(lambda row: (1e-30, 1e30)[row % 2])),
    }
    return {name: t if t.outputs else _with(t, outputs=REGRESSION) for name, t in found.items()}


def _row_trials() -> dict[str, Trial]:
    both = {**REGRESSION, **MOOD}
    found = {
        "one training row, regression": Trial(rows=1, refused="'score'", outputs=REGRESSION, validation=_nothing),
        "one training row, classes": Trial(rows=1, refused="'mood'", outputs=MOOD, validation=_nothing),
        "two training rows": Trial(rows=2, outputs=both, validation=_nothing),
        "one validation row": Trial(outputs=both, validation=_nothing, validation_rows=1),
        "one class": Trial(lambda row, cells: cells.update(mood="good"), "'mood'", outputs=MOOD),
        "one class in validation": Trial(
            outputs=MOOD, validation=lambda row, cells: cells.update(mood="good"), validation_rows=6
        ),
        "a class only in validation": Trial(
            outputs=MOOD, validation=_at(3, "other", "mood"), refused="'other' of 'mood'"
        ),
        "a class only in test": Trial(outputs=MOOD, test=_at(3, "other", "mood"), refused="'other' of 'mood'"),
        "a class of one row": Trial(_at(3, "rare", "mood"), outputs=MOOD, validation=_nothing),
        "balanced weights of a class of one row": Trial(
            _at(3, "rare", "mood"),
            outputs={"mood": {**MOOD["mood"], "class_weights": "balanced"}},
            validation=_nothing,
        ),
        "classes that are large integers": Trial(
            lambda row, cells: cells.update(mood=str(2**63 + row % 2)), outputs=MOOD, test=_large_class
        ),
        "an empty text": Trial(_at(3, "", "text"), "'text'", outputs=both),
        "only blanks": Trial(_at(3, " \u00a0 ", "text"), "'text'", outputs=both),
    }
    vocabularies = {
        "one word": _text(lambda row: "word"),
        "one character": _text(lambda row: "x"),
        "a million characters": _text(lambda row: "x" * 1_000_000 if row == 3 else "y x"),
        "a million words": _text(lambda row: "x " * 500_000 if row == 3 else "y x"),
    }
    for what, change in vocabularies.items():
        for kind in ("word", "character", "bpe", "unigram", "wordpiece"):
            size = {"vocab_size": 300} if kind in ("bpe", "unigram", "wordpiece") else {}
            found[f"{what}, {kind}"] = Trial(
                change, outputs=both, changes={"tokenizer": {"type": kind, **size}}, test=change
            )
        for kind, outputs in NEEDS_TEXTS.items():
            tags: Change = partial(_tagged, change, kind == "tags")
            found[f"{what}, {kind}"] = Trial(tags, outputs=outputs, changes={"task": kind}, test=tags)
    for kind, outputs in NEEDS_TEXTS.items():
        tags = partial(_tagged, _nothing, kind == "tags")
        found[f"one training row, {kind}"] = Trial(
            tags, outputs=outputs, changes={"task": kind}, rows=1, validation=tags, test=tags, refused=ONE_ROW.get(kind)
        )
        found[f"one validation row, {kind}"] = Trial(
            tags, outputs=outputs, changes={"task": kind}, validation=tags, validation_rows=1, test=tags
        )
    return found


ONE_ROW: dict[str, str] = {}
"""Kinds of outputs that cannot learn from one row, and what says so."""


def _nothing(row: int, cells: dict[str, str]) -> None:
    """As it is."""


def _tagged(change: Change, lists: bool, row: int, cells: dict[str, str]) -> None:
    change(row, cells)
    words = cells["text"].split() or ["x"]
    cells["tags"] = json.dumps([("B-A", "O")[(row + number) % 2] for number in range(len(words))])
    if lists:
        cells["text"] = json.dumps(words)


def _large_class(row: int, cells: dict[str, str]) -> None:
    cells["mood"] = str(2**63 + row % 2)


def _with(trial: Trial, **changes: Any) -> Trial:
    return Trial(**{**vars(trial), **changes})


def cases(seed: int, share: float) -> Sequence[Case]:
    """All trials, or a sample of them."""
    trials = {**_number_trials(), **_row_trials()}
    names = random.Random(seed).sample(list(trials), max(1, round(len(trials) * share))) if share < 1 else list(trials)
    return [Case(name, partial(tried, trials[name])) for name in names]


def tried(trial: Trial, folder: Path) -> str | None:
    """Train on the changed tables."""
    assert trial.outputs is not None
    task = trial.changes.get("task")
    model = MODELS.get(str(task), "bert")
    source: dict[str, Any] = {"type": "sequence", "column": "text", "max_length": 16}
    source |= {name: trial.changes[name] for name in ("tokenizer",) if name in trial.changes}
    source |= {"is_split_into_words": True} if task == "tags" else {}
    source["model"] = {"model_type": model}
    experiment: dict[str, Any] = {"outputs": dict(trial.outputs), "trainer": {"max_epochs": 1}, "fusion": None}
    words = small(folder, rows=trial.rows)
    path = folder / "conf" / "experiment" / "small.yaml"
    content = yaml.safe_load(path.read_text())
    source["model"]["model_init_config"] = SIZES.get(model) or content["inputs"]["text"]["model"]["model_init_config"]
    content["inputs"], content["outputs"] = {"text": source}, experiment["outputs"]
    content["trainer"]["max_epochs"] = 1
    if task in ("masked_lm", "causal_lm", "tags", "seq2seq_lm", "span_corruption"):
        content.pop("fusion")
    if trial.validation is not None:
        _rewrite(folder / "train.csv", trial.validation, folder / "validation.csv", trial.validation_rows)
        content["data"]["validation"] = "validation.csv"
    path.write_text("# @package _global_\n" + yaml.safe_dump(content, sort_keys=False))
    _rewrite(folder / "train.csv", trial.change, folder / "train.csv", trial.rows)
    _rewrite(folder / "test.csv", trial.test or trial.change, folder / "test.csv", 12)
    bound = partial(resource.setrlimit, resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    ended = command(words, folder, prepare=bound, seconds=10 * CPU_SECONDS, drawings=True)
    if trial.refused is not None:
        wrong = ended.fault([2])
        said = lines(ended.err)
        if wrong is None and (len(said) > 24 or any(trial.refused not in line and line[:3] != "..." for line in said)):
            return f"said {ended.err.strip()[-400:]}"
        return wrong or ("a run folder was made" if (folder / "run").exists() else None)
    if (wrong := ended.fault([0])) is not None:
        return wrong
    if ended.err:
        return f"said {ended.err.strip()[-400:]}"
    run = folder / "run"
    for row in csv.DictReader((run / "metrics.csv").open(newline="")):
        if not math.isfinite(float(row["value"])):
            return f"{row['metric']} is {row['value']}"
    json.loads((run / "result.json").read_text(), parse_constant=lambda word: 1 / 0)
    return None if (run / "report" / "index.html").is_file() else "no report"


def _rewrite(source: Path, change: Change, target: Path, count: int) -> None:
    """The first rows of a table, changed."""
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    while len(rows) < count:
        rows += [dict(row) for row in rows[: count - len(rows)]]
    for number, row in enumerate(rows[:count]):
        row["id"] = f"{target.stem}-{number}"
        change(number, row)
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[:count])
