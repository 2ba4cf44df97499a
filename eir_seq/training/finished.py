"""What a finished run has left: its files are checked, tidied up and described by checksums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError
from eir_seq.explanations.records import RECORDS, TABLE
from eir_seq.training.attributions import interpretations_of
from eir_seq.training.bundle import left_models
from eir_seq.training.checkpoints import CheckpointStore, verify_folder
from eir_seq.training.checksums import CHECKSUMS, checksums
from eir_seq.training.folder import CONFIG, MANIFEST, REPORT, RunFolder, write_text
from eir_seq.training.manifest import RunManifest
from eir_seq.training.run_state import best_step_of


def note_checksums(run: Path) -> None:
    """Write what the files of a finished run are, if it has changed."""
    text, path = checksums(run), run / CHECKSUMS
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)


def missing_of(run: Path, config: ExperimentConfig, result: dict[str, Any], wrong: dict[str, str]) -> str | None:
    """What a finished run lacks of what it left; None if it is all there.

    Raises:
        UserError: what is damaged cannot be rebuilt.
    """
    if faults := [
        Fault(str(run / name), f"is {wrong[name]}; restore it, or remove {run / CHECKSUMS} to take it as it is")
        for name in (CONFIG, MANIFEST)
        if name in wrong
    ]:
        raise UserError(*faults)
    for folder in left_models(run, config):
        if (problem := verify_folder(folder)) is not None:
            name = folder.relative_to(run)
            return f"its {name} is {'damaged' if folder.exists() else 'gone'} ({problem})"
    if damaged := [f"{run / name} is {problem}" for name, problem in wrong.items() if name not in (REPORT, CHECKSUMS)]:
        return damaged[0]
    tables = [run / "predictions" / f"{split}.csv" for split in ("validation", "test") if split in result]
    if interpretations_of(config.inputs):
        tables += [run / TABLE, run / RECORDS]
    return next((f"{table} is missing" for table in tables if not table.is_file()), None)


def tidy_up(folder: RunFolder, config: ExperimentConfig, manifest: RunManifest) -> None:
    """What is left to do for a run that has its result. The manifest is last: it says that this was done."""
    store = CheckpointStore(folder.path / "checkpoints", config.trainer.keep_checkpoints)
    store.finish(best_step_of, resumable=config.trainer.keep_optimizer_state)
    manifest.end("finished")
