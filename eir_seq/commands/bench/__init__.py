"""``bench``: how fast architectures are on this machine, alone or against transformers."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eir_seq.commands.parser import UserParser
from eir_seq.commands.tables import print_table
from eir_seq.config.folders import options_of as experiments_of
from eir_seq.config.overrides import parse_overrides
from eir_seq.config.packages import is_installed
from eir_seq.errors import Fault, RunFailed, UserError, nearest
from eir_seq.machine import importing
from eir_seq.models.catalogue import CATALOGUE, SYNONYMS, list_models
from eir_seq.samples import sample_path

if TYPE_CHECKING:
    from eir_seq.commands.bench.models import Setting
    from eir_seq.commands.bench.page import Measured

Measurement = Callable[[], list[Any]]
"""Gives the rows of one model."""
DEFAULT_TASK = "imdb_longformer"
PAGE = Path("docs/speed.md")
EPILOG = """\
examples:
  python -m eir_seq bench bert gpt2                        training and inference on texts of real lengths
  python -m eir_seq bench t5 --against transformers        outputs are compared first; ratios above 1: eir_seq is faster
  python -m eir_seq bench bert --lengths 256 --dtype bf16-mixed hidden_dropout_prob=0
  python -m eir_seq bench gpt2 llama --decode              tokens per second of generation
  python -m eir_seq bench --task                           samples per second of a whole training loop
  python -m eir_seq bench bert --task sst2_from_table data.train=FILE.csv

Times are seconds of the process on all its cores (cpu), which other work on the machine disturbs least; those of the
clock stand beside them as a ratio. `of peak` is the share of what large matrix products reach in the same rounds.
Options of the models are given as KEY=VALUE; with --task, these are keys of the experiment.
"""
DTYPES = ("float32", "bfloat16", "bf16-mixed")


def run(arguments: list[str]) -> int:
    """Measure, and print tables as they are made."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler announces itself on standard error; read once
    flags = parse(arguments)
    if flags.kernels:
        with importing():
            from eir_seq.commands.bench.products import show_kernels
        show_kernels(flags.threads)
        return 0
    with importing():
        from eir_seq.commands.bench import page
        from eir_seq.commands.bench.reference import check_installed
    if flags.against:
        check_installed()
    requests = list(_requests(flags))
    if flags.write is not None:
        page.check_page(flags.write, [name for name, _ in requests])
    measured: list[Measured] = []
    failures: list[str] = []
    for name, wanted in requests:
        table, measurements = _planned(name, wanted)
        measured.append(table)
        before = page.rows_in(flags.json, table) if flags.resume else {}
        for number, (model, measure) in enumerate(measurements, 1):
            if model in before:
                table.rows += before[model]
                continue
            if len(measurements) > 1 and sys.stderr.isatty():
                print(f"{name}: {model} ({number} of {len(measurements)})", file=sys.stderr, flush=True)
            try:
                table.rows += measure()
            except RunFailed as error:
                failures.append(str(error))
            if flags.json is not None:
                page.write_json(flags.json, measured)
        _show(table)
        if flags.write is not None and table.rows:
            page.write_page(flags.write, table)
    if failures:
        raise RunFailed("\n".join(failures))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags, names and overrides of a command line.

    Raises:
        UserError: unknown names, flags that do not go together.
    """
    parser = UserParser(
        prog="python -m eir_seq bench",
        usage="python -m eir_seq bench [NAME ...] [KEY=VALUE ...] [options]",
        description="How fast architectures of the catalogue are on this machine, at one size, with random weights.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="NAME", help="architectures (models list); KEY=VALUE: options")
    what = parser.add_argument_group("what is measured (default: a training step, and inference)")
    what.add_argument("--all", action="store_true", help="all architectures")
    what.add_argument("--against", choices=["transformers"], help="the same weights, batches and optimizer there")
    what.add_argument("--decode", action="store_true", help="generation: batch 1, batch 8, 4 beams")
    what.add_argument(
        "--task", nargs="?", const=DEFAULT_TASK, metavar="EXPERIMENT",
        help=f"the training loop of an experiment ({DEFAULT_TASK}), with each NAME in place of its model",
    )  # fmt: skip
    what.add_argument(
        "--head", default="base", metavar="TASK", help="with a head and its loss: lm, masked-lm, causal-lm, ..."
    )
    what.add_argument(
        "--lengths", type=_lengths, metavar="text|equal|N",
        help="tokens of texts: those of the shipped reviews (text), all equal to --cap (equal) or to N; "
        "with --decode those of the prompt (32)",
    )  # fmt: skip
    what.add_argument(
        "--kernels", action="store_true",
        help="products by both libraries that torch has for them; which one this machine uses from now on is kept",
    )  # fmt: skip
    sizes = parser.add_argument_group("sizes")
    sizes.add_argument("--texts", type=_count, default=8, metavar="N", help="texts of a batch (8)")
    sizes.add_argument("--cap", type=_count, default=512, metavar="N", help="tokens of the longest text (512)")
    sizes.add_argument("--width", type=_count, default=256, metavar="N", help="width of the states (256)")
    sizes.add_argument("--layers", type=_count, default=4, metavar="N", help="layers (4)")
    sizes.add_argument("--heads", type=_count, default=4, metavar="N", help="attention heads (4)")
    sizes.add_argument("--new", type=_count, default=64, metavar="N", help="tokens that --decode generates (64)")
    how = parser.add_argument_group("how")
    how.add_argument("--dtype", choices=DTYPES, default="float32", help="weights in float32 or bfloat16, or autocast")
    how.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where it is computed (cpu)")
    how.add_argument("--threads", type=_count, default=1, metavar="N", help="threads of torch (1)")
    how.add_argument("--rounds", type=_count, default=5, metavar="N", help="rounds in which sides alternate (5)")
    how.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to a file, model by model")
    how.add_argument("--resume", action="store_true", help="keep what --json FILE has of the same measurements")
    how.add_argument(
        "--write", nargs="?", const=PAGE, type=Path, metavar="PAGE",
        help=f"put the table between its marks in {PAGE}; with --all and no mode, every table of the page",
    )  # fmt: skip
    flags = parser.parse_intermixed_args(arguments)
    if flags.task is not None and "=" in flags.task:  # the first override of the default experiment
        flags.words, flags.task = [flags.task, *flags.words], DEFAULT_TASK
    flags.names = [word for word in flags.words if "=" not in word]
    flags.overrides = [word for word in flags.words if "=" in word]
    _check(flags)
    return flags


def _check(flags: argparse.Namespace) -> None:
    faults = [
        Fault(name, f"not an architecture of the catalogue{nearest(name, [*CATALOGUE, *SYNONYMS])}", "command line")
        for name in flags.names
        if SYNONYMS.get(name, name) not in CATALOGUE
    ]
    flags.names = list(dict.fromkeys(SYNONYMS.get(name, name) for name in flags.names))
    if flags.all and flags.names:
        faults.append(Fault("--all", "names no architectures beside it", "command line"))
    if flags.all:
        flags.names = list_models()
    if flags.resume and flags.json is None:
        faults.append(Fault("--resume", "needs --json FILE", "command line"))
    if flags.kernels and (flags.names or flags.all or flags.task or flags.decode):
        faults.append(Fault("--kernels", "is measured by itself", "command line"))
    if not (flags.names or flags.task or flags.kernels or faults):
        faults.append(Fault("NAME", "name architectures (bert gpt2), or --all", "command line"))
    if flags.task and (flags.decode or flags.against):
        other = "--decode" if flags.decode else "--against"
        faults.append(Fault("--task", f"does not go together with {other}", "command line"))
    if flags.task and flags.task not in (known := experiments_of("experiment")):
        faults.append(Fault("--task", f"{flags.task!r} is no experiment{nearest(flags.task, known)}", "command line"))
    if flags.width % flags.heads or flags.heads % 2:
        faults.append(Fault("--heads", f"{flags.heads} must be even and divide --width {flags.width}", "command line"))
    if flags.decode and isinstance(flags.lengths, str):
        faults.append(Fault("--lengths", "with --decode, write the tokens of the prompt", "command line"))
    if faults:
        raise UserError(*faults)


def _lengths(text: str) -> str | int:
    if text in ("text", "equal"):
        return text
    try:
        return _count(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not text, equal or a number of tokens") from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _requests(flags: argparse.Namespace) -> Iterator[tuple[str, argparse.Namespace]]:
    """The tables that are made, by the names of their marks in the page."""

    def with_flags(**changes: Any) -> argparse.Namespace:
        return argparse.Namespace(**{**vars(flags), **changes})

    if flags.task:
        yield "task", flags
    elif flags.decode:
        yield "decode", flags
    elif flags.lengths is not None or not (flags.all and flags.write):
        yield ("text" if flags.lengths in (None, "text") else "equal"), flags
    else:
        compared = "transformers" if is_installed("transformers") else flags.against
        yield "text", with_flags(against=compared)
        yield "equal", with_flags(against=compared, lengths=256)
        yield "decode", with_flags(against=compared, decode=True, names=["gpt2", "llama", "t5", "bart"])
        yield "task", with_flags(task=DEFAULT_TASK, overrides=[], names=["longformer", "bert", "albert"])


def _planned(name: str, flags: argparse.Namespace) -> tuple[Measured, list[tuple[str, Measurement]]]:
    """A table without rows, and what makes the rows of each model."""
    import torch

    from eir_seq.commands.bench import page

    torch.set_num_threads(flags.threads)
    if flags.device == "cuda" and not torch.cuda.is_available():
        raise UserError(Fault("--device", "torch finds no CUDA device", "command line"))
    about = page.machine(flags.threads, flags.device)
    if name == "task":
        from eir_seq.commands.bench.loop import LoopRow, measure_loop

        words = [f"experiment={flags.task}", *flags.overrides]
        caption = "Training loops: samples per second of the process, and where these seconds go."
        return page.Measured(name, caption, page.LOOP, LoopRow, about), [
            (model or flags.task, partial(lambda model: [measure_loop(words, model, flags.threads)], model))
            for model in flags.names or [None]
        ]
    setting = _setting(flags)
    sized = f"width {flags.width}, {flags.layers} layers, {flags.heads} heads, {flags.dtype}"
    if name == "decode":
        from eir_seq.commands.bench.decoding import DecodingRow, can_generate, measure_decoding

        prompt = flags.lengths or 32
        caption = f"Prompts of {prompt} tokens, {flags.new} new ones, {sized}."
        names = [model for model in flags.names if can_generate(model)] if flags.all else flags.names
        return page.Measured(name, caption, page.DECODING, DecodingRow, about), [
            (model, partial(measure_decoding, model, _with_options(setting, flags.overrides), prompt, flags.new))
            for model in names
        ]
    from eir_seq.commands.bench.models import Row, measure

    lengths = "with the lengths of reviews" if name == "text" else f"of {setting.size.length} tokens"
    caption = f"Batches of {flags.texts} texts {lengths}, {sized}."
    return page.Measured(name, caption, page.MODELS, Row, about), [
        (model, partial(measure, model, _with_options(setting, flags.overrides))) for model in flags.names
    ]


def _setting(flags: argparse.Namespace) -> Setting:
    import torch

    from eir_seq.commands.bench.models import Setting
    from eir_seq.commands.bench.subjects import Size, Texts, review_lengths

    cap = flags.lengths if isinstance(flags.lengths, int) else flags.cap
    lengths = review_lengths(sample_path("reviews"), cap) if flags.lengths in (None, "text") else (cap,)
    return Setting(
        size=Size(flags.width, flags.layers, flags.heads, cap),
        texts=Texts(lengths, flags.texts),
        options={},
        task=flags.head,
        dtype=torch.bfloat16 if flags.dtype == "bfloat16" else torch.float32,
        autocast=flags.dtype == "bf16-mixed",
        device=torch.device(flags.device),
        rounds=flags.rounds,
        against=flags.against is not None,
    )


def _with_options(setting: Setting, words: list[str]) -> Setting:
    """With options from the command line, which the model checks."""
    given = {override.key_or_group: override.value() for override in parse_overrides(words)}
    return replace(setting, options=given)


def _show(table: Measured) -> None:
    print_table(table.titles, table.cells, right=table.numbers)
    if table.summary():
        print(table.summary())
    for why in dict.fromkeys(f"{row.model}: {row.why}" for row in table.rows if getattr(row, "why", "")):
        print(why)
    print(f"{table.caption} {table.where}", flush=True)
