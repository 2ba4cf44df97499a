"""``runs list``: all runs below a folder."""

from __future__ import annotations

from eir_seq.commands.tables import minute, print_csv, print_table, size_text, value_text
from eir_seq.errors import Fault, UserError
from eir_seq.inference.run_list import find_runs, runs_at, size
from eir_seq.remote import shown


def list_runs(place: str, *, as_csv: bool) -> None:
    """Print one line per run in or below a folder, by path or URL.

    Raises:
        UserError: no such folder, or no run in it.
    """
    with runs_at(place) as folder:
        runs = find_runs(folder)
        bytes_of = {run.name: size(run.folder) for run in runs}
    if not runs:
        raise UserError(Fault(shown(place), "holds no runs (folders with config.yaml and manifest.json)"))
    if as_csv:
        titles = ("run", "experiment", "status", "metric", "value", "steps", "started", "seconds", "bytes", "reason")
        print_csv(
            titles,
            [
                (r.name, r.experiment, r.status, r.metric, r.value, r.steps, r.started, r.seconds, bytes_of[r.name],
                 r.reason)
                for r in runs
            ],
        )  # fmt: skip
        return
    rows = [
        [
            run.name,
            run.experiment,
            run.status,
            f"{run.metric} {value_text(run.value)}" if run.value is not None else "",
            "" if run.steps is None else f"{run.steps:,}",
            minute(run.started),
            size_text(bytes_of[run.name]),
            run.reason,
        ]
        for run in runs
    ]
    print_table(
        ("run", "experiment", "status", "best value", "steps", "started", "size", ""), rows, right=("steps", "size")
    )
    counts = {status: sum(run.status == status for run in runs) for status in dict.fromkeys(r.status for r in runs)}
    total = size_text(sum(bytes_of.values()))
    words = ", ".join(f"{count:,} {status}" for status, count in counts.items())
    print(f"{shown(place)}: {len(runs):,} {'run' if len(runs) == 1 else 'runs'} ({words}), {total}")
