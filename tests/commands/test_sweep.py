"""Jobs of a sweep: each in a process of its own, none of which can take the others down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from eir_seq.cache.owners import temporary_name
from eir_seq.commands import main, multirun
from eir_seq.commands.sweep import Sweep, job_command, last_line
from eir_seq.errors import UserError
from eir_seq.inference.jobs import Job, read_jobs
from eir_seq.training.redaction import redact
from tests.config.project import make_project

FAKE_JOB = """
import json, os, pathlib, signal, sys, time
*overrides, run_dir = sys.argv[1:]
words = [word.lstrip("+") for word in overrides]
folder = pathlib.Path(run_dir)
folder.mkdir(parents=True, exist_ok=True)
with (folder / "starts").open("a") as file:
    file.write(f"{os.environ['EIR_SEQ_SWEEP']} {time.time()}\\n")
if "seed=1" in words:
    raise RuntimeError("seed 1 is cursed")
if "seed=2" in words:
    os.kill(os.getpid(), signal.SIGKILL)
if "seed=3" in words:
    print("row 17 has a loss of nan")
    sys.exit(3)
if "seed=9" in words:
    signal.signal(signal.SIGTERM, lambda *_: (print("saved"), sys.exit(143)))
    time.sleep(60)
    sys.exit(1)
time.sleep(0.2)
(folder / "result.json").write_text(json.dumps({"monitor": {"value": 0.5}}))
"""


@pytest.fixture
def fake_job(tmp_path: Path) -> Path:
    path = tmp_path / "fake_job.py"
    path.write_text(FAKE_JOB)
    return path


def _sweep(folder: Path, fake_job: Path, *, n_jobs: int = 1) -> Sweep:
    def command(overrides: Sequence[str], run_dir: Path) -> list[str]:
        return [sys.executable, str(fake_job), *overrides, str(run_dir)]

    return Sweep(folder, command, n_jobs=n_jobs, say=lambda _line: None)


def test_a_dying_job_does_not_stop_the_others(tmp_path: Path, fake_job: Path) -> None:
    folder = tmp_path / "multirun" / "mine"
    jobs = _sweep(folder, fake_job).run([[f"seed={seed}"] for seed in range(5)])

    assert [job.status for job in jobs] == ["done", "failed", "failed", "failed", "done"]
    assert [job.exit_code for job in jobs] == [0, 1, -signal.SIGKILL, 3, 0]
    assert jobs[1].message == "RuntimeError: seed 1 is cursed"
    assert jobs[2].message == "killed by SIGKILL"
    assert jobs[3].message == "row 17 has a loss of nan"
    assert read_jobs(folder) == jobs
    assert (folder / "0" / "starts").read_text().split()[0] == "multirun-mine"
    assert not list(folder.rglob("*partial*"))


def test_again_repeats_no_finished_job_and_may_have_more(tmp_path: Path, fake_job: Path) -> None:
    folder = tmp_path / "sweep"
    first = _sweep(folder, fake_job).run([["seed=4"], ["seed=3"]])
    second = _sweep(folder, fake_job).run([["seed=5"], ["seed=3"], ["seed=4"]])

    assert [job.number for job in first] == [0, 1]
    assert [(job.number, job.status) for job in second] == [(2, "done"), (1, "failed"), (0, "done")]
    starts = {number: len((folder / str(number) / "starts").read_text().splitlines()) for number in range(3)}
    assert starts == {0: 1, 1: 2, 2: 1}


def test_status_files_that_a_killed_sweep_left_are_removed(tmp_path: Path, fake_job: Path) -> None:
    (tmp_path / "jobs").mkdir()
    left = tmp_path / "jobs" / temporary_name("0.json").replace(f"-{os.getpid()}-", "-4194305-")  # no such process
    left.write_text('{"number": ')
    _sweep(tmp_path, fake_job).run([["seed=4"]])
    assert not left.exists()
    assert [job.status for job in read_jobs(tmp_path)] == ["done"]


def test_no_secrets_are_kept(tmp_path: Path, fake_job: Path) -> None:
    secrets = ["seed=3", "note=https://me:canary@host/x", "+hub.token=canary", "x.password=a canary"]
    said: list[str] = []
    sweep = _sweep(tmp_path / "sweep", fake_job)
    sweep._say = lambda line: said.append(str(redact(line)))
    assert [job.status for job in sweep.run([secrets])] == ["failed"]
    written = [path for path in (tmp_path / "sweep").rglob("*") if path.is_file()]
    assert {"0.json", "0.log"} <= {path.name for path in written}
    assert not any(b"canary" in path.read_bytes() for path in written)
    assert said
    assert "canary" not in " ".join(said)


def test_links_out_of_the_sweep_are_refused(tmp_path: Path, fake_job: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "sweep" / "jobs").mkdir(parents=True)
    for name in (".lock", "0.log"):
        (tmp_path / "sweep" / "jobs" / name).symlink_to(tmp_path / "kept")
    with pytest.raises(UserError, match=r"0\.log is a link that leads out of the sweep's folder"):
        _sweep(tmp_path / "sweep", fake_job).run([["seed=4"]])
    assert (tmp_path / "kept").read_text() == "kept"


@pytest.mark.parametrize("content", ["[1]", "{", '{"number": 0}', "[" * 100_000])
def test_a_damaged_status_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "0.json").write_text(content)
    with pytest.raises(UserError, match=r"jobs/0\.json: is not the status of a job"):
        read_jobs(tmp_path)


def test_n_jobs_run_at_once(tmp_path: Path, fake_job: Path) -> None:
    folder = tmp_path / "sweep"
    _sweep(folder, fake_job, n_jobs=2).run([["seed=4"], ["seed=5"]])
    starts = [float((folder / name / "starts").read_text().split()[1]) for name in ("0", "1")]
    assert abs(starts[0] - starts[1]) < 0.2


def test_a_signal_reaches_the_jobs_and_nothing_new_starts(tmp_path: Path, fake_job: Path) -> None:
    folder = tmp_path / "sweep"
    sweep = _sweep(folder, fake_job)

    def stop_when_running() -> None:
        while not (folder / "0" / "starts").exists():
            time.sleep(0.02)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_when_running)
    thread.start()
    jobs = sweep.run([["seed=9"], ["seed=4"]])
    thread.join()

    assert sweep.stopped_by == signal.SIGTERM
    assert [(job.status, job.exit_code) for job in jobs] == [("stopped", 143), ("waiting", None)]
    assert jobs[0].message == "saved"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_only_one_process_works_on_a_sweep(tmp_path: Path, fake_job: Path) -> None:
    sweep = _sweep(tmp_path / "sweep", fake_job)
    (tmp_path / "sweep" / "jobs").mkdir(parents=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl,sys,time\nfile=open(sys.argv[1],'w')\n"
         "fcntl.flock(file,fcntl.LOCK_EX)\nprint('held',flush=True)\ntime.sleep(60)",
         str(tmp_path / "sweep" / "jobs" / ".lock")],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(UserError, match="another process works on the sweep"):
            sweep.run([["seed=4"]])
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert [job.status for job in sweep.run([["seed=4"]])] == ["done"]


def test_the_last_line_of_a_log_is_found_in_a_long_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("x" * 50_000 + "\nthe end\n\n")
    assert last_line(log) == "the end"
    with log.open("a") as file:
        file.write("... and 30 more of this kind\n")
    assert last_line(log) == "the end"


def test_run_folders_with_strange_names_survive_the_command_line() -> None:
    from eir_seq.config.overrides import parse_overrides

    for name in ("plain/0", "with space, comma/0", "it's=odd/0", "back\\slash/0"):
        override = parse_overrides([job_command(["seed=1"], Path(name))[-1]])[0]
        assert override.value() == name


# ------------------------------------------------------------------------------------------------ through Hydra


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_job: Path) -> Path:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)

    def command(overrides: Sequence[str], run_dir: Path) -> list[str]:
        return [sys.executable, str(fake_job), *overrides, str(run_dir)]

    monkeypatch.setattr(multirun, "job_command", command)
    monkeypatch.setattr(multirun, "preflight", lambda *_: ())  # no data belong to this experiment
    return tmp_path


def test_multirun_runs_every_combination(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["-m", "experiment=mine", "seed=4,5", "optimizer.lr=1e-3,1e-4", "hydra.launcher.n_jobs=2"])
    output = capsys.readouterr().out
    assert code == 0
    (folder,) = (project / "multirun" / "mine").iterdir()
    jobs = read_jobs(folder)
    assert [job.overrides for job in jobs] == [
        ("+experiment=mine", f"++seed={seed}", f"++optimizer.lr={lr}") for seed in (4, 5) for lr in ("0.001", "0.0001")
    ]
    assert {job.status for job in jobs} == {"done"}
    assert "seed=4 optimizer.lr=0.001" in output
    assert "0.5000" in output
    assert not (project / "outputs").exists()


def test_multirun_tells_of_failures_and_goes_on_in_the_same_folder(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", "experiment=mine", "seed=3,4", "hydra.sweep.dir=here"]
    assert main(words) == 3
    captured = capsys.readouterr()
    assert captured.err == "1 of 2 jobs failed; their output is in here/jobs\n"
    assert "failed: row 17 has a loss of nan" in captured.out

    assert main(words) == 3
    starts = [len((project / "here" / str(number) / "starts").read_text().splitlines()) for number in (0, 1)]
    assert starts == [2, 1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["seed=1,2", "optimizer.lrr=1,2"], "optimizer.lrr: unknown key; did you mean 'lr'? (command line)"),
        (["seed=1,2", "+nowhere=1,2"], "nowhere: unknown key; keys here: "),
        (["seed=1,two"], "seed: 'two' is not an integer >= 0 and < 2**63 (command line)"),
        (
            ["inputs.review.model.model_init_config.hidden_size=64,65"],
            "inputs.review.model.model_init_config.hidden_size: 65 is not divisible by num_attention_heads 2 "
            "(command line)",
        ),
        (["scheduler=linear,null"], "scheduler: null is no option ("),
        (["scheduler=choice(linear,null)"], "scheduler: null is no option ("),
        (
            ["scheduler=tag(a,choice(linear,null))"],
            "scheduler: 'tag(a,choice(linear,null))': tag() takes no null; write the values as a list, "
            "scheduler=VALUE,null (command line)",
        ),
        (
            ["scheduler=linear,choice(cosine)"],
            "scheduler: a list of values cannot hold a function that is a list itself; name all values (1,2,3) (",
        ),
        (
            ["seed=1,"],
            """seed: '1,' has a comma without a value; leave it out (seed=1), or for a text write 'seed="1,"' (""",
        ),
        (["scheduler=linear,"], "scheduler: 'linear,' has a comma without a value; leave it out (scheduler=linear) ("),
        (["seed=1,,2"], """seed: '1,,2' has a comma without a value; leave it out (seed=1,2), or for a text write """),
        (["scheduler=glob(x*)"], "scheduler: an axis of the sweep without values (command line)"),
        (["scheduler=glob(c*)", "seed=x"], "seed: 'x' is not an integer"),
        (
            ["seed=interval(1,2)"],
            "seed: an interval holds no values to run one by one; name them (1,2,3) or write range(",
        ),
        (["experiment=mine,mime"], "experiment: no option 'mime' ("),
        (["seed=1,2", "run.dir=x"], "run.dir: each job of a sweep has its own; hydra.sweep.dir=DIR names the sweep's"),
        (["seed=range(0,1000)", "data.batch_size=range(1,1000)"], "--multirun: the axes make 999000 jobs; at most"),
        (["seed=1,2", "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs: 0 is not an integer >= 1 (command line)"),
        (["seed=1,2", "hydra.launcher.n_job=2"], "hydra.launcher.n_job: unknown key (command line)"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_sweep_with_a_fault_starts_nothing(
    project: Path, words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not any(word.startswith("experiment=") for word in words):
        words = ["experiment=mine", *words]
    assert main(["-m", *words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (project / "multirun").exists()


def test_a_choice_of_values_may_hold_null(project: Path) -> None:
    assert main(["-m", "experiment=mine", "trainer.gradient_clip=choice(0.5,null)"]) == 0
    (folder,) = (project / "multirun" / "mine").iterdir()
    assert [job.overrides[1] for job in read_jobs(folder)] == [f"++trainer.gradient_clip={x}" for x in ("0.5", "null")]


def test_a_job_is_this_program_in_a_fresh_interpreter(tmp_path: Path) -> None:
    command = job_command(["+experiment=nowhere"], tmp_path / "0")
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("experiment: no option 'nowhere'")


def test_a_status_file_is_json_that_names_everything(tmp_path: Path, fake_job: Path) -> None:
    _sweep(tmp_path / "sweep", fake_job).run([["seed=4"]])
    content = json.loads((tmp_path / "sweep" / "jobs" / "0.json").read_text())
    assert content.keys() == Job(0, ()).__dict__.keys()
    assert content["overrides"] == ["seed=4"]
    assert content["seconds"] >= 0.2
