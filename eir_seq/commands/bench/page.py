"""What was measured, as tables of the terminal and of Markdown, and as JSON."""

from __future__ import annotations

import datetime
import json
import math
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eir_seq.errors import Fault, UserError
from eir_seq.training.folder import write_text


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, the field that it shows, and how."""

    title: str
    name: str
    form: str = "{}"
    compared: bool = False
    """Whether it is there only where something is compared."""

    def cell(self, row: Any) -> str:
        """The value of a row; a dash where there is none."""
        value = getattr(row, self.name)
        return "-" if value is None else self.form.format(value)


TEXTS = ("model", "mode")
NAME, MODE = Column("model", "model"), Column("", "mode")
MODELS = (
    NAME,
    MODE,
    Column("ms", "milliseconds", "{:,.0f}"),
    Column("tokens/s", "tokens", "{:,.0f}"),
    Column("of peak", "share", "{:.0%}"),
    Column("MB", "megabytes", "{:,.0f}"),
    Column("cpu", "ratio", "{:.2f}", compared=True),
    Column("wall", "wall", "{:.2f}", compared=True),
    Column("memory", "memory", "{:.2f}", compared=True),
)
DECODING = (
    NAME,
    MODE,
    Column("ms/step", "milliseconds", "{:,.2f}"),
    Column("new tokens/s", "tokens", "{:,.0f}"),
    Column("cpu", "ratio", "{:.2f}", compared=True),
    Column("wall", "wall", "{:.2f}", compared=True),
)
LOOP = (
    Column("experiment", "model"),
    Column("steps", "steps"),
    Column("samples/s", "samples", "{:,.0f}"),
    Column("forward", "forward", "{:.0%}"),
    Column("backward, optimizer", "learning", "{:.0%}"),
    Column("rest", "rest", "{:.0%}"),
)


@dataclass
class Measured:
    """Rows of one kind, and what they were measured with.

    `name`: of their marks in the page; `caption`: how they were measured, in words; `row`: the class of rows.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    row: Callable[..., Any]
    machine: dict[str, Any]
    rows: list[Any] = field(default_factory=list)

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns that say something."""
        compared = any(getattr(row, "ratio", None) is not None for row in self.rows)
        return tuple(column for column in self.columns if compared or not column.compared)

    @property
    def titles(self) -> list[str]:
        """Titles of the columns."""
        return [column.title for column in self.shown]

    @property
    def numbers(self) -> list[str]:
        """Titles of the columns of numbers."""
        return [column.title for column in self.shown if column.name not in TEXTS]

    @property
    def where(self) -> str:
        """The machine, versions and day."""
        return described(self.machine)

    @property
    def cells(self) -> list[list[str]]:
        """The rows as texts."""
        return [[column.cell(row) for column in self.shown] for row in self.rows]

    def summary(self) -> str:
        """The geometric means over models of the ratios, and the models with the least ones."""
        lines = []
        for mode in dict.fromkeys(getattr(row, "mode", "") for row in self.rows):
            found = {row.model: row.ratio for row in self.rows if getattr(row, "ratio", None) and row.mode == mode}
            if len(found) > 1:
                mean = math.exp(statistics.fmean(map(math.log, found.values())))
                least = ", ".join(f"{name} {found[name]:.2f}" for name in sorted(found, key=found.__getitem__)[:3])
                lines.append(f"{mode}: geometric mean {mean:.2f} over {len(found)} models; least: {least}")
        return "\n".join(lines)

    def markdown(self) -> str:
        """Caption and table."""
        marks = ["---" if column.name in TEXTS else "--:" for column in self.shown]
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.titles, *self.cells)]
        lines.insert(1, "|" + "|".join(marks) + "|")
        summary = self.summary().replace("\n", ".  \n")
        text = f"{self.caption} {self.where}\n\n" + (f"{summary}.\n\n" if summary else "")
        return text + "\n".join(lines)


def machine(threads: int, device: str) -> dict[str, Any]:
    """What a measurement depends on besides the code: processor, threads, versions, day."""
    import torch

    from eir_seq.models.layers.kernels import processor_name

    found = {"processor": processor_name(), "threads": threads, "device": device}
    if device == "cuda":
        found["device"] = torch.cuda.get_device_name()
    found |= {"torch": str(torch.__version__), "eir_seq": _version("eir_seq"), "transformers": _version("transformers")}
    return {**found, "python": platform.python_version(), "date": datetime.date.today().isoformat()}


def described(machine: dict[str, Any]) -> str:
    """One line about the machine."""
    threads = f"{machine['threads']} thread" + "s" * (machine["threads"] != 1)
    where = machine["processor"] if machine["device"] == "cpu" else machine["device"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "transformers") if machine[name])
    return f"{where}, {threads}, {versions}, {machine['date']}."


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write_json(path: Path, measured: Sequence[Measured]) -> None:
    """All rows with what they were measured with."""
    content = [
        {
            "name": each.name,
            "caption": each.caption,
            "machine": each.machine,
            "rows": [asdict(row) for row in each.rows],
        }
        for each in measured
    ]
    write_text(path, json.dumps(content, indent=1) + "\n")


def rows_in(path: Path, table: Measured) -> dict[str, list[Any]]:
    """The rows of a file by model, where they were measured in the same way on the same machine with the same versions.

    Raises:
        UserError: the file is not what `write_json` leaves.
    """
    if not path.is_file():
        return {}
    found: dict[str, list[Any]] = {}
    try:
        for each in json.loads(path.read_text(encoding="utf-8")):
            own = {**table.machine, "date": each["machine"]["date"]}
            if (each["name"], each["caption"], each["machine"]) == (table.name, table.caption, own):
                for row in each["rows"]:
                    found.setdefault(row["model"], []).append(table.row(**row))
    except (ValueError, KeyError, TypeError):
        raise UserError(Fault("--resume", f"{path} holds no such numbers", "command line")) from None
    return found


def check_page(path: Path, names: Sequence[str]) -> None:
    """Raises `UserError` if there is no page, or no marks of these tables in it."""
    if not path.is_file():
        raise UserError(Fault("--write", f"no such file: {str(path)!r}; it is a page of the project's checkout"))
    text = path.read_text(encoding="utf-8")
    missing = [name for name in names if f"<!-- bench {name} -->" not in text or f"<!-- /bench {name} -->" not in text]
    if missing:
        marks = ", ".join(f"<!-- bench {name} --> <!-- /bench {name} -->" for name in missing)
        raise UserError(Fault("--write", f"{path} has no place for: {', '.join(missing)} (marks: {marks})"))


def write_page(path: Path, measured: Measured) -> None:
    """Put a table between its marks."""
    begin, end = f"<!-- bench {measured.name} -->", f"<!-- /bench {measured.name} -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    write_text(path, f"{before}{begin}\n{measured.markdown()}\n{end}{after}")
