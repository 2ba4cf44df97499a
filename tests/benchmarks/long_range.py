"""What texts of many lengths cost in the long-range architectures: ``python -m tests.benchmarks.long_range``.

Every number is measured in a process of its own (a fork of one that has computed nothing), so that nothing is left over
from another. Time is that of the process on all its cores; sides that are compared take turns in one process, and a
ratio is the median over rounds of (their time / our time). Memory is the peak of a training step, gradients included,
beyond the model. An exponent is the slope of a line through the logarithms of lengths and of times (or of memory): 1
for cost in proportion to the length, 2 for its square.

``--write`` puts the tables between the marks of docs/long_range.md.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.commands.bench.clock import timed
from eir_seq.models import create_model, list_models
from eir_seq.models.layers.attention import windows

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "long_range.md"
LENGTHS = (1024, 2048, 4096, 8192, 16384)
SHORT = (64, 128, 256, 512, 1024)
LONGEST_OF_REFERENCE = 4096
DEPTHS = (2, 4, 8)
TABLES = ("long", "reference", "whole", "dense", "depths")
VOCABULARY, WIDTH, LAYERS, HEADS, INNER, WRITTEN = 1000, 128, 2, 4, 512, 16
BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "max_position_embeddings": LENGTHS[-1] + 2,
}
BART = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    **{f"{side}_layers": LAYERS for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": HEADS for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": INNER for side in ("encoder", "decoder")},
    "max_position_embeddings": LENGTHS[-1],
}
T5 = {"vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": WIDTH // HEADS, "d_ff": INNER, "num_layers": LAYERS,
      "num_heads": HEADS}  # fmt: skip
LED = {**{name: value for name, value in BART.items() if name != "max_position_embeddings"},
       "max_encoder_position_embeddings": LENGTHS[-1], "max_decoder_position_embeddings": 1024}  # fmt: skip
REFORMER = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "attention_head_size": WIDTH // HEADS,
    "feed_forward_size": INNER,
    "attn_layers": ["local", "lsh"],
    "axial_pos_embds": False,
    "max_position_embeddings": LENGTHS[-1],
}
MEGA = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 2 * WIDTH,
    "nffn_hidden_size": INNER,
    "max_positions": LENGTHS[-1],
}


def _as_long(name: str) -> Callable[[int], dict[str, Any]]:
    return lambda length: {name: length}


@dataclass(frozen=True)
class Subject:
    """`own(length)`: options that follow from the length. `dense`: model type and options of dense attention.

    `longest`: of the table of long texts. `reference`: class of the reference, None where it has none that works here.
    """

    model_type: str
    reference: str | None
    options: dict[str, Any]
    dense: tuple[str, dict[str, Any]]
    own: Callable[[int], dict[str, Any]] = lambda _: {}
    longest: int = LENGTHS[-1]

    @property
    def task(self) -> str:
        """What is built."""
        return "encoder" if self.model_type == "longt5" else "base"


POOLED = {"attention_type": "original_full"}
SUBJECTS = {
    "longformer": Subject("longformer", "LongformerModel", BERT, ("roberta", BERT)),
    "led": Subject("led", "LEDModel", LED, ("bart", BART)),
    "big_bird": Subject("big_bird", "BigBirdModel", BERT, ("big_bird", {**BERT, **POOLED})),
    "bigbird_pegasus": Subject("bigbird_pegasus", "BigBirdPegasusModel", BART, ("bigbird_pegasus", {**BART, **POOLED})),
    "longt5, local": Subject("longt5", "LongT5EncoderModel", T5, ("t5", T5)),
    "longt5, transient-global": Subject(
        "longt5", "LongT5EncoderModel", {**T5, "encoder_attention_type": "transient-global"}, ("t5", T5)
    ),
    "pegasus_x": Subject("pegasus_x", "PegasusXModel", BART, ("pegasus", BART)),
    "reformer": Subject(
        "reformer", "ReformerModel", REFORMER,
        ("reformer", {**REFORMER, "local_attn_chunk_length": LENGTHS[-1], "lsh_attn_chunk_length": LENGTHS[-1]}),
    ),
    "nystromformer": Subject(
        "nystromformer", "NystromformerModel", {**BERT, "num_landmarks": 64, "segment_means_seq_len": 1024},
        ("nystromformer", {**BERT, "num_landmarks": 64, "segment_means_seq_len": 64}),
        own=lambda length: {"segment_means_seq_len": max(length, 1024)},
    ),
    "yoso, expectation": Subject("yoso", "YosoModel", BERT, ("bert", BERT), longest=LONGEST_OF_REFERENCE),
    "yoso, hashing": Subject("yoso", None, {**BERT, "use_expectation": False, "num_hash": 32}, ("bert", BERT)),
    "mra": Subject("mra", None, BERT, ("bert", BERT), own=_as_long("max_position_embeddings")),
    "mega": Subject("mega", None, {**MEGA, "use_chunking": True, "chunk_size": 128}, ("mega", MEGA)),
}  # fmt: skip


CUT = ("longformer", "led", "longt5, local", "longt5, transient-global")
"""Those whose texts are taken whole or in pieces, by their length."""


def known() -> list[str]:
    """Those of the catalogue."""
    return [name for name, subject in SUBJECTS.items() if subject.model_type in list_models()]


def ours(subject: Subject, length: int, **more: Any) -> nn.Module:
    """Our model with fresh weights."""
    torch.manual_seed(0)
    return create_model(subject.model_type, {**subject.options, **subject.own(length), **more}, task=subject.task)


def dense(subject: Subject) -> nn.Module:
    """Ours of the same size with attention of all to all."""
    torch.manual_seed(0)
    model_type, options = subject.dense
    return create_model(model_type, options, task="encoder" if model_type == "t5" else "base")


def taken_whole(step: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
    """The same step with one table of all pairs, masked, however long the text is."""
    usual = windows.LEAST_PIECE

    def run(ids: Tensor) -> None:
        windows.LEAST_PIECE = ids.shape[1]
        try:
            step(ids)
        finally:
            windows.LEAST_PIECE = usual

    return run


def theirs(subject: Subject, length: int) -> nn.Module:
    """The reference's."""
    import transformers

    transformers.logging.set_verbosity_error()
    assert subject.reference is not None
    own = subject.own(length)
    axes = {"axial_pos_shape": [length // 64, 64]} if subject.model_type == "reformer" else {}
    config = transformers.CONFIG_MAPPING[subject.model_type](**{**subject.options, **own, **axes})
    model: nn.Module = getattr(transformers, subject.reference)(config)
    return model


def pass_of(model: nn.Module, *, train: bool) -> Callable[[Tensor], None]:
    """Forward and backward, or forward alone, of one text that has no padding."""
    model.train(train)
    writes = any(name.startswith(("decoder.", "body.decoder.")) for name, _ in model.named_modules())

    config: Any = model.config
    marks = config.model_type in ("longformer", "led")

    def run(ids: Tensor) -> None:
        given = {"input_ids": ids} | ({"decoder_input_ids": ids[:, :WRITTEN]} if writes else {})
        if marks:
            given["global_attention_mask"] = (torch.arange(ids.shape[1]) == 0).long()[None]
        with torch.set_grad_enabled(train):
            states = model(**given).last_hidden_state
            if train:
                states.square().mean().backward()
                model.zero_grad(set_to_none=True)

    return run


def status(name: str) -> int:
    """Kilobytes of this process by their name in /proc."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[0])


def text(length: int) -> Tensor:
    """Random tokens (1, length)."""
    return torch.randint(11, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(length))


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function gives in a fork of this process; this one must not have computed anything."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def work() -> None:
        send.send(function(*arguments))

    process = context.Process(target=work)
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        sys.exit(f"{function.__name__}{arguments}: failed, see above")
    finally:
        process.join()


def peak(name: str, length: int, side: str, more: dict[str, Any], training: bool = True) -> float:
    """Megabytes that a step needs beyond the model; without `training`, dropout is off and gradients are not."""
    subject = SUBJECTS[name]
    model = theirs(subject, length) if side == "theirs" else ours(subject, length, **more)
    step = pass_of(model, train=True)
    model.train(training)
    ids = text(length)
    before = status("VmRSS")
    step(ids)
    return (status("VmHWM") - before) / 1024


def compare(name: str, length: int, against: str | None, rounds: int) -> dict[str, dict[str, tuple[float, ...]]]:
    """Median times of ours (cpu, wall) and median ratios, in training and inference."""
    subject = SUBJECTS[name]
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for kind in ("training", "inference"):
        train = kind == "training"
        sides = {"ours": pass_of(ours(subject, length), train=train)}
        if against == "whole":
            sides[against] = taken_whole(pass_of(ours(subject, length), train=train))
        elif against is not None:
            other = dense(subject) if against == "dense" else theirs(subject, length)
            sides[against] = pass_of(other, train=train)
        ids = text(length)
        spent: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for number in range(rounds + 1):
            for side in random.Random(number).sample(list(sides), len(sides)):
                seconds = timed(partial(sides[side], ids))
                if number:  # the first round warms up
                    spent[side].append(seconds)
        found[kind] = {"ours": tuple(statistics.median(times) for times in zip(*spent["ours"], strict=True))}
        if against is not None:
            pairs = list(zip(spent[against], spent["ours"], strict=True))
            found[kind]["ratio"] = tuple(statistics.median(b[clock] / a[clock] for b, a in pairs) for clock in (0, 1))
    return found


def exponent(lengths: Iterable[int], values: Iterable[float]) -> float:
    """Slope of the line through the logarithms."""
    x, y = ([math.log(value) for value in series] for series in (lengths, values))
    return statistics.linear_regression(x, y).slope


def row(*cells: object) -> str:
    """A line of a table, told as soon as it is known."""
    line = "| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"
    print(line, file=sys.stderr, flush=True)
    return line


def table(head: Iterable[object], rows: Iterable[str]) -> str:
    """A whole table."""
    cells = [*head]
    return "\n".join((row(*cells), "|" + "---|" * len(cells), *rows))


def rounds_of(length: int) -> int:
    """More where a step is short."""
    return max(1, min(5, 4096 // length))


def long_texts(names: list[str], lengths: list[int]) -> str:
    """Times and memory by length, with exponents."""
    rows = []
    for name in names:
        measured = [length for length in lengths if length <= SUBJECTS[name].longest]
        times = [apart(compare, name, length, None, min(2, rounds_of(length))) for length in measured]
        series = {
            f"{kind}, {clock}, s": [found[kind]["ours"][number] for found in times]
            for kind in ("training", "inference")
            for number, clock in enumerate(("cpu", "wall"))
        }
        series["memory, MB"] = [apart(peak, name, length, "ours", {}) for length in measured]
        for what, values in series.items():
            cells = [f"{value:.0f}" if "MB" in what else f"{value:.3g}" for value in values]
            cells += ["-"] * (len(lengths) - len(cells))
            rows.append(row(name, what, *cells, exponent(measured, values) if len(measured) > 1 else "-"))
    return table(("architecture", "", *lengths, "exponent"), rows)


def beside(names: list[str], lengths: list[int], against: str) -> str:
    """Ratios of processor time, and of memory with the reference."""
    rows = []
    for name in names:
        found = [apart(compare, name, length, against, rounds_of(length)) for length in lengths]
        for kind in ("training", "inference"):
            rows.append(row(name, kind, *(one[kind]["ratio"][0] for one in found)))
        if against == "theirs":
            sides = [[apart(peak, name, length, side, {}) for length in lengths] for side in ("theirs", "ours")]
            rows.append(row(name, "memory", *(b / a for b, a in zip(*sides, strict=True))))
    return table(("architecture", "", *lengths), rows)


def depths(length: int) -> str:
    """Memory of reformer by its number of layers, with and without keeping their states."""
    rows = []
    for training, what in ((True, "layers are undone (training)"), (False, "states are kept (evaluation)")):
        found = [
            apart(peak, "reformer", length, "ours", {"attn_layers": ["local", "lsh"] * (depth // 2)}, training)
            for depth in DEPTHS
        ]
        rows.append(row(what, *(f"{value:.0f}" for value in found), found[-1] / found[0]))
    return table((f"{length} tokens", *(f"{depth} layers, MB" for depth in DEPTHS), "ratio"), rows)


def put(tables: dict[str, str]) -> None:
    """Between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        assert found, f"{PAGE} has no marks of {name}"
        page = f"{before}{begin}{lines}\n{end}{after}"
    PAGE.write_text(page, encoding="utf-8")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.long_range", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*known(), []], metavar="name", help=", ".join(known()))
    parser.add_argument("--tables", nargs="+", choices=TABLES, help="by default all")
    parser.add_argument("--lengths", type=int, nargs="+", help="instead of the usual ones, in every table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help=f"also into {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads would burn time of the process on a busy machine
        command = [sys.executable, "-m", "tests.benchmarks.long_range", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    torch.set_num_threads(arguments.threads)
    names, wanted = arguments.names or known(), arguments.tables or TABLES
    asked = [name for name in names if SUBJECTS[name].reference]
    made = {
        "long": lambda: long_texts(names, arguments.lengths or [*LENGTHS]),
        "reference": lambda: beside(
            asked, arguments.lengths or [n for n in LENGTHS if n <= LONGEST_OF_REFERENCE], "theirs"
        ),
        "dense": lambda: beside(names, arguments.lengths or [*SHORT], "dense"),
        "whole": lambda: beside([n for n in names if n in CUT], arguments.lengths or [*SHORT], "whole"),
        "depths": lambda: depths(LONGEST_OF_REFERENCE),
    }
    tables = {}
    for name in wanted:
        tables[name] = made[name]()
        print(f"\n{name}\n\n{tables[name]}", flush=True)
    if arguments.write:
        put(tables)


if __name__ == "__main__":
    main()
