"""Before the first trial: each end of each key of the space composes, passes validation, and builds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from eir_seq import plugins
from eir_seq.commands.preflight import preflight
from eir_seq.config.compose import Composed, compose_in_hydra, hydra_ready
from eir_seq.config.overrides import normalized
from eir_seq.config.quoting import COMMAND_LINE
from eir_seq.config.sweep_space import ends
from eir_seq.config.sweeps import SweepRequest
from eir_seq.errors import Fault, RunFailed, UserError


def check_ends(request: SweepRequest) -> tuple[Composed, list[list[str]]]:
    """Compose and validate a setting for each end of each dimension.

    Returns:
        The first of them, and the words of all.

    Raises:
        UserError: all that is wrong, each fault once.
    """
    settings = ends(request.space)
    everything = [[*request.words, *(f"{key}={text}" for key, text in setting.items())] for setting in settings]
    faults: dict[tuple[str, str], Fault] = {}
    first: Composed | None = None
    for setting, words in zip(settings, everything, strict=True):
        try:
            overrides = normalized(words)
            with hydra_ready():
                composed = compose_in_hydra(overrides, preflight)
            first = first or composed
            for fault in _unfit(request, composed):
                faults.setdefault((fault.place, fault.message), fault)
        except UserError as error:
            for fault in _named(error.faults, request, setting, settings[0]):
                faults.setdefault((fault.place, fault.message.partition(" with ")[0]), fault)
    if faults:
        raise UserError(*faults.values())
    assert first is not None
    return first, everything


def _unfit(request: SweepRequest, composed: Composed) -> Iterator[Fault]:
    """What a trial that is a cross-validation, which has the mean over its folds only, cannot do."""
    data, config = composed.config.data, request.config
    if data.folds is None or data.fold is not None:
        return
    if config.pruner != "none":
        message = f"{config.pruner} stops single runs, and with data.folds each trial is several; set it to none"
        yield Fault("sweep.pruner", message)
    if config.metrics:
        yield Fault("sweep.metrics", "with data.folds the objective is trainer.monitor; leave metrics out")


def _named(
    faults: Sequence[Fault], request: SweepRequest, setting: Mapping[str, str], base: Mapping[str, str]
) -> Iterator[Fault]:
    """Faults with the file that has the value instead of the command line, where the space set it."""
    sources = {item.key: item.source for item in request.space}
    changed = " ".join(f"{key}={text}" for key, text in setting.items() if base.get(key) != text)
    for fault in faults:
        source = fault.source
        if source == COMMAND_LINE:
            source = sources.get(fault.place, COMMAND_LINE)
        message = f"{fault.message} with {changed}" if changed and fault.place not in setting else fault.message
        yield replace(fault, message=message, source=source)


def check_building(everything: Sequence[Sequence[str]]) -> None:
    """Do for each setting what `check` does: fit, build, and try one step.

    It is done in another process, so that this one, which lives as long as the search, holds no memory of a device.

    Raises:
        UserError: all that is wrong, each fault once.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        faults = pool.submit(_build_all, [list(words) for words in everything], plugins.loaded()).result()
    if faults:
        raise UserError(*faults)


def _build_all(everything: Sequence[Sequence[str]], modules: Sequence[str]) -> list[Fault]:
    plugins.load(list(modules))
    from eir_seq.training.check import check

    faults: dict[tuple[str, str], Fault] = {}
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        for words in everything:
            with hydra_ready():
                composed = compose_in_hydra(normalized(words))
            try:
                with contextlib.redirect_stdout(nowhere):
                    check(composed.config)
            except UserError as error:
                found: Sequence[Fault] = composed.with_sources(error).faults
            except RunFailed as error:
                found = [Fault("", f"{error} with {' '.join(words)}")]
            else:
                continue
            for fault in found:
                faults.setdefault((fault.place, fault.message), fault)
    return list(faults.values())
