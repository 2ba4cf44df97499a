"""Searches on Ray and on SLURM (submitit's local executor); trials are a small script, as in test_search.py."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eir_seq.commands import main
from eir_seq.inference.jobs import read_jobs
from tests.commands.search_project import rows_of, start_worker, starts_of, sweep, wait_for

pytest.importorskip("optuna", reason="optuna is not installed (extra search)")
NOT_INSTALLED = "is not installed (extra "


# --------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["sweep.engine=rays"], "sweep.engine: 'rays' is not one of "),
        (["sweep.ray.max_failures=1"], "sweep.ray.max_failures: has no effect with sweep.engine=local (command line)"),
        (["sweep.engine=ray", "sweep.slurm.qos=x"], "sweep.slurm.qos: has no effect with sweep.engine=ray"),
        (["sweep.engine=ray", "sweep.ray.adress=x"], "sweep.ray.adress: unknown key; did you mean 'address'? (comm"),
        (["sweep.engine=slurm", "sweep.slurm.timeout_min=0"], "sweep.slurm.timeout_min: 0 is not an integer >= 1"),
        (["sweep.engine=slurm", "sweep.gpus_per_trial=0.5"], "sweep.gpus_per_trial: 0.5 is no number of GPUs, which"),
        (["sweep.gpus_per_trial=2"], "sweep.gpus_per_trial: 1 at once with 2 GPUs each, and this machine has 1"),
        (["sweep.engine=slurm"], "sweep.engine: slurm needs sbatch and srun and sacct in PATH, as on a login node; "),
        (["sweep.engine=ray", "sweep.ray.address=x:y"], "sweep.ray.address: 'x:y' is not ray://HOST:PORT, HOST:PORT"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_an_engine_with_a_fault_starts_nothing(
    project: Path,
    words: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if words == ["sweep.engine=slurm"]:
        pytest.importorskip("submitit", reason=f"submitit {NOT_INSTALLED}slurm)")
    if words[-1].startswith("sweep.ray.address"):
        pytest.importorskip("ray", reason=f"Ray {NOT_INSTALLED}ray)")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    assert sweep("sweep=both", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith(line), error
    assert error.count("\n") == 1
    assert not (project / "s" / "0").exists()


@pytest.mark.parametrize(("engine", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_package_that_is_missing_is_named(
    project: Path,
    engine: str,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(f"eir_seq.commands.engines.{engine}.is_installed", lambda name: name != package)
    assert sweep("sweep=both", f"sweep.engine={engine}") == 2
    assert f"{package} is not installed; run: pip install 'eir_seq[{engine}]'" in capsys.readouterr().err


def test_a_cluster_out_of_reach_is_told_in_one_line(
    project: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ray", reason=f"Ray {NOT_INSTALLED}ray)")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = f"ray://127.0.0.1:{found.getsockname()[1]}"
        assert sweep("sweep=both", "sweep.engine=ray", f"sweep.ray.address={address}") == 2
    assert capsys.readouterr().err == f"sweep.ray.address: {address} cannot be reached: Connection refused\n"


def test_a_file_may_hold_settings_of_several_engines(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = project / "conf" / "sweep" / "both.yaml"
    path.write_text(path.read_text() + "ray: {address: 'ray://head:10001'}\nslurm: {partition: gpu}\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert sweep("sweep=both", "sweep.trials=1", "sweep.gpus_per_trial=1", "sweep.cpus_per_trial=2") == 0
    assert "trial 0 starts (GPU 7, 2 CPUs): optimizer.lr=" in capsys.readouterr().out


def test_a_search_waits_without_torch() -> None:
    """It would take half a gigabyte for as long as the search lasts."""
    code = "import sys, eir_seq.commands.search, eir_seq.commands.multirun; sys.exit('torch' in sys.modules)"
    root = str(Path(__file__).resolve().parents[2])
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


# ------------------------------------------------------------------------------------------------------------ SLURM


SLURM = ("sweep.engine=slurm", "sweep.slurm.cluster=local")


def _on_slurm(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason=f"submitit {NOT_INSTALLED}slurm)")
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(
        "eir_seq.commands.search.search.WORKER", (sys.executable, "command.py", str(project / "fake_trial.py"))
    )


@pytest.mark.slow
def test_workers_of_an_array_share_a_study(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _on_slurm(project, monkeypatch)
    monkeypatch.setenv("FAKE_PAUSE", "0.2")
    words = ["sweep=both", "sweep.trials=6", "sweep.n_jobs=2", *SLURM, "note=https://me:canary@host/x"]
    assert sweep(*words) == 0
    output = capsys.readouterr().out
    assert "2 workers in SLURM's queue" in output
    assert "trial 5 complete" in output
    assert [row["state"] for row in rows_of(project / "s")] == ["complete"] * 6
    assert [starts_of(project / "s", number) for number in range(6)] == [1] * 6
    logs = [(project / "s" / "jobs" / f"worker-{number}.log").read_text() for number in (0, 1)]
    assert all(" starts: " in log for log in logs)  # both did some
    written = [path for path in (project / "s").rglob("*") if path.is_file()]
    assert not any(b"canary" in path.read_bytes() for path in written)
    assert sweep(*words) == 0  # nothing left to do, and nothing is submitted
    assert "0 workers in SLURM's queue" in capsys.readouterr().out


@pytest.mark.slow
def test_a_preempted_worker_continues_its_trial(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _on_slurm(project, monkeypatch)
    driver = start_worker(project, "sweep=both", "sweep.trials=3", *SLURM, FAKE_PAUSE="0.5")
    # The worker that is submitted is the same script, whose trials are the fake ones.
    wait_for((project / "s" / "1" / "metrics.csv").exists)
    task = next(
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"submitit.core._submit" in _bytes(path) and str(project).encode() in _bytes(path)
    )
    os.kill(task, signal.SIGUSR2)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, output
    assert [row["state"] for row in rows_of(project / "s")] == ["complete"] * 3
    starts = [starts_of(project / "s", number) for number in range(3)]
    assert sum(starts) == 4
    assert starts[0] == 1


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


# -------------------------------------------------------------------------------------------------------------- Ray


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """A cluster and its second node: two nodes with a CPU each, as two sets of processes of this machine."""
    pytest.importorskip("ray", reason=f"Ray {NOT_INSTALLED}ray)")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}
    found = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        yield found, found.add_node(**small)
    finally:
        found.shutdown()


@pytest.mark.slow
def test_trials_of_a_lost_node_continue_on_another(project: Path, cluster: tuple[Any, Any]) -> None:
    nodes, second = cluster
    words = ["sweep=both", "sweep.trials=6", "sweep.engine=ray", f"sweep.ray.address={nodes.address}"]
    driver = start_worker(project, *words, "sweep.ray.environment=[FAKE_PAUSE]", FAKE_PAUSE="2")
    folder = project / "s"

    def half_done() -> set[str]:
        """Trials that have two of four evaluations: with two of them, each node has one."""
        found = {path.parent for path in folder.glob("[0-9]/metrics.csv") if len(path.read_text().splitlines()) > 2}
        return {path.name for path in found if not (path / "result.json").exists()}

    wait_for((folder / "0" / "result.json").exists, 120)
    wait_for(lambda: len(half_done()) == 2, 120)
    finished = {path.parent.name for path in folder.glob("[0-9]/result.json")}
    nodes.remove_node(second, allow_graceful=False)
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    assert [row["state"] for row in rows_of(folder)] == ["complete"] * 6
    starts = {str(number): starts_of(folder, number) for number in range(6)}
    assert all(starts[number] == 1 for number in finished)
    assert sorted(starts.values()) == [1] * 5 + [2]
    assert " continues (node " in output


@pytest.mark.slow
def test_ray_prunes_stops_and_continues(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ray", reason=f"Ray {NOT_INSTALLED}ray)")
    points = ["0.004", "1", "2", "3"]
    starts = ", ".join(f"{{optimizer.lr: {lr}, data.batch_size: 8}}" for lr in points)
    words = [
        f"optimizer.lr=choice({','.join(points)})", "data.batch_size=8,3,4", f"sweep.start=[{starts}]",
        "sweep.trials=4", "sweep.pruner=median", "sweep.pruner_startup=1", "sweep.engine=ray", "sweep.n_jobs=1",
        "sweep.ray.address=local", "sweep.ray.environment=[FAKE_PAUSE]", "note=https://me:canary@host/x",
    ]  # fmt: skip
    driver = start_worker(project, *words, FAKE_PAUSE="0.7")
    wait_for((project / "s" / "0" / "metrics.csv").exists, 120)
    driver.send_signal(signal.SIGTERM)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 128 + signal.SIGTERM, output
    assert [row["state"] for row in rows_of(project / "s")] == ["running"]
    assert (project / "s" / "jobs" / "0.log").read_text().endswith("saved\n")
    monkeypatch.setenv("FAKE_PAUSE", "0.7")
    assert sweep(*words) == 0
    rows = rows_of(project / "s")
    assert [row["optimizer.lr"] for row in rows] == points
    assert rows[0]["state"] == "complete"
    assert starts_of(project / "s", 0) == 2
    assert "pruned" in [row["state"] for row in rows[1:]]
    pruned = [job for job in read_jobs(project / "s") if job.status == "pruned"]
    assert pruned[0].message.startswith("stopped by median at evaluation ")
    assert "pruned" in capsys.readouterr().out
    written = [path for path in (project / "s").rglob("*") if path.is_file()]
    assert not any(b"canary" in path.read_bytes() for path in written)


@pytest.mark.slow
def test_bad_trials_are_recorded_on_ray(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason=f"Ray {NOT_INSTALLED}ray)")
    words = ["sweep.sampler=grid", "data.batch_size=3,4,5,8", "sweep.timeout=2", "sweep.engine=ray"]
    assert sweep(*words, "sweep.ray.address=local") == 0
    by_size = {row["data.batch_size"]: row for row in rows_of(project / "s")}
    assert {size: row["state"] for size, row in by_size.items()} == {
        "3": "failed", "4": "failed", "5": "timeout", "8": "complete",
    }  # fmt: skip
    messages = {job.number: job.message for job in read_jobs(project / "s")}
    assert messages[int(by_size["3"]["number"])] == "row 17 has a loss of nan"
    assert messages[int(by_size["5"]["number"])] == "stopped after 2 s (sweep.timeout)"
    capsys.readouterr()
    assert sweep(*words, "sweep.ray.address=local", "sweep.cpus_per_trial=99") == 2
    assert "sweep.cpus_per_trial: 99 CPU, and no node has more than " in capsys.readouterr().err
    # The same study goes on with another engine; nothing that ended is repeated.
    starts = [starts_of(project / "s", number) for number in range(4)]
    assert sweep(*words[:-1]) == 0
    assert [starts_of(project / "s", number) for number in range(4)] == starts
    assert main(["runs", "compare", "s"]) == 0
