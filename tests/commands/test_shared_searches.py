"""Searches that several processes share, or that are interrupted; trials are a small script."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eir_seq.commands import main
from eir_seq.commands.search import study as studies
from eir_seq.config.sweeps import read_sweep
from tests.commands.search_project import rows_of, start_worker, starts_of, sweep, wait_for
from tests.config.project import MINE, make_project

pytest.importorskip("optuna", reason="optuna is not installed (extra search)")


# ------------------------------------------------------------------------------------------ shared and interrupted


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["", "sqlite:///study.db"])
def test_two_processes_share_a_study(project: Path, storage: str) -> None:
    words = ["sweep=both", "sweep.trials=8", *([f"sweep.storage={storage}"] if storage else [])]
    workers = [start_worker(project, *words, FAKE_PAUSE="0.1") for _ in range(2)]
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert [row["state"] for row in rows_of(project / "s")] == ["complete"] * 8
    assert [starts_of(project / "s", number) for number in range(8)] == [1] * 8
    assert all(" starts: " in output for output in outputs)  # both did some


def test_a_killed_worker_loses_only_what_ran_and_repeats_nothing(project: Path) -> None:
    words = ["sweep=both", "sweep.trials=4"]
    first = start_worker(project, *words, FAKE_PAUSE="0.5")
    wait_for(lambda: (project / "s" / "1" / "metrics.csv").exists())
    first.kill()
    first.communicate()
    orphan = int((project / "s" / "1" / "starts").read_text())
    assert Path(f"/proc/{orphan}").exists()
    assert sweep(*words) == 0
    wait_for(lambda: not Path(f"/proc/{orphan}").exists())
    rows = rows_of(project / "s")
    assert [row["state"] for row in rows] == ["complete"] * 4
    assert [row["number"] for row in rows] == ["0", "1", "2", "3"]
    assert [starts_of(project / "s", number) for number in range(4)] == [1, 2, 1, 1]


@pytest.mark.slow
def test_a_signal_stops_a_search_which_then_continues(project: Path) -> None:
    words = ["sweep=both", "sweep.trials=3"]
    first = start_worker(project, *words, FAKE_PAUSE="0.5")
    wait_for(lambda: (project / "s" / "0" / "metrics.csv").exists())
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM
    assert "trial 0 stopped after" in output
    assert [row["state"] for row in rows_of(project / "s")] == ["running"]
    assert sweep(*words) == 0
    assert [row["state"] for row in rows_of(project / "s")] == ["complete"] * 3
    assert starts_of(project / "s", 0) == 2


def test_a_silent_worker_of_another_machine_is_replaced(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = read_sweep(["sweep=both", "sweep.heartbeat=0.1"])

    def study(name: str) -> studies.Study:
        found = studies.Study(request.config, request.space, project / "s", "x", ["minimize"], seed=0, total=1)
        found.begin({})
        return found

    gone, other = study("gone"), study("other")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(studies, "machine", lambda: "elsewhere")
        claim = gone.claim()
        assert claim is not None
    assert other.claim() is None
    assert other.pending  # it may be gone
    time.sleep(0.05)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(studies, "machine", lambda: "elsewhere")
        assert gone.beat(claim)
    assert other.claim() is None
    assert not other.pending  # it lives
    time.sleep(0.35)
    taken = other.claim()
    assert taken is not None
    assert (taken.number, taken.chosen) == (claim.number, claim.chosen)
    assert not gone.beat(claim)
    assert not gone.finish(claim, "complete", [1.0])
    assert other.finish(taken, "complete", [2.0])
    assert other.trials()[0].values == (2.0,)


# ------------------------------------------------------------------------------------------------------- real runs


@pytest.mark.slow
def test_real_runs_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path, MINE.replace("  stars:\n    type: regression\n    column: stars\n", ""))
    monkeypatch.chdir(tmp_path)
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    words = ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "inputs.review.model.model_type=bert,longformer"]
    short = ["trainer.max_steps=2", "data.limit=64", "trainer.threads=1", "inputs.review.max_length=32"]
    assert sweep(*words, *short, "sweep.trials=2", f"data.cache_dir={tmp_path / 'cache'}") == 0
    for row in rows_of(tmp_path / "s"):
        result = json.loads((tmp_path / "s" / row["run_dir"] / "result.json").read_text())
        assert result["monitor"]["value"] == float(row["value"])
        config = (tmp_path / "s" / row["run_dir"] / "config.yaml").read_text()
        assert f"lr: {float(row['optimizer.lr'])}" in config
    # What cannot be built is reported before any trial.
    assert sweep("trainer.accelerator=cpu,mps", *short, "sweep.dir=t") == 2
    assert not (tmp_path / "t" / "0").exists()


# ------------------------------------------------------------------------------------------------------ PostgreSQL


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of a server that lives as long as the test, on a free port, in a folder of its own."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed (extra postgres)")
    missing = [name for name in ("initdb", "postgres") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"PostgreSQL's {' and '.join(missing)} is not in PATH")
    user = "nobody" if os.getuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="eir_seq_pg_"))
    if user is not None:
        shutil.chown(folder, user)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    base = ["-D", str(folder / "data")]
    quiet: dict[str, Any] = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    server: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(["initdb", *base, "-U", "me", "-A", "trust", "--no-sync"], check=True, **quiet)
        settings = ["-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F"]
        server = subprocess.Popen(["postgres", *base, *settings], **quiet)
        import psycopg2

        def answers() -> bool:
            try:
                psycopg2.connect(host="127.0.0.1", port=port, user="me", dbname="postgres").close()
            except psycopg2.OperationalError:
                return False
            return True

        wait_for(answers)
        yield f"postgresql://me:canary@127.0.0.1:{port}/postgres"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # a fast shutdown
            server.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_machines_share_a_study_through_postgresql(project: Path, postgresql: str) -> None:
    """Two workers with folders of their own, as on two machines, one of which is killed and started again."""
    words = ["sweep=both", "sweep.trials=6", f"sweep.storage={postgresql}", "sweep.heartbeat=1"]
    first, second = (start_worker(project, *words, f"sweep.dir={name}", FAKE_PAUSE="0.3") for name in ("a", "b"))
    wait_for(lambda: len(list(project.glob("[ab]/[0-9]/starts"))) >= 2)
    first.kill()
    first.communicate()
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    assert "canary" not in output
    rows = rows_of(project / "b")
    assert [row["number"] for row in rows] == [str(number) for number in range(6)]
    assert main(["sweep", "experiment=mine", *words, "sweep.dir=a"]) == 0
    assert [row["state"] for row in rows_of(project / "a")] == ["complete"] * 6
    finished = [path.parent for path in project.glob("[ab]/[0-9]/result.json")]
    assert all(starts_of(folder.parent, folder.name) <= 2 for folder in finished)


def test_a_storage_out_of_reach_is_told_in_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed (extra postgres)")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))  # bound, and nobody listens
        port = found.getsockname()[1]
        assert sweep("sweep=both", f"sweep.storage=postgresql://me:canary@127.0.0.1:{port}/x") == 2
    error = capsys.readouterr().err
    assert error.startswith("sweep.storage: postgresql://***@127.0.0.1:")
    assert error.count("\n") == 1
    assert "refused" in error
