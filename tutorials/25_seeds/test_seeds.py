from __future__ import annotations

import copy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from eir_seq.commands import main
from eir_seq.config.compose import compose_experiment
from eir_seq.config.trackers import WandbTrackerConfig
from tests.readme import run_all

HERE = Path(__file__).parent


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(HERE / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_step_can_be_done(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "experiment=reviews", "data.limit=64", "trainer.threads=1", f"data.cache_dir={project / 'cache'}"]
    assert main(words) == 0
    assert "all is well" in capsys.readouterr().out


def command_of_agent(sweep: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """The command line that ``wandb agent`` makes of a sweep and of the values that the server chose."""
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    macros = utils.create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})
    macros |= {"interpreter": [sys.executable], "env": ["/usr/bin/env"], "program": [sweep.get("program", "")]}
    command: list[str] = []
    for word in utils.create_sweep_command(copy.deepcopy(sweep["command"])):
        name = word[2:-1] if word.startswith("${") else ""
        command += macros.get(name, [word])
    return command


@pytest.mark.usefixtures("project")
def test_the_command_of_an_agent_is_accepted() -> None:
    sweep = yaml.safe_load((HERE / "wandb_sweep.yaml").read_text())
    values = {"optimizer.lr": 1.5e-05, "inputs.review.model.pool": "max", "seed": 3}
    assert values.keys() == sweep["parameters"].keys()
    env, python, *words = command_of_agent(sweep, values)
    assert (env, python) == ("/usr/bin/env", sys.executable)
    assert words[:2] == ["-m", "eir_seq"]
    config = compose_experiment(words[2:]).config
    assert isinstance(config.tracker, WandbTrackerConfig)
    assert (config.optimizer.lr, config.seed) == (1.5e-05, 3)
    assert config.inputs["review"].model_dump()["model"]["pool"] == "max"


@pytest.mark.usefixtures("project")
def test_the_metric_of_the_sweep_is_one_that_is_logged() -> None:
    from eir_seq.training.module import metric_key
    from eir_seq.training.monitor import monitor_of

    sweep = yaml.safe_load((HERE / "wandb_sweep.yaml").read_text())
    monitor = monitor_of(compose_experiment(["experiment=reviews"]).config)
    assert sweep["metric"]["name"] == metric_key("validation", monitor.output, monitor.metric)
    assert sweep["metric"]["goal"] == {"max": "maximize", "min": "minimize"}[monitor.mode]


@pytest.mark.slow
def test_the_commands_do_what_the_tutorial_says(project: Path) -> None:
    printed = run_all(HERE / "README.md", project, ("trainer=try", "data.limit=64", "trainer.max_steps=2"))
    compared = [text for command, text in printed.items() if "compare sweeps/seeds" in command]
    assert all("validation" in text for text in compared)
    assert (project / "sweeps/seeds/compare.html").is_file()
    assert any("finished" in text for text in printed.values())
