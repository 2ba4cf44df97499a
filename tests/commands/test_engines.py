"""What runs jobs: processes with slots, SLURM (submitit's local executor), Ray; jobs are a small script."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eir_seq.commands import main, multirun
from eir_seq.commands.engines import Launch
from eir_seq.commands.engines.processes import Slots, visible_gpus
from eir_seq.commands.engines.remote import Remote
from eir_seq.config.engines import RayConfig, SlurmConfig
from eir_seq.inference.jobs import read_jobs
from tests.config.project import MINE, make_project

FAKE_JOB = """
import json, os, pathlib, signal, sys, time
*overrides, run_dir = sys.argv[1:]
words = [word.lstrip("+") for word in overrides]
folder = pathlib.Path(run_dir)
folder.mkdir(parents=True, exist_ok=True)
with (folder / "starts").open("a") as file:
    file.write(f"{os.environ.get('CUDA_VISIBLE_DEVICES')} {os.environ.get('OMP_NUM_THREADS')}\\n")
if "seed=3" in words:
    print("row 17 has a loss of nan")
    sys.exit(3)
if "seed=9" in words and not (folder / "saved").exists():
    signal.signal(signal.SIGTERM, lambda *_: ((folder / "saved").touch(), print("saved"), sys.exit(143)))
    (folder / "ready").touch()
    time.sleep(60)
time.sleep(0.2)
(folder / "result.json").write_text(json.dumps({"monitor": {"value": 0.5}}))
"""


def _command(fake: Path) -> object:
    def command(overrides: Sequence[str], run_dir: Path) -> list[str]:
        return [sys.executable, str(fake), *overrides, str(run_dir.absolute())]

    return command


@pytest.fixture
def fake_job(tmp_path: Path) -> Path:
    path = tmp_path / "fake_job.py"
    path.write_text(FAKE_JOB)
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_job: Path) -> Path:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(multirun, "job_command", _command(fake_job))
    monkeypatch.setattr(multirun, "preflight", lambda *_: ())  # no data belong to this experiment
    return tmp_path


def _starts(folder: Path, number: int) -> list[str]:
    if not (folder / str(number) / "starts").exists():
        return []
    return (folder / str(number) / "starts").read_text().splitlines()


def _wait_for(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


# ----------------------------------------------------------------------------------------------------------- slots


@pytest.mark.parametrize(
    ("gpus", "each", "most", "taken"),
    [
        (["0", "1", "2"], 1, 3, [["0"], ["1"], ["2"]]),
        (["4", "5", "6", "7"], 2, 2, [["4", "5"], ["6", "7"]]),
        (["0", "1"], 0.5, 4, [["0"], ["0"], ["1"], ["1"]]),
        (["0", "1"], 0.4, 4, [["0"], ["0"], ["1"], ["1"]]),
        (["0"], 0, 9, [[], []]),
    ],
)
def test_gpus_are_given_to_processes(gpus: list[str], each: float, most: int, taken: list[list[str]]) -> None:
    slots = Slots(gpus, each)
    assert slots.suffice(most)
    assert each == 0 or not slots.suffice(most + 1)
    assert [slots.take() for _ in taken] == taken
    if each:
        slots.give_back(taken[1])
        assert slots.take() == taken[1]


def test_jobs_get_gpus_and_threads_of_their_own(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert visible_gpus() == ["2", "3"]
    words = ["hydra.launcher.n_jobs=2", "hydra.launcher.gpus_per_job=1", "hydra.launcher.cpus_per_job=3"]
    assert main(["-m", "experiment=mine", "seed=4,5,6", "hydra.sweep.dir=here", *words]) == 0
    starts = [start for number in range(3) for start in _starts(project / "here", number)]
    assert set(starts) == {"2 3", "3 3"}
    assert "job 0 starts (GPU 2, 3 CPUs): seed=4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["hydra.launcher.gpus_per_job=1", "hydra.launcher.n_jobs=2"],
         "hydra.launcher.gpus_per_job: 2 at once with 1 GPUs each, and this machine has 1"),
        (["hydra.launcher.gpus_per_job=1.5"], "hydra.launcher.gpus_per_job: "),
        (["hydra.launcher.cpus_per_job=0"], "hydra.launcher.cpus_per_job: 0 is not an integer >= 1 (command line)"),
        (["hydra/launcher=slurm", "hydra.launcher.timeout_min=1"], "hydra.launcher: grace_s (120 s) leaves nothing of"),
        (["hydra/launcher=slurm", "hydra.launcher.cluster=slurmm"], "hydra.launcher.cluster: 'slurmm' is not one of"),
        (["hydra/launcher=slurm"], "hydra/launcher: slurm needs sbatch and srun and sacct in PATH, as on a login node"),
        (["hydra/launcher=ray", "hydra.launcher.max_failures=-2"], "hydra.launcher.max_failures: -2 is not an"),
        (["hydra/launcher=ray", "hydra.launcher.address=http://x"], "hydra.launcher.address: 'http://x' is not ray://"),
        (["hydra/launcher=rays"], "hydra/launcher: no option 'rays' ("),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)  # fmt: skip
def test_an_engine_with_a_fault_starts_nothing(
    project: Path, words: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "hydra/launcher=slurm" in words:
        pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    if "hydra/launcher=ray" in words:
        pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    assert main(["-m", "experiment=mine", "seed=4,5", "hydra.sweep.dir=here", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(line), error
    assert error.count("\n") == 1
    assert not (project / "here" / "0").exists()


def test_a_sweep_needs_a_local_folder(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "experiment=mine", "seed=4", "hydra.sweep.dir=gs://bucket/x"]) == 2
    assert capsys.readouterr().err.startswith("hydra.sweep.dir: gs://bucket/x: sweeps need a local folder")
    assert not (project / "gs:").exists()


@pytest.mark.parametrize(("launcher", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_package_that_is_missing_is_named(
    project: Path, launcher: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(f"eir_seq.commands.engines.{launcher}.is_installed", lambda name: name != package)
    assert main(["-m", "experiment=mine", "seed=4,5", f"hydra/launcher={launcher}"]) == 2
    assert f"{package} is not installed; run: pip install 'eir_seq[{launcher}]'" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- remote nodes


def test_a_command_ends_with_the_process_that_started_it(tmp_path: Path, fake_job: Path) -> None:
    """As on a node whose daemon is killed while a job runs; the next one waits until the first has saved."""
    launch = Launch((sys.executable, str(fake_job), "seed=9", str(tmp_path / "0")), tmp_path / "0.log")
    child = os.fork()
    if child == 0:
        Remote(launch, {}).run()
        os._exit(0)
    _wait_for((tmp_path / "0" / "ready").exists)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert Remote(launch, {}).run() == 0
    assert (tmp_path / "0" / "saved").exists()
    assert len(_starts(tmp_path, 0)) == 2


# ----------------------------------------------------------------------------------------------------------- SLURM


LOCAL = ["hydra/launcher=slurm", "hydra.launcher.cluster=local", "hydra.sweep.dir=here"]


@pytest.mark.slow
def test_jobs_run_by_submitit(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    words = ["-m", "experiment=mine", "seed=3,4,5", "note=https://me:canary@host/x", *LOCAL, "hydra.launcher.n_jobs=2"]
    assert main(words) == 3
    captured = capsys.readouterr()
    assert "failed: row 17 has a loss of nan" in captured.out
    assert " on " in captured.out
    assert [job.status for job in read_jobs(project / "here")] == ["failed", "done", "done"]
    assert main(words) == 3  # repeats the failed one only
    assert [len(_starts(project / "here", number)) for number in range(3)] == [2, 1, 1]
    written = [path for path in (project / "here").rglob("*") if path.is_file()]
    assert any(path.suffix == ".pkl" for path in written)
    assert not any(b"canary" in path.read_bytes() for path in written)


@pytest.mark.slow
def test_a_preempted_job_saves_and_is_queued_again(tmp_path: Path, fake_job: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    from eir_seq.commands.engines.slurm import Slurm

    engine = Slurm(SlurmConfig(cluster="local"), 1)
    launch = Launch((sys.executable, str(fake_job), "seed=9", str(tmp_path / "0")), tmp_path / "0.log")
    (task,) = engine.start([launch])
    _wait_for((tmp_path / "0" / "ready").exists)
    # A later process finds the job while it runs.
    found = Slurm(SlurmConfig(cluster="local"), 1).running(launch.log)
    assert found is not None
    children = Path(f"/proc/{task._job.job_id}/task/{task._job.job_id}/children").read_text().split()  # type: ignore
    os.kill(int(children[0]), signal.SIGUSR2)  # as SLURM does: to the task, not to its controller
    assert task.wait() == 0
    assert (tmp_path / "0" / "result.json").exists()
    assert len(_starts(tmp_path, 0)) == 2
    assert engine.running(launch.log) is None


@pytest.mark.slow
def test_a_signal_ends_jobs_of_submitit(tmp_path: Path, fake_job: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    from eir_seq.commands.engines.slurm import Slurm

    launch = Launch((sys.executable, str(fake_job), "seed=9", str(tmp_path / "0")), tmp_path / "0.log")
    (task,) = Slurm(SlurmConfig(cluster="local"), 1).start([launch])
    _wait_for((tmp_path / "0" / "ready").exists)
    task.terminate()
    assert task.wait() == 143
    assert launch.log.read_text() == "saved\n"


# ------------------------------------------------------------------------------------------------------------- Ray


@pytest.mark.slow
def test_jobs_run_by_ray(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    words = ["-m", "experiment=mine", "hydra/launcher=ray", "hydra.launcher.address=local", "hydra.sweep.dir=here"]
    assert main([*words, "seed=3,4,5"]) == 3
    captured = capsys.readouterr()
    assert f"job 1 starts (node {socket.gethostname()}): seed=4" in captured.out
    assert "failed: row 17 has a loss of nan" in captured.out
    assert [job.status for job in read_jobs(project / "here")] == ["failed", "done", "done"]
    assert _starts(project / "here", 1)[0].endswith(" 1")
    assert main([*words, "seed=3,4,5"]) == 3
    assert [len(_starts(project / "here", number)) for number in range(3)] == [2, 1, 1]
    assert main([*words, "seed=6", "hydra.launcher.gpus_per_job=4"]) == 2
    assert "hydra.launcher.gpus_per_job: 4 GPU, and no node has more than 0" in capsys.readouterr().err
    assert main([*words, "seed=6", "hydra.launcher.resources={a100: 1}"]) == 2
    assert "hydra.launcher.resources.a100: 1 a100, and no node has more than 0" in capsys.readouterr().err


@pytest.mark.slow
def test_ray_shares_a_training_between_two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    from ray.cluster_utils import Cluster

    make_project(tmp_path, MINE.replace("  stars:\n    type: regression\n    column: stars\n", ""))
    monkeypatch.chdir(tmp_path)
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    short = ["trainer.max_steps=3", "data.limit=64", "inputs.review.max_length=32", "trainer.accelerator=cpu"]
    words = ["-m", "experiment=mine", "seed=1", *short, f"data.cache_dir={tmp_path / 'cache'}"]
    on_ray = ["hydra/launcher=ray", "hydra.launcher.nodes_per_job=2", "hydra.sweep.dir=two"]
    small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        address = f"hydra.launcher.address={cluster.address}"
        assert main([*words, *on_ray, address]) == 2  # there is one node
        cluster.add_node(**small)
        assert main([*words, *on_ray, address]) == 0
    finally:
        cluster.shutdown()
    assert main([*words, "hydra.sweep.dir=one"]) == 0
    one, two = (json.loads((tmp_path / name / "0" / "result.json").read_text()) for name in ("one", "two"))
    # The first step differs by the order of sums, later ones by dropout, which each process draws.
    assert one["monitor"]["value"] == pytest.approx(two["monitor"]["value"], rel=0.02)
    assert "2 processes share each batch" in (tmp_path / "two" / "0" / "log.txt").read_text()
    assert (tmp_path / "two" / "jobs" / "0.node-1.log").exists()


@pytest.mark.slow
def test_a_training_starts_again_when_one_of_its_nodes_is_lost(
    tmp_path: Path, fake_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    from ray.cluster_utils import Cluster

    from eir_seq.commands.engines.ray import RayCluster

    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        _, doomed = (cluster.add_node(**small, resources={"spot": 1}) for _ in range(2))
        config = RayConfig(address=cluster.address, resources={"spot": 1}, max_failures=1)
        engine = RayCluster(config, tmp_path, nodes=2)
        launch = Launch((sys.executable, str(fake_job), "seed=9", str(tmp_path / "0")), tmp_path / "0.log")
        (task,) = engine.start([launch])
        _wait_for(lambda: task.poll() is None and task.begun and len(_starts(tmp_path, 0)) == 2, 120)
        cluster.remove_node(doomed, allow_graceful=False)
        _wait_for(lambda: task.poll() is None and not task.begun, 120)
        (tmp_path / "0" / "saved").touch()
        cluster.add_node(**small, resources={"spot": 1})
        assert task.wait() == 0
        assert len(_starts(tmp_path, 0)) == 4
    finally:
        ray.shutdown()
        cluster.shutdown()
