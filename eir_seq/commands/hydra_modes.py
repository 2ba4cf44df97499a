"""What Hydra does for us: print configs (``--cfg``), tell how they come about (``--info``), complete in a shell."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from omegaconf import DictConfig

from eir_seq.commands import COMMANDS
from eir_seq.config.compose import compose_experiment, reworded, set_up_hydra, version_base
from eir_seq.config.folders import CONFIG_NAME, conf_dir
from eir_seq.config.overrides import normalized
from eir_seq.errors import UserError


def show(flags: argparse.Namespace) -> int:
    """Run one of Hydra's modes that print something and stop."""
    words: list[str] = []
    if flags.shell_completion:
        if any(word.startswith("query=") for word in flags.overrides) and _complete_command():
            return 0
        through_hydra(["--shell-completion", *flags.overrides], _nothing)
        return 0
    if flags.cfg:
        words += ["--cfg", flags.cfg, *(["--resolve"] if flags.resolve else [])]
        words += ["--package", flags.package] if flags.package else []
        try:
            compose_experiment(flags.overrides)
        except UserError as error:
            if [fault.place for fault in error.faults] != ["experiment"] or flags.overrides:
                raise
    if flags.info:
        words += ["--info", flags.info]
    if flags.hydra_help:
        words += ["--hydra-help"]
    overrides = [] if flags.hydra_help else normalized(flags.overrides)  # Hydra's help knows no experiment
    through_hydra([*words, *overrides], _nothing)
    return 0


def through_hydra(words: Sequence[str], task: Callable[[DictConfig], Any]) -> None:
    """Call `hydra.main` with a command line; its error messages become `UserError`.

    Raises:
        UserError: what Hydra refuses.
    """
    set_up_hydra()
    root = logging.getLogger()
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    handlers, level = list(root.handlers), root.level
    logging.raiseExceptions = False  # `--info ... | head` closes the output that Hydra logs to
    sys.argv = ["eir_seq", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise, instead of printing a traceback and exiting with code 1
    try:
        with reworded():
            hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, **version_base())(task)()
    finally:
        sys.argv = before[0]
        root.handlers[:] = handlers  # `--info` logs to what standard output was
        root.setLevel(level)
        logging.raiseExceptions = True
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before[1]


def _nothing(_config: DictConfig) -> None:
    raise AssertionError("a mode that shows something ran a job")


def _complete_command() -> bool:
    """Completes the command itself; takes it off the line, for Hydra completes overrides only. True if that was all."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    first = words[1] if len(words) == 2 and not line.endswith(" ") else None
    if first is not None and (matching := [name for name in COMMANDS if name.startswith(first)]):
        print(" ".join(matching))
        return True
    if len(words) > 1 and words[1] in ("train", "check"):
        shorter = line.replace(f"{words[1]} ", "", 1)
        os.environ["COMP_POINT"] = str(len(shorter))
        os.environ["COMP_LINE"] = shorter
    return False
