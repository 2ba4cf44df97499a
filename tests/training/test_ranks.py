"""A training that several processes share gives what one gives, also after some of them were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eir_seq.config.schema import TrainerConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.training.devices import device_count, pick_device
from eir_seq.training.launch import _Process, place_of
from eir_seq.training.signals import Stopped
from tests.training.driver import ROOT, driven
from tests.training.ranks_driver import SCENARIOS
from tests.training.table import table_experiment

FAST = (
    "one process",
    "two processes",
    "comparing, one process",
    "comparing, two processes",
    "mixed, one process",
    "mixed, two processes",
    "rank 1 killed",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return driven("ranks_driver", str(tmp_path_factory.mktemp("ranks")), *FAST)


@pytest.fixture(scope="module")
def all_found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return driven("ranks_driver", str(tmp_path_factory.mktemp("all_ranks")), *SCENARIOS)


def agree(found: dict[str, Any], name: str, other: str) -> None:
    """The same metrics at the same steps and the same weights, but for sums in another order (float32: 6e-8)."""
    one, two = found[name], found[other]
    assert one["metrics"].keys() == two["metrics"].keys()
    assert [two["metrics"][key] for key in one["metrics"]] == pytest.approx(
        list(one["metrics"].values()), rel=1e-5, abs=1e-6
    )
    np.testing.assert_allclose(two["weights"], one["weights"], atol=1e-6)


def test_two_processes_give_what_one_gives(found: dict[str, Any]) -> None:
    assert found["two processes"]["codes"] == [[0, 0]]
    agree(found, "one process", "two processes")


def test_losses_compare_the_rows_of_all_processes(found: dict[str, Any]) -> None:
    """The risk sets of a Cox model and the negatives of a contrastive loss are in all parts of a batch."""
    agree(found, "comparing, one process", "comparing, two processes")


def test_rows_are_mixed_with_the_same_ones_by_any_number_of_processes(found: dict[str, Any]) -> None:
    agree(found, "mixed, one process", "mixed, two processes")
    assert found["mixed, one process"]["weights"] != pytest.approx(found["one process"]["weights"], abs=1e-4)


def test_a_run_whose_second_process_was_killed_ends_with_the_same_bits(found: dict[str, Any]) -> None:
    first, again = found["rank 1 killed"]["codes"]
    assert first[0] != 0
    assert again == [0, 0]
    assert found["rank 1 killed"]["digest"] == found["two processes"]["digest"]


@pytest.mark.slow
class TestAll:
    @pytest.mark.parametrize("name", ["three processes", "fsdp", "two, one, two"])
    def test_any_number_and_strategy_gives_what_one_process_gives(self, all_found: dict[str, Any], name: str) -> None:
        agree(all_found, "one process", name)

    @pytest.mark.parametrize(
        ("name", "other"),
        [
            ("manifold, one process", "manifold, three processes"),
            ("manifold, one process", "manifold, fsdp"),
            ("mixed, one process", "mixed, fsdp"),
        ],
    )
    def test_layers_are_mixed_alike_by_all_processes(self, all_found: dict[str, Any], name: str, other: str) -> None:
        agree(all_found, name, other)

    def test_messages_adversaries_averages_and_noise_in_shards(self, all_found: dict[str, Any]) -> None:
        agree(all_found, "connected, one process", "connected, fsdp, two, one, two")

    def test_steps_of_several_batches_and_metrics_of_training_rows(self, all_found: dict[str, Any]) -> None:
        agree(all_found, "accumulated, one process", "accumulated, two processes")

    @pytest.mark.parametrize(
        ("name", "whole"),
        [
            ("rank 1 killed", "two processes"),
            ("fsdp, rank 0 killed", "fsdp"),
            ("accumulated, rank 1 terminated", "accumulated, two processes"),
        ],
    )
    def test_an_interrupted_run_ends_with_the_same_bits(self, all_found: dict[str, Any], name: str, whole: str) -> None:
        assert all_found[name]["digest"] == all_found[whole]["digest"]

    def test_a_signal_to_one_process_stops_all_of_them_with_a_checkpoint(self, all_found: dict[str, Any]) -> None:
        assert all_found["accumulated, rank 1 terminated"]["codes"][0] == [143, 143]


@pytest.mark.parametrize("code", [-signal.SIGTERM, 128 + signal.SIGTERM])
def test_a_signal_that_stopped_another_process_stops_this_one(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes before that process could save, or after the last step."""
    process: _Process = object.__new__(_Process)
    monkeypatch.setattr(process, "_process", SimpleNamespace(poll=lambda: code), raising=False)
    stopped = process.failure()
    assert isinstance(stopped, Stopped)
    assert stopped.code == 128 + signal.SIGTERM


class TestPlace:
    def test_a_process_alone_starts_the_others_of_its_machine(self) -> None:
        place = place_of(TrainerConfig(devices=3), 3, {})
        assert (place.rank, place.world_size, place.starts) == (0, 3, True)
        assert place.port > 0
        assert not place_of(TrainerConfig(), 1, {}).starts

    def test_torchrun_says_which_process_it_is(self) -> None:
        names = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
        where = {"MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
        place = place_of(TrainerConfig(devices=2, num_nodes=2), 2, {**names, **where})
        assert (place.rank, place.local_rank, place.address, place.port) == (3, 1, "node0", 29500)
        assert not place.starts
        with pytest.raises(UserError, match=r"trainer\.devices: 2, but 4 processes were started"):
            place_of(TrainerConfig(devices=2), 2, {**names, **where})

    def test_srun_says_which_process_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = {
            "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "2", "SLURM_LOCALID": "0",
            "SLURM_NTASKS": "4", "SLURM_NODEID": "1", "SLURM_NODELIST": "gpu[7-8]", "SLURM_JOB_ID": "1234567",
        }  # fmt: skip
        for name, value in names.items():
            monkeypatch.setenv(name, value)
        place = place_of(TrainerConfig(devices=2, num_nodes=2), 2)
        assert (place.rank, place.world_size, place.local_rank, place.address) == (2, 4, 0, "gpu7")

    def test_a_batch_script_without_srun_is_one_process(self) -> None:
        assert place_of(TrainerConfig(), 1, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}).world_size == 1

    def test_machines_are_numbered(self) -> None:
        where = {"MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
        place = place_of(TrainerConfig(devices=2, num_nodes=2), 2, {**where, "NODE_RANK": "1"})
        assert (place.rank, place.world_size, place.starts) == (2, 4, True)
        with pytest.raises(UserError, match=r"trainer\.num_nodes: 2 machines, but NODE_RANK not set"):
            place_of(TrainerConfig(num_nodes=2), 1, where)
        with pytest.raises(UserError, match="NODE_RANK: 'x' is not a number"):
            place_of(TrainerConfig(num_nodes=2), 1, {**where, "NODE_RANK": "x"})


def test_what_shards_cannot_do_is_refused(tmp_path: Path) -> None:
    options = {"strategy": "fsdp", "compile": True}
    given = table_experiment(tmp_path).model_dump(mode="json")
    given |= {"trainer": {**options, "max_epochs": 1}, "optimizer": {"type": "muon", "lr": 0.01}}
    with pytest.raises(UserError) as refused:
        validate_experiment(given)
    assert sorted(fault.message for fault in refused.value.faults if fault.place == "trainer.strategy") == [
        "'fsdp' cannot be combined with trainer.compile; use 'ddp'",
        "'fsdp' needs an optimizer that updates each weight by itself; 'muon' does not",
    ]


def test_a_batch_has_a_row_for_each_process(tmp_path: Path) -> None:
    given = table_experiment(tmp_path).model_dump(mode="json")
    given["trainer"] |= {"devices": 5, "num_nodes": 2}
    with pytest.raises(
        UserError, match=r"trainer\.devices: 10 processes share the rows of each batch, but data\.batch_size is 8"
    ):
        validate_experiment(given)


def test_a_model_of_many_devices_is_used_on_a_machine_with_one() -> None:
    trainer = TrainerConfig(devices=1000, accelerator="cpu")
    assert pick_device(trainer.accelerator) == torch.device("cpu")
    with pytest.raises(UserError, match=r"trainer\.devices: 1000, but a run on cpu has 256 at most"):
        device_count(trainer, torch.device("cpu"))


# ------------------------------------------------------------------------------------------------- whole commands


def command(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "EIR_SEQ_CONF": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of configs with the experiment."""
    import yaml

    folder = tmp_path_factory.mktemp("conf")
    given = table_experiment(folder).model_dump(mode="json")
    (folder / "experiment").mkdir()
    given.pop("run")
    (folder / "experiment" / "moods.yaml").write_text("# @package _global_\n" + yaml.safe_dump(given))
    return folder


@pytest.mark.slow
class TestCommands:
    """Each start of processes: by the command itself, by torchrun, by one command on each machine, in a sweep."""

    def test_the_command_starts_the_others(self, conf: Path) -> None:
        done = command(conf, "-m", "eir_seq", "experiment=moods", "trainer.devices=2", f"run.dir={conf / 'two'}")
        assert done.returncode == 0, done.stderr
        assert "starting the other processes: 2 processes share each batch" in done.stdout
        assert done.stderr == ""
        assert (conf / "two" / "report" / "index.html").exists()
        again = command(conf, "-m", "eir_seq", "experiment=moods", "trainer.devices=2", f"run.dir={conf / 'two'}")
        assert "this run is finished; nothing was trained" in again.stdout

    def test_torchrun_starts_them(self, conf: Path) -> None:
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29541", "-m", "eir_seq"]
        run = ["experiment=moods", "trainer.devices=2", f"run.dir={conf / 'torchrun'}"]
        done = command(conf, *launcher, *run)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("reading rows") == 1, "rank 0 alone speaks"
        assert (conf / "torchrun" / "metrics.csv").read_bytes()
        again = command(conf, *launcher, *run)
        assert again.returncode == 0, again.stderr

    def test_each_machine_starts_its_own(self, conf: Path) -> None:
        words = ["-m", "eir_seq", "experiment=moods", "trainer.num_nodes=2", f"run.dir={conf / 'nodes'}"]
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29542"}
        other = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "EIR_SEQ_CONF": str(conf), **where, "NODE_RANK": "1"},
            stdout=subprocess.DEVNULL,
        )
        done = command(conf, *words, **where, NODE_RANK="0")
        assert done.returncode == 0, done.stderr
        assert other.wait(30) == 0
        assert (conf / "nodes" / "result.json").exists()

    def test_jobs_of_a_sweep_have_several_processes(self, conf: Path) -> None:
        words = ["experiment=moods", "trainer.devices=2", "seed=1,2", f"hydra.sweep.dir={conf / 'sweep'}"]
        done = command(conf, "-m", "eir_seq", "-m", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(list((conf / "sweep").glob("*/result.json"))) == 2

    def test_a_fault_of_another_process_is_told_in_a_line(self, conf: Path) -> None:
        done = command(
            conf, "-m", "eir_seq", "experiment=moods", "trainer.devices=2", "optimizer.lr=100",
            "optimizer.type=sgd", "trainer.gradient_clip=null", f"run.dir={conf / 'bad'}",
        )  # fmt: skip
        assert done.returncode == 3
        assert "not finite" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
