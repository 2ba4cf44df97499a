"""What streamed training rows (`data.streaming`) do not allow, or need."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.config.schema import DataConfig
from eir_seq.config.sections import Sections
from eir_seq.config.strict import ignored
from eir_seq.errors import Fault

WHOLE_TABLE = {
    "folds": "folds are drawn from the whole table",
    "limit": "rows are drawn from the whole table (trainer.limit_train_batches shortens epochs)",
    "weighted_sampling": "rows are drawn by the classes of the whole table",
    "labels": "a folder is read as shards of one table",
}
"""Options of `data` that need the whole table at once."""


def streaming_faults(sections: Sections) -> Iterator[Fault]:
    """Options that need the whole table, and those without which a streamed run would have no end."""
    data = sections.data
    if data is None:
        return
    if not data.streaming:
        yield from ignored("data", data, "shuffle_buffer fit_rows", "without data.streaming")
        return
    for key, reason in WHOLE_TABLE.items():
        if getattr(data, key) is not None:
            yield Fault(f"data.{key}", f"cannot be combined with data.streaming: {reason}")
    if data.stratify not in ("auto", None):
        yield Fault("data.stratify", "cannot be combined with data.streaming: rows are held out by a hash of their id")
    if data.on_missing == "keep":
        yield Fault("data.on_missing", "'keep' cannot be combined with data.streaming")
    if data.reads_sample:
        yield Fault("data.streaming", "a shipped sample is too small to be streamed; give files or a Hub dataset")
    if data.source == "hub" and isinstance(data.validation, int | float):
        message = f"{data.validation} of a streamed Hub split cannot be drawn; name a split, or write null"
        yield Fault("data.validation", message)
    if data.source == "hub" and isinstance(data.test, int | float):
        yield Fault("data.test", f"{data.test} of a streamed Hub split cannot be drawn; name a split")
    drawn = [part for part in (data.validation, data.test) if isinstance(part, int | float)]
    if len({type(part) for part in drawn}) > 1:
        yield Fault("data.test", "give fractions or numbers of rows for both data.validation and data.test")
    if data.group is not None and any(isinstance(part, int) for part in drawn):
        yield Fault("data.group", "needs fractions for data.validation and data.test, as whole groups are held out")
    if (unknown := uncounted(data, sections)) is not None:
        yield from _steps_needed(sections, unknown)


def uncounted(data: DataConfig, sections: Sections) -> str | None:
    """Why the number of batches of an epoch is not known beforehand; None if it is."""
    if data.source == "hub":
        return "of a streamed Hub split"
    if data.max_tokens is not None:
        return "with data.streaming and data.max_tokens"
    if sections.layout is not None or any(output.conversation is not None for output in sections.outputs.values()):
        return "of a streamed language model, whose rows are cut from the texts,"
    return None


def _steps_needed(sections: Sections, reason: str) -> Iterator[Fault]:
    trainer = sections.trainer
    if trainer is None:
        return
    unknown = f"the number of batches per epoch {reason} is not known beforehand"
    if trainer.max_steps is None:
        yield Fault("trainer.max_steps", f"is missing: {unknown}")
    validated = sections.data is not None and sections.data.validation is not None
    if validated and trainer.validate_every is None:
        yield Fault("trainer.validate_every", f"is missing: {unknown}; give the steps between evaluations")
    for key in ("limit_train_batches", "overfit_batches"):
        if getattr(trainer, key) is not None:
            yield Fault(f"trainer.{key}", f"cannot be used: {unknown}")
