"""Searches: spaces, samplers and pruning; trials are a small script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eir_seq.commands import main
from eir_seq.commands.search import study as studies
from eir_seq.config.sweep_space import ends, grid
from eir_seq.config.sweeps import read_sweep
from eir_seq.errors import UserError
from eir_seq.inference.jobs import read_jobs
from tests.commands.search_project import rows_of, starts_of, sweep

pytest.importorskip("optuna", reason="optuna is not installed (extra search)")


# ---------------------------------------------------------------------------------------------------------- spaces


def test_conditions_hold_in_grids_and_at_the_ends(project: Path) -> None:
    request = read_sweep(["experiment=mine", "sweep=conditional"])
    points = grid(request.space, 100)
    window, model = "inputs.review.model.model_init_config.attention_window", "inputs.review.model.model_type"
    assert len(points) == 3 * (2 + 1)
    assert all((window in point) == (point[model] == "longformer") for point in points)
    settings = ends(request.space)
    assert {(setting[model], setting.get(window), setting["seed"]) for setting in settings} == {
        ("longformer", "32", "1"), ("bert", None, "1"), ("longformer", "64", "1"), ("longformer", "32", "3"),
    }  # fmt: skip


def test_words_with_several_values_are_searched(project: Path) -> None:
    request = read_sweep(["experiment=mine", "optimizer.lr=interval(1e-4,1e-2)", "seed=int(tag(log,interval(1,64)))"])
    lr, seed = request.space
    assert (lr.kind, lr.low, lr.high, lr.log) == ("float", 1e-4, 1e-2, False)
    assert (seed.kind, seed.ends, seed.log) == ("integer", ("1", "64"), True)
    assert request.words == ("experiment=mine",)
    steps = read_sweep(["optimizer.lr=range(0.1,0.5,0.1)"]).space[0]
    assert [steps.text(point) for point in steps.points or ()] == ["0.1", "0.2", "0.3", "0.4"]


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["sweep=boht"], ["sweep: no option 'boht' ("]),
        ([], ["sweep.space: is empty; choose sweep=NAME (both, "]),
        (["sweep=both", "sweep.trails=3"], ["sweep.trails: unknown key; did you mean 'trials'? (command line)"]),
        (["sweep=both", "sweep.trials=0"], ["sweep.trials: 0 is not an integer >= 1 (command line)"]),
        (["sweep=both", "sweep.sampler=tpee"], ["sweep.sampler: 'tpee' is not one of "]),
        (["sweep=both", "optimizer.lr=1"], ["optimizer.lr: is a key of the space (conf/sweep/both.yaml:2); give it"]),
        (["sweep=both", "run.dir=x"], ["run.dir: each trial has its own; sweep.dir=DIR names the sweep's"]),
        (["sweep=both", "sweep.dir=s3://bucket/x"], ["sweep.dir: s3://bucket/x: sweeps need a local folder"]),
        (["sweep=both", "hydra.launcher.n_jobs=2"], ["hydra.launcher.n_jobs: has no effect"]),
        (["sweep=both", "sweep.sampler=grid"], ["sweep.space.optimizer.lr: a grid needs values; write choice("]),
        (["seed=tag(logg,interval(1,2))"], ["seed: unknown tag 'logg'; there is log (command line)"]),
        (["optimizer.lr=tag(log,interval(0,2))"], ["optimizer.lr: interval(0.0, 2.0) needs 0 < low < high"]),
        (["seed=shuffle(range(1,5))"], ["seed: shuffle has no effect on a search; leave it out (command line)"]),
        (["optimizer.lr=interval(-1,1)"], ["optimizer.lr: -1.0 is not "]),
        (["seed=interval(1,9)"], ["seed: 1.0 is not an integer", "seed: 9.0 is not an integer"]),
        (
            ["optimizer.lrr=interval(1,2)", "data.batch_size=0,1"],
            ["data.batch_size: 0 is not an integer >= 1", "optimizer.lrr: unknown key"],
        ),
        (
            ["inputs.review.model.model_init_config.hidden_size=64,65"],
            ["inputs.review.model.model_init_config.hidden_size: 65 is not divisible by num_attention_heads 2"],
        ),
        (["sweep=both", "sweep.direction=maximize"], ["sweep.direction: is maximize, but trainer.monitor chooses"]),
        (["sweep=both", "sweep.metrics=[stars.r3]"], ["sweep.metrics[0]: 'r3' is not a metric of outputs.stars"]),
        (["sweep=both", "sweep.metrics=[loss,stars.r2]", "sweep.pruner=asha"], ["sweep.pruner: asha stops trials"]),
        (
            ["sweep=both", "sweep.sampler=cmaes", "sweep.storage=sqlite:///s.db"],
            ["sweep.sampler: cmaes keeps a pickle"],
        ),
        (["sweep=both", "sweep.start=[nowhere]"], ["sweep.start[0]: 'nowhere' is no run folder"]),
        (
            ["sweep=both", "sweep.start=[{optimizer.lr: 1, seed: 3}]"],
            ["sweep.start[0]: seed is not a key of the space", "sweep.start[0]: optimizer.lr: 1 is not from 0.0001 to"],
        ),
        (["sweep=both", "sweep.storage=mysql://me:canary@host/x"], ["sweep.storage: 'mysql://***@host/x' is not "]),
        (["sweep=both", "data.folds=3", "sweep.pruner=asha"], ["sweep.pruner: asha stops single runs, and with data."]),
    ],
    ids=lambda value: value[-1] if value and "=" in value[-1] else "",
)
def test_a_search_with_a_fault_starts_nothing(
    project: Path, words: list[str], lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(*words) == 2
    captured = capsys.readouterr()
    found = captured.err.splitlines()
    assert len(found) == len(lines)
    assert all(line.startswith(start) for line, start in zip(found, lines, strict=True)), found
    assert not (project / "s" / "0").exists()


def test_a_condition_with_a_fault_is_named(project: Path) -> None:
    path = project / "conf" / "sweep" / "both.yaml"
    path.write_text("space:\n  seed: choice(1, 2)\n  data.batch_size: {values: 'choice(8, 16)', when: {seed: 3}}\n")
    with pytest.raises(UserError, match=r"sweep.space.data.batch_size.when: seed: 3 is not one of 1, 2 \(conf/sweep/"):
        read_sweep(["sweep=both"])
    path.write_text(path.read_text().replace("{seed: 3}", "{sed: 1}"))
    with pytest.raises(UserError, match="'sed' is not a key of the space with choices; did you mean 'seed'"):
        read_sweep(["sweep=both"])


def test_a_space_of_what_no_trial_has_is_refused(project: Path) -> None:
    path = project / "conf" / "sweep" / "both.yaml"
    for line, message in {
        "run.dir: choice(a, b)": r"space\.run\.dir: each trial has its own; sweep\.dir=DIR names the sweep's",
        "sweep.trials: choice(1, 2)": "is a setting of the search, not of a trial",
        "hydra.launcher.n_jobs: choice(1, 2)": "has no effect on a search",
        "seed: logint(1, 2)": r"'logint' is no word for values; write choice\(\.\.\.\), interval",
    }.items():
        path.write_text(f"space:\n  {line}\n")
        with pytest.raises(UserError, match=message):
            read_sweep(["sweep=both"])


def test_a_dry_run_writes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("sweep=both", "sweep.trials=7", "--dry-run") == 0
    output = capsys.readouterr().out
    assert "optimizer.lr: 0.0001 to 0.01; logarithmic" in output
    assert "minimize loss: 7 trials by tpe" in output
    assert not (project / "s").exists()


@pytest.mark.parametrize("name", ["learning_rate", "optimizers"])
def test_sweeps_that_ship_suit_an_experiment(project: Path, name: str) -> None:
    assert sweep(f"sweep={name}", "--dry-run") == 0


# -------------------------------------------------------------------------------------------------- trials, samplers


SLOW = pytest.mark.slow


@pytest.mark.parametrize("sampler", ["tpe", *(pytest.param(name, marks=SLOW) for name in ("random", "cmaes", "gp"))])
def test_a_search_finds_values_and_is_repeatable(project: Path, sampler: str) -> None:
    words = ["sweep=both", f"sweep.sampler={sampler}", "sweep.trials=5", "sweep.startup_trials=3"]
    assert sweep(*words) == 0
    first = rows_of(project / "s")
    assert [row["state"] for row in first] == ["complete"] * 5
    assert len({row["optimizer.lr"] for row in first}) == 5
    assert all(
        float(row["value"]) == pytest.approx(1 + abs(float(row["optimizer.lr"]) - 4e-3), abs=1e-4) for row in first
    )
    assert main(["sweep", "experiment=mine", "sweep.dir=again", *words]) == 0
    assert rows_of(project / "again") == first


def test_a_grid_runs_every_point_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("sweep=conditional", "sweep.n_jobs=3") == 0
    rows = rows_of(project / "s")
    points = [tuple(row.values())[4:] for row in rows]
    assert len(points) == len(set(points)) == 9
    output = capsys.readouterr().out
    assert "9 complete" in output
    assert "again: python -m eir_seq experiment=mine inputs.review.model.model_type=" in output


@pytest.mark.slow
def test_tpe_is_better_than_random(project: Path) -> None:
    """On a function of one number, after the same random trials; in process, without trials that run."""
    import statistics

    def best(sampler: str, seed: int) -> float:
        request = read_sweep(["optimizer.lr=tag(log,interval(1e-6,1))", f"sweep.sampler={sampler}"])
        storage = project / f"{sampler}{seed}"
        study = studies.Study(request.config, request.space, storage, "x", ["minimize"], seed=seed, total=40)
        study.begin({})
        found = []
        while (claim := study.claim()) is not None:
            import math

            value = abs(math.log10(claim.chosen["optimizer.lr"]) + 2.5)
            study.finish(claim, "complete", [value])
            found.append(value)
        return min(found)

    tpe, random = (statistics.fmean(best(sampler, seed) for seed in range(3)) for sampler in ("tpe", "random"))
    assert tpe < random


def test_bad_trials_are_recorded_and_the_rest_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep.sampler=grid", "data.batch_size=3,4,5,8", "sweep.n_jobs=2", "sweep.timeout=2"]
    assert sweep(*words) == 0
    by_size = {row["data.batch_size"]: row for row in rows_of(project / "s")}
    assert {size: row["state"] for size, row in by_size.items()} == {
        "3": "failed", "4": "failed", "5": "timeout", "8": "complete",
    }  # fmt: skip
    jobs = {job.number: job for job in read_jobs(project / "s")}
    messages = {size: jobs[int(row["number"])].message for size, row in by_size.items()}
    assert messages["3"] == "row 17 has a loss of nan"
    assert messages["4"] == "killed by SIGKILL (by the system, if memory ran out)"
    assert messages["5"] == "stopped after 2 s (sweep.timeout)"
    starts = {number: starts_of(project / "s", number) for number in range(4)}
    capsys.readouterr()
    assert sweep(*words) == 0  # nothing that ended is repeated
    assert {number: starts_of(project / "s", number) for number in range(4)} == starts
    assert "1 complete" in capsys.readouterr().out


@pytest.mark.parametrize("pruner", ["median", *(pytest.param(name, marks=SLOW) for name in ("asha", "hyperband"))])
def test_a_pruner_stops_trials_early(project: Path, monkeypatch: pytest.MonkeyPatch, pruner: str) -> None:
    monkeypatch.setenv("FAKE_PAUSE", "0.3")
    # A good trial first; the others are worse at every evaluation.
    words = ["optimizer.lr=choice(0.004,1,2,3,4,5)", f"sweep.pruner={pruner}", "sweep.pruner_startup=1"]
    starts = ", ".join(f"{{optimizer.lr: {lr}}}" for lr in (0.004, 1, 2, 3, 4, 5))
    assert sweep(*words, f"sweep.start=[{starts}]", "sweep.trials=6", "sweep.n_jobs=2", "sweep.reduction_factor=2") == 0
    states = {row["optimizer.lr"]: row["state"] for row in rows_of(project / "s")}
    assert states["0.004"] == "complete"
    assert "pruned" in states.values()
    pruned = [job for job in read_jobs(project / "s") if job.status == "pruned"]
    assert pruned[-1].message.startswith(f"stopped by {pruner} at evaluation ")
    assert not (project / "s" / str(pruned[-1].number) / "result.json").exists()


def test_starting_points_come_first(project: Path) -> None:
    assert sweep("sweep=both", "sweep.trials=3", "sweep.sampler=random") == 0
    best = min(rows_of(project / "s"), key=lambda row: float(row["value"]))
    run = project / "run"
    run.mkdir()
    (run / "config.yaml").write_text("optimizer: {lr: 0.002}\ndata: {batch_size: 16}\ninputs: {}\noutputs: {}\n")
    words = [
        "sweep=both",
        "sweep.dir=t",
        "sweep.trials=6",
        "sweep.start=[run,s,'optimizer.lr=0.005 data.batch_size=8']",
    ]
    assert main(["sweep", "experiment=mine", *words]) == 0
    rows = rows_of(project / "t")
    assert (rows[0]["optimizer.lr"], rows[0]["data.batch_size"]) == ("0.002", "16")
    assert rows[1]["optimizer.lr"] == best["optimizer.lr"]
    assert rows[4]["optimizer.lr"] == "0.005"


def test_several_objectives_give_a_front(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("sweep=both", "sweep.trials=4", "sweep.metrics=[loss,sentiment.accuracy]") == 0
    rows = rows_of(project / "s")
    assert float(rows[0]["loss"]) > 1 > float(rows[0]["sentiment.accuracy"])
    assert "the first of these again: python -m eir_seq experiment=mine optimizer.lr=" in capsys.readouterr().out


def test_a_study_of_another_search_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("sweep=both", "sweep.trials=1") == 0
    assert sweep("sweep=both", "sweep.trials=2", "trainer.threads=1") == 0  # of the machine, not of the search
    assert len(rows_of(project / "s")) == 2
    (project / "s" / "sweep.json").unlink()  # the study says what it is
    assert sweep("sweep=both", "sweep.trials=2") == 0
    assert (project / "s" / "sweep.json").is_file()
    capsys.readouterr()
    assert sweep("sweep=both", "sweep.trials=3", "seed=5") == 2
    assert "is the name of another search in this storage" in capsys.readouterr().err


def test_a_folder_of_other_jobs_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "s" / "jobs").mkdir(parents=True)
    (project / "s" / "jobs" / "0.json").write_text(json.dumps({"number": 0, "overrides": []}))
    assert sweep("sweep=both") == 2
    assert "sweep.dir: s holds the jobs of another sweep" in capsys.readouterr().err


def test_compare_names_trials_without_a_result(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("sweep.sampler=grid", "data.batch_size=3,8") == 0
    capsys.readouterr()
    assert main(["runs", "compare", "s"]) == 0
    assert "failed: row 17 has a loss of nan" in capsys.readouterr().out


def test_no_secrets_are_kept(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("sweep=both", "sweep.trials=1", "note=https://me:canary@host/x") == 0
    written = [path for path in (project / "s").rglob("*") if path.is_file()]
    assert not any(b"canary" in path.read_bytes() for path in written)
    assert "canary" not in capsys.readouterr().out


def test_a_package_that_is_missing_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(studies, "is_installed", lambda name: name != "optuna")
    assert sweep("sweep=both") == 2
    assert capsys.readouterr().err == "sweep: optuna is not installed; run: pip install 'eir_seq[search]'\n"
