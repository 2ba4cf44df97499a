"""``train``: one run; or one of Hydra's modes (``--cfg``, ``--info``, ``-m``, ``-sc``)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hydra._internal.utils import get_args_parser

from eir_seq.commands.preflight import preflight
from eir_seq.config.compose import compose_experiment
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError, nearest, printable
from eir_seq.machine import importing, process_rank, say
from eir_seq.training.redaction import redact

if TYPE_CHECKING:
    from eir_seq.training.folds import FoldMetric


def run(arguments: list[str]) -> int:
    """Train, or do what one of Hydra's flags requests."""
    if "--help" in arguments or "-h" in arguments:
        from eir_seq.commands.help import train

        print(train())
        return 0
    flags = parse_flags(arguments)
    if flags.multirun:
        from eir_seq.commands.multirun import sweep

        return sweep(flags.overrides)
    if flags.cfg or flags.info or flags.hydra_help or flags.shell_completion:
        from eir_seq.commands.hydra_modes import show

        return show(flags)
    composed = compose_experiment(flags.overrides, preflight)
    for line in filter(None, (composed.config.note, *composed.notes)):
        if process_rank() == 0:  # else another process prints it
            say(str(redact(line)), sys.stdout)
    with importing():
        from eir_seq.training.run import train as train_experiment

    try:
        if composed.config.data.folds is not None and composed.config.data.fold is None:
            _cross_validate(composed.config)
        else:
            train_experiment(composed.config, finish=_write_report)
    except UserError as error:
        raise composed.with_sources(error) from error
    return 0


def _write_report(folder: Path) -> Path:
    """The report of a run; what plots is imported when there is something to plot."""
    from eir_seq.inference.report import write_report

    return write_report(folder)


def _cross_validate(config: ExperimentConfig) -> None:
    """A run for each fold, and the table of all of them."""
    from rich.console import Console
    from rich.table import Table

    from eir_seq.inference.fold_report import table_of, write_fold_report
    from eir_seq.training.folds import cross_validate

    rows: list[list[str]] = []

    def conclude(folder: Path, metrics: Sequence[FoldMetric]) -> None:
        write_fold_report(folder, metrics)
        rows.extend(table_of(metrics))

    cross_validate(config, finish=_write_report, conclude=conclude)
    assert config.data.folds is not None
    titles = ["metric", "mean", "deviation", *(f"fold {fold}" for fold in range(config.data.folds))]
    table = Table(*titles, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(printable, row))
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table, markup=False)


def parse_flags(arguments: list[str]) -> argparse.Namespace:
    """Hydra's flags and the overrides.

    Raises:
        UserError: unknown flags, and those that have no use here.
    """
    parser: argparse.ArgumentParser = get_args_parser()
    parser.allow_abbrev = False  # --experiment is not --experimental-rerun
    known = [option for action in parser._actions for option in action.option_strings]

    def refuse(message: str) -> NoReturn:
        raise UserError(Fault("command line", message))

    parser.error = refuse  # type: ignore[method-assign]
    flags, unknown = parser.parse_known_args(arguments)
    faults = []
    for word in unknown:
        if word.startswith("-"):
            flag, equals, _ = word.partition("=")
            key = flag.lstrip("-").partition(".")[0]
            is_override = equals and key in ("experiment", *ExperimentConfig.model_fields)
            override = f"; did you mean {word.lstrip('-')}?" if equals else ""
            hint = override if is_override else nearest(flag, known) or override
            faults.append(Fault(word, f"not a flag{hint}", "command line"))
        else:  # an override after a flag that argparse did not expect there
            flags.overrides.append(word)
    if flags.config_name is not None or flags.config_path is not None:
        faults.append(Fault("--config-name", "config files come from ./conf, $EIR_SEQ_CONF or --config-dir DIR"))
    if flags.experimental_rerun is not None:
        faults.append(Fault("--experimental-rerun", "it would load a pickle; repeat a run from its config.yaml"))
    if faults:
        raise UserError(*faults)
    if flags.config_dir is not None:
        _use_config_dir(flags.config_dir)
    if not (flags.cfg or flags.info or flags.shell_completion):
        _refuse_without_effect(flags)
    return flags


def _refuse_without_effect(flags: argparse.Namespace) -> None:
    """Settings of Hydra that work elsewhere but not here."""
    faults = []
    for word in flags.overrides:
        key, _, value = word.lstrip("+~").partition("=")
        if key.startswith("hydra.run.") or key in ("hydra.job.chdir", "hydra.output_subdir"):
            faults.append(Fault(key, "has no effect; run.dir=DIR names the folder of a run", "command line"))
        elif key == "hydra.mode" and not flags.multirun:
            faults.append(
                Fault(key, f"write -m for {value}" if value == "MULTIRUN" else "has no effect", "command line")
            )
        elif (
            key.startswith(("hydra.sweep", "hydra.launcher", "hydra/launcher", "hydra/sweeper")) and not flags.multirun
        ):
            faults.append(Fault(key, "has no effect without -m", "command line"))
    if faults:
        raise UserError(*faults)


def _use_config_dir(folder: str) -> None:
    """Put a folder before ``$EIR_SEQ_CONF``, where the jobs of a sweep find it, too."""
    if not os.path.isdir(folder):
        raise UserError(Fault("--config-dir", f"{folder!r} is not a folder", "command line"))
    others = os.environ.get("EIR_SEQ_CONF")
    os.environ["EIR_SEQ_CONF"] = os.pathsep.join([os.path.abspath(folder), *([others] if others else [])])
