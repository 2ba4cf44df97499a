"""Whether every fusion learns what bare mean pooling learns: ``python -m tests.benchmarks.fusion``.

Every architecture of the catalogue, tiny, learns three easy tasks from 180 rows in 48 steps, several seeds each: once
with mean pooling and a linear layer and nothing between them (`bare`), and with each fusion. Encoders begin with the
same weights and see the same batches, so that differences come from the fusion. Results are kept in a JSON file; a
second call computes what is missing there.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import itertools
import json
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.module import EpochSampler
from eir_seq.errors import UserError
from eir_seq.models import list_models
from eir_seq.randomness import derive_seed
from eir_seq.training.assemble import Parts, assemble
from eir_seq.training.console import Console
from eir_seq.training.evaluation import evaluate
from eir_seq.training.objective import batch_loss
from eir_seq.training.optimization import build_optimizer, learning_rate_factor
from tests.models.tiny import OPTIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "fusion.md"
RESULTS = ROOT / "runs" / "benchmarks" / "fusion.json"
ROWS, HELD_OUT, BATCH, STEPS = 180, 100, 15, 48
SECONDS = 1.2
"""Of a cell with two inputs, about, on one core that does nothing else; with one input half of it."""

FUSIONS: dict[str, dict[str, Any]] = {
    "auto": {"type": "auto"},
    "concat": {"type": "concat"},
    "linear": {"type": "linear"},
    "mlp-residual": {"type": "mlp-residual"},
    "mlp-residual-sum": {"type": "mlp-residual-sum"},
    "attention": {"type": "attention"},
    "attention over states": {"type": "attention", "over": "states"},
    "cross-attention": {"type": "cross-attention"},
    "gated-experts": {"type": "gated-experts"},
}
BARE = "bare"
OWN = {"splinter": {"question_token_id": 0}}
"""Options of tokens that the small vocabularies here lack."""
KINDS = {"good": ("bright", "warm", "kind"), "bad": ("grey", "cold", "rude")}
OTHERS = ("day", "and", "a")


@dataclass(frozen=True)
class Task:
    """`row` makes the texts and the target of a row; `bar` is the score from which a model has learned the task."""

    inputs: int
    output: dict[str, Any]
    metric: str
    bar: float
    row: Callable[[random.Random, int], tuple[list[str], str]]


def words_among_others(draw: random.Random, row: int) -> tuple[list[str], str]:
    """Words of one of two kinds among others: which kind."""
    kind = ("bad", "good")[row % 2]
    return [" ".join(draw.choice((*KINDS[kind], *OTHERS)) for _ in range(draw.randint(6, 14)))], kind


def share_of_words(draw: random.Random, row: int) -> tuple[list[str], str]:
    """Words of two kinds: the share of the first."""
    words, share = draw.randint(6, 14), draw.random()
    chosen = ["good" if draw.random() < share else "bad" for _ in range(words)]
    return [" ".join(draw.choice(KINDS[kind]) for kind in chosen)], f"{chosen.count('good') / words:.4f}"


def majority_of_two(draw: random.Random, row: int) -> tuple[list[str], str]:
    """Words of two kinds in two texts: which kind has three quarters of all words."""
    kind, other = ("bad", "good") if row % 2 else ("good", "bad")
    words = draw.choice((8, 12, 16))
    chosen = [kind] * (3 * words // 4) + [other] * (words // 4)
    draw.shuffle(chosen)
    said = [draw.choice(KINDS[name]) for name in chosen]
    return [" ".join(said[: words // 2]), " ".join(said[words // 2 :])], kind


TASKS = {
    "words": Task(1, {"type": "classification", "column": "target"}, "accuracy", 0.9, words_among_others),
    "share": Task(1, {"type": "regression", "column": "target"}, "r2", 0.8, share_of_words),
    "majority": Task(2, {"type": "classification", "column": "target"}, "accuracy", 0.9, majority_of_two),
}


@dataclass(frozen=True)
class Cell:
    """One training."""

    model_type: str
    task: str
    seed: int
    fusion: str
    lr: float

    def __str__(self) -> str:
        return f"{self.model_type} {self.task} {self.seed} {self.fusion} {self.lr:g}"


def write_table(path: Path, task: Task, rows: int, seed: int) -> None:
    """Columns ``text0``, ``text1`` and ``target``."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"text{place}" for place in range(task.inputs)), "target"])
        for row in range(rows):
            texts, target = task.row(draw, row)
            writer.writerow([*texts, target])


def sizes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a tiny model without what follows from the tokenizer."""
    own = {key: x for key, x in options.items() if not key.endswith("token_id") and key != "vocab_size"}
    return {key: sizes(x) if isinstance(x, Mapping) else x for key, x in own.items()}


def experiment(cell: Cell, folder: Path) -> ExperimentConfig:
    """The cell as an experiment."""
    task = TASKS[cell.task]
    for split, rows in (("train", ROWS), ("validation", HELD_OUT)):
        if not (path := folder / f"{cell.task}-{split}.csv").exists():
            write_table(path, task, rows, seed=rows)
    options = sizes(OPTIONS[cell.model_type]) | OWN.get(cell.model_type, {})
    model = {"model_type": cell.model_type, "model_init_config": options}
    text = {"type": "sequence", "max_length": 16, "tokenizer": {"type": "word"}, "model": model}
    return ExperimentConfig.model_validate(
        {
            "seed": cell.seed,
            "data": {
                "train": str(folder / f"{cell.task}-train.csv"),
                "validation": str(folder / f"{cell.task}-validation.csv"),
                "batch_size": BATCH,
                "cache_dir": str(folder / "cache"),
            },
            "inputs": {f"text{place}": {**text, "column": f"text{place}"} for place in range(task.inputs)},
            "fusion": FUSIONS["concat" if cell.fusion == BARE else cell.fusion],
            "outputs": {"target": task.output},
            "optimizer": {"type": "adamw", "lr": cell.lr},
            "trainer": {"accelerator": "cpu"},
        }
    )


def score(cell: Cell, folder: Path) -> float:
    """What the trained model reaches on held-out rows."""
    config, task = experiment(cell, folder), TASKS[cell.task]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()), Console() as console:
        parts = assemble(config, console)
    if cell.fusion == BARE:
        (key,) = parts.network.heads
        torch.manual_seed(derive_seed(cell.seed, "bare"))
        width = sum(encoder.output_size for encoder in parts.network.encoders.values())  # type: ignore[misc]
        parts.network.heads[key] = nn.Linear(width, parts.outputs["target"].output_size)
    learn(config, parts)
    found = evaluate(parts.network, parts.outputs, parts.batches("validation"), device=torch.device("cpu"))
    return found.values.get(("target", task.metric), 0.0)


def learn(config: ExperimentConfig, parts: Parts) -> None:
    """Train as a run does, without its files."""
    network, train = parts.network.train(), parts.data.encoded["train"]
    optimizer = build_optimizer(network, config.optimizer, fused=False)
    rates = [group["lr"] for group in optimizer.param_groups]
    factor = learning_rate_factor(config.scheduler, STEPS)
    sampler = parts.data.train_dataloader().sampler
    assert isinstance(sampler, EpochSampler)
    epochs = (sampler.batches(epoch) for epoch in itertools.count())
    batches = ((epoch, rows) for epoch, epoch_rows in enumerate(epochs) for rows in epoch_rows)
    for step, (epoch, rows) in enumerate(itertools.islice(batches, STEPS)):
        torch.manual_seed(derive_seed(config.seed, "step", step))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor(step)
        key = type(next(iter(sampler)))(tuple(rows.tolist()), epoch)
        batch_loss(network, parts.outputs, train[key], torch.device("cpu")).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), config.trainer.gradient_clip or torch.inf)
        optimizer.step()
        optimizer.zero_grad()


# ------------------------------------------------------------------------------------------------------- the tables


def cells(arguments: argparse.Namespace) -> Iterator[Cell]:
    """All that were asked for; the fusions of one type stand together."""
    for model_type, task, seed in itertools.product(arguments.types, arguments.tasks, range(arguments.seeds)):
        for fusion in (BARE, *arguments.fusions):
            if fusion != "cross-attention" or TASKS[task].inputs > 1:
                yield Cell(model_type, task, seed, fusion, arguments.lr)


def measure(wanted: Sequence[Cell], path: Path) -> dict[str, float | None]:
    """Scores by cell, None where an architecture refuses; what the file at `path` holds is not computed again."""
    done: dict[str, float | None] = json.loads(path.read_text()) if path.exists() else {}
    missing = [cell for cell in wanted if str(cell) not in done]
    if not missing:
        return done
    expected = sum(SECONDS * TASKS[cell.task].inputs / 2 for cell in missing)
    print(f"{len(missing):,} of {len(wanted):,} cells to compute, about {expected / 60:.0f} minutes", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    start, kept = time.monotonic(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for number, cell in enumerate(missing, 1):
            try:
                done[str(cell)] = score(cell, Path(folder))
            except UserError as error:
                print(f"{cell}: {error}", flush=True)
                done[str(cell)] = None
            if time.monotonic() - kept > 10 or number == len(missing):
                partial = path.with_suffix(".partial")
                partial.write_text(json.dumps(done, indent=0))
                partial.replace(path)
                kept = time.monotonic()
                left = (kept - start) / number * (len(missing) - number)
                print(f"{number:,} of {len(missing):,}, {left / 60:.0f} minutes left", flush=True)
    return done


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def means(
    scores: Mapping[str, float | None], fusion: str, task: str, arguments: argparse.Namespace
) -> dict[str, float]:
    """By type the mean over seeds; without types that refuse, or were not measured."""
    found = {}
    for model_type in arguments.types:
        own = [scores.get(str(Cell(model_type, task, seed, fusion, arguments.lr))) for seed in range(arguments.seeds)]
        known = [value for value in own if value is not None]
        if len(known) == arguments.seeds:
            found[model_type] = statistics.mean(known)
    return found


def by_fusion(scores: Mapping[str, float | None], arguments: argparse.Namespace) -> str:
    """Over all types: mean score, types that have not learned the task, and types behind `bare`."""
    rows = []
    for task, fusion in itertools.product(arguments.tasks, (BARE, *arguments.fusions)):
        bare, own = (means(scores, name, task, arguments) for name in (BARE, fusion))
        if not own:
            continue
        below = sum(value < TASKS[task].bar for value in own.values())
        lost = [name for name in own if own[name] < TASKS[task].bar <= bare.get(name, 0)]
        gained = sum(bare.get(name, 0) < TASKS[task].bar <= own[name] for name in own)
        values = [f"{statistics.mean(own.values()):.3f}", str(len(own)), str(below), str(len(lost)), str(gained)]
        rows.append([task, fusion, *values])
    return table(("task", "fusion", "mean", "types", "not learned", "of these by bare", "by this, not by bare"), rows)


def by_type(scores: Mapping[str, float | None], arguments: argparse.Namespace) -> str:
    """Types that some fusion has not learned: the mean over seeds, task by task."""
    shown = (BARE, *arguments.fusions)
    rows = []
    for task in arguments.tasks:
        found = {fusion: means(scores, fusion, task, arguments) for fusion in shown}
        for model_type in arguments.types:
            values = [found[fusion].get(model_type) for fusion in shown]
            if any(value is not None and value < TASKS[task].bar for value in values):
                rows.append([model_type, task, *("" if value is None else f"{value:.2f}" for value in values)])
    return table(("architecture", "task", *shown), rows)


def put(tables: Mapping[str, str]) -> None:
    """Between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        assert found, f"{PAGE} has no marks of {name}"
        assert closed, f"{PAGE} has no marks of {name}"
        page = f"{before}{begin}{lines}\n{end}{after}"
    PAGE.write_text(page, encoding="utf-8")


def main() -> None:
    """Compute what is missing, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fusion", description=__doc__)
    parser.add_argument("--types", nargs="+", default=list(list_models()), metavar="TYPE", help="by default all")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, help="by default all")
    parser.add_argument("--fusions", nargs="+", default=list(FUSIONS), choices=FUSIONS, help="by default all")
    parser.add_argument("--seeds", type=int, default=3, help="so many, from 0 on")
    parser.add_argument("--lr", type=float, default=0.01, help="learning rate of AdamW")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help=f"default: {RESULTS}")
    parser.add_argument("--tables", action="store_true", help="compute nothing: the tables of what there is")
    parser.add_argument("--write", action="store_true", help=f"also into {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    wanted = [] if arguments.tables else list(cells(arguments))
    scores = measure(wanted, arguments.results)
    tables = {"fusions": by_fusion(scores, arguments), "architectures": by_type(scores, arguments)}
    for lines in tables.values():
        print(f"\n{lines}")
    if arguments.write:
        put(tables)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
