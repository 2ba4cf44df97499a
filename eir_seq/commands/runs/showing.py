"""``runs show``: one run in facts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from eir_seq.commands.tables import minute, print_csv, size_text, value_text
from eir_seq.errors import printable
from eir_seq.inference.run_details import data_of, details_of, metrics, next_steps, settings
from eir_seq.inference.run_list import FoundRun, runs_at, sizes
from eir_seq.remote import by_url


def show_run(place: str, *, as_csv: bool) -> None:
    """Print the facts of a run, by the path or URL of its folder, section by section.

    Raises:
        UserError: no run folder, or its files are damaged.
    """
    with runs_at(place) as folder:
        _show(details_of(folder), as_csv)


def _show(run: FoundRun, as_csv: bool) -> None:
    if as_csv:
        rows = [(section, key, exact) for section, facts in _sections(run) for key, _, exact in facts]
        print_csv(("section", "key", "value"), rows)
        return
    for section, facts in _sections(run):
        if not facts:
            continue
        print(section)
        width = max(len(key) for key, _, _ in facts)
        for key, text, _ in facts:
            print(printable(f"  {key:<{width}}  {text}"))
    for step in next_steps(run):
        print(printable(by_url(step)))


Facts = list[tuple[str, str, Any]]
"""What it is, as people read it, and the value itself."""


def _sections(run: FoundRun) -> Iterator[tuple[str, Facts]]:
    status = f"{run.status}: {run.reason}" if run.reason else run.status
    last = run.sessions[-1] if run.sessions else {}
    folder = by_url(str(run.folder))
    facts: Facts = [("status", status, status), ("folder", folder, folder)]
    facts += [("started", minute(run.started), run.started)] if run.started else []
    count = len(run.sessions)
    if run.seconds is not None:
        facts.append(("seconds", f"{run.seconds:,.0f}" + (f" in {count} sessions" if count > 1 else ""), run.seconds))
    shown = ("host", "device", "kernels", "command_line")
    facts += [(key, str(last[key]), last[key]) for key in shown if last.get(key)]
    if run.steps is not None:
        facts.append(("steps", f"{run.steps:,}", run.steps))
    if run.value is not None:
        best = run.result.get("best_step")
        at = f" at step {best:,}" if isinstance(best, int) else " so far" if not run.result else ""
        facts.append((run.metric, f"{value_text(run.value)}{at}", run.value))
    if run.report is not None:
        report = by_url(str(run.report))
        facts.append(("report", report, report))
    yield run.experiment, facts
    digest = str(run.manifest.get("config_sha256") or "")
    chosen: Facts = [(key, _text(value), value) for key, value in settings(run.config).items()]
    yield "config", [("sha256", digest[:12], digest), *chosen]
    yield "data", [(key, text, text) for key, text in data_of(run.manifest).items()]
    measured: Facts = []
    for name, values in metrics(run.result):
        measured += [(f"{split}.{name}", value_text(value), value) for split, value in values.items()]
    yield "metrics", measured
    parts = sizes(run.folder)
    total = sum(parts.values())
    yield "size", [("all", size_text(total), total), *((part, size_text(n), n) for part, n in parts.items())]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
