"""How fast and how large our models are beside the oracle's: ``python -m tests.benchmarks.architectures``.

Both sides take turns on the same batches in one process, so that the load of the machine falls on both alike. A ratio
is the median over rounds of (their time / our time); above one, ours is faster. Time is that of the process on all
its cores (`cpu`), which a busy machine disturbs least, and that of the clock (`wall`). Texts have the lengths of
movie reviews, their tokens are random. Theirs runs with padding to the longest text of a batch (`dynamic`), and to the
cap (`fixed`), each with its fastest attention and the same fused AdamW.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models import create_model
from eir_seq.models.layers.linear import onednn_is_faster
from eir_seq.samples import sample_path

ROOT = Path(__file__).parents[2]
VOCABULARY = 10_000
BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}


@dataclass(frozen=True)
class Subject:
    """`oracle`: class of the oracle; `dropouts`: options that --no-dropout sets to zero.

    `alone`: only measured when it is named.
    """

    model_type: str
    oracle: str
    options: dict[str, Any]
    dropouts: tuple[str, ...] = ()
    task: str = "base"
    alone: bool = False


HIDDEN_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
SUBJECTS = {
    subject.model_type: subject
    for subject in (
        Subject("bert", "BertModel", BERT, HIDDEN_DROPOUTS),
        Subject("roberta", "RobertaModel", {**BERT, "max_position_embeddings": 514}, HIDDEN_DROPOUTS),
        Subject(
            "distilbert",
            "DistilBertModel",
            {"vocab_size": VOCABULARY, "dim": 256, "n_layers": 4, "n_heads": 4, "hidden_dim": 1024},
            ("dropout", "attention_dropout"),
        ),
        Subject(
            "gpt2",
            "GPT2Model",
            {"vocab_size": VOCABULARY, "n_embd": 256, "n_layer": 4, "n_head": 4},
            ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
        ),
        Subject(
            "t5",
            "T5EncoderModel",
            {"vocab_size": VOCABULARY, "d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_heads": 4},
            ("dropout_rate",),
            task="encoder",
        ),
        Subject(
            "longformer",
            "LongformerModel",
            {**BERT, "num_hidden_layers": 2, "max_position_embeddings": 4098, "attention_window": 512},
            HIDDEN_DROPOUTS,
            alone=True,
        ),
        Subject(
            "mamba",
            "MambaModel",
            {"vocab_size": VOCABULARY, "hidden_size": 256, "num_hidden_layers": 2, "use_cache": False},
            alone=True,
        ),
        Subject(
            "rwkv",
            "RwkvModel",
            {"vocab_size": VOCABULARY, "hidden_size": 256, "num_hidden_layers": 2, "use_cache": False},
            alone=True,
        ),
    )
}
ALONE = ", ".join(name for name, subject in SUBJECTS.items() if subject.alone)


def review_lengths(path: Path, cap: int) -> list[int]:
    """Words and marks of each review, at most `cap`."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        return [min(cap, len(re.findall(r"\w+|[^\w\s]", row["text"]))) for row in csv.DictReader(file)]


def batches(lengths: list[int], texts: int, count: int) -> list[tuple[Tensor, Tensor]]:
    """Random ids and masks, padded to the longest text of each batch."""
    draw = random.Random(0)
    found = []
    for number in range(count):
        sizes = torch.tensor(draw.sample(lengths, texts))
        mask = (torch.arange(int(sizes.max()))[None] < sizes[:, None]).long()
        ids = torch.randint(11, VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(number))
        found.append((ids.masked_fill(mask == 0, 1), mask))
    return found


def widened(batch: tuple[Tensor, Tensor], length: int) -> tuple[Tensor, Tensor]:
    """The same texts padded to `length`."""
    ids, mask = batch
    missing = (0, length - ids.shape[1])
    return nn.functional.pad(ids, missing, value=1), nn.functional.pad(mask, missing)


def ours(subject: Subject, options: dict[str, Any]) -> nn.Module:
    """Our model with fresh weights."""
    return create_model(subject.model_type, options, task=subject.task)


def theirs(subject: Subject, options: dict[str, Any]) -> nn.Module:
    """The oracle's, with the attention that it picks itself."""
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.CONFIG_MAPPING[subject.model_type](**options)
    model: nn.Module = getattr(transformers, subject.oracle)(config)
    return model


def stepper(model: nn.Module, *, train: bool, global_first: bool) -> Callable[[tuple[Tensor, Tensor]], None]:
    """One training step (forward, backward, AdamW) or one forward pass."""
    model.train(train)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True) if train else None

    def step(batch: tuple[Tensor, Tensor]) -> None:
        ids, mask = batch
        extra = {}
        if global_first:
            extra["global_attention_mask"] = torch.zeros_like(mask)
            extra["global_attention_mask"][:, 0] = 1
        with torch.set_grad_enabled(train):
            state = model(input_ids=ids, attention_mask=mask, **extra).last_hidden_state
            if optimizer is not None:
                (state * mask[..., None]).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()

    return step


def timed(step: Callable[[Any], None], batch: Any) -> tuple[float, float]:
    """Seconds of the process and of the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    step(batch)
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(subject: Subject, arguments: argparse.Namespace, *, train: bool) -> str:
    """One line of the table."""
    options = options_of(subject, arguments)
    global_first = subject.model_type == "longformer"
    sides = {"ours": stepper(ours(subject, options), train=train, global_first=global_first)}
    their_step = stepper(theirs(subject, options), train=train, global_first=global_first)
    sides |= {"dynamic": their_step} | ({} if arguments.equal else {"fixed": their_step})
    data = batches(lengths_of(arguments), arguments.texts, arguments.rounds + 1)
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for number, batch in enumerate(data):
        for side in random.Random(number).sample(list(sides), len(sides)):
            given = widened(batch, arguments.cap) if side == "fixed" else batch
            spent = timed(sides[side], given)
            if number:  # the first round warms up
                times[side].append(spent)

    def ratio(side: str, clock: int) -> str:
        if side not in sides:  # all texts are as long as the cap
            return "="
        pairs = zip(times[side], times["ours"], strict=True)
        return f"{statistics.median(their[clock] / our[clock] for their, our in pairs):.2f}"

    real = [int(mask.sum()) for _, mask in data[1:]]
    rectangles = [mask.numel() for _, mask in data[1:]]
    speed = statistics.median(count / our[0] for count, our in zip(real, times["ours"], strict=True))
    cells = [subject.model_type, "training" if train else "inference", ratio("dynamic", 0), ratio("dynamic", 1)]
    cells += [ratio("fixed", 0), ratio("fixed", 1), f"{sum(real) / sum(rectangles):.2f}"]
    cells += [f"{sum(real) / (len(real) * arguments.texts * arguments.cap):.2f}", f"{speed:,.0f}"]
    return "| " + " | ".join(cells) + " |"


def options_of(subject: Subject, arguments: argparse.Namespace) -> dict[str, Any]:
    """Documented options of both sides."""
    width = {"hidden_size": arguments.width} if arguments.width else {}
    return {**subject.options, **width, **(dict.fromkeys(subject.dropouts, 0.0) if arguments.no_dropout else {})}


def lengths_of(arguments: argparse.Namespace) -> list[int]:
    """Lengths of real texts, or all equal."""
    return [arguments.cap] * arguments.texts if arguments.equal else review_lengths(arguments.reviews, arguments.cap)


def peak(subject: Subject, side: str, arguments: argparse.Namespace) -> None:
    """Print the megabytes that the first training step needs beyond the model, in this fresh process."""
    model = (ours if side == "ours" else theirs)(subject, options_of(subject, arguments))
    step = stepper(model, train=True, global_first=subject.model_type == "longformer")
    (batch,) = batches(lengths_of(arguments), arguments.texts, 1)
    before = status("VmRSS")
    step(batch)
    print(round((status("VmHWM") - before) / 1024))


def status(name: str) -> int:
    """Kilobytes of this process by their name in /proc."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[0])


def memory(subject: Subject, argv: list[str]) -> str:
    """One line of the table of memory: a fresh process for each side."""
    found = {}
    for side in ("ours", "theirs"):
        command = [sys.executable, "-m", "tests.benchmarks.architectures", subject.model_type, "--peak", side, *argv]
        found[side] = int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)
    return f"| {subject.model_type} | {found['ours']} | {found['theirs']} | {found['ours'] / found['theirs']:.2f} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.architectures", description=__doc__)
    parser.add_argument("models", nargs="*", choices=[*SUBJECTS, []], help=f"model types; by default all but {ALONE}")
    parser.add_argument("--texts", type=int, default=16, help="texts per batch")
    parser.add_argument("--cap", type=int, default=512, help="tokens of the longest text")
    parser.add_argument("--width", type=int, help="hidden_size, where it is an option of that name")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-dropout", action="store_true", help="without dropout (documented defaults otherwise)")
    reviews = parser.add_argument("--reviews", type=Path, default=sample_path("reviews"), metavar="FILE")
    reviews.help = "CSV with a column text, the lengths of which are taken (default: the sample that ships)"
    parser.add_argument("--equal", action="store_true", help="all texts as long as the cap")
    parser.add_argument("--memory", action="store_true", help="also the memory of a training step")
    parser.add_argument("--peak", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads would burn time of the process on a busy machine
        command = [sys.executable, "-m", "tests.benchmarks.architectures", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    torch.set_num_threads(arguments.threads)
    subjects = [SUBJECTS[name] for name in arguments.models] or [s for s in SUBJECTS.values() if not s.alone]
    if arguments.peak:
        peak(subjects[0], arguments.peak, arguments)
        return
    print(f"oneDNN: {onednn_is_faster()}, threads: {arguments.threads}, {arguments.texts} texts of <= {arguments.cap}")
    print("| model | | vs dynamic, cpu | wall | vs fixed, cpu | wall | fill, dynamic | fixed | real tokens / cpu s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for subject in subjects:
        for train in (True, False):
            print(compare(subject, arguments, train=train), flush=True)
    if arguments.memory:
        own = [f"--texts={arguments.texts}", f"--cap={arguments.cap}", f"--threads={arguments.threads}"]
        own += [f"--reviews={arguments.reviews}"]
        own += [f"--width={arguments.width}"] * bool(arguments.width)
        own += ["--no-dropout"] * arguments.no_dropout + ["--equal"] * arguments.equal
        print("| model | eir_seq, MB | transformers, MB | ratio |\n|---|---|---|---|")
        for subject in subjects:
            print(memory(subject, own), flush=True)


if __name__ == "__main__":
    main()
