"""Several trackers at once: in files, on the command line, and in configs of earlier versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eir_seq.config.compose import compose_experiment
from eir_seq.config.folders import conf_dir
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import UserError

MINE = """# @package _global_
inputs: { text: { column: text, model: { model_type: bert } } }
outputs: { mood: { type: classification, column: mood } }
data: { train: rows.csv }
"""
DEFAULTS = """# @package _global_
defaults:
  - override /fusion: concat
  - override /tracker: [wandb, tensorboard]
"""
LISTED = "tracker: [wandb, { type: mlflow, uri: http://host }]\n"


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "rows.csv").write_text("text,mood\na,b\n")
    (tmp_path / "conf/experiment/mine.yaml").write_text(MINE)
    (tmp_path / "conf/experiment/listed.yaml").write_text(MINE + LISTED)
    (tmp_path / "conf/experiment/defaults.yaml").write_text(
        DEFAULTS + MINE.partition("\n")[2] + "tracker: { wandb: { mode: offline, timeout: 5 } }\n"
    )


def trackers(*words: str) -> dict[str, dict[str, Any]]:
    """By config path, the type and what is not its default."""
    config = compose_experiment(list(words)).config
    assert ExperimentConfig.model_validate(config.model_dump(mode="json")) == config
    found = config.tracker.named()
    return {place: {"type": x.type, **x.model_dump(exclude_defaults=True)} for place, x in found.items()}


WANDB, MLFLOW = {"type": "wandb"}, {"type": "mlflow", "uri": "http://host"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["experiment=mine"], {"tracker": {"type": "csv"}}),
        (["experiment=mine", "tracker=wandb", "tracker.mode=offline"], {"tracker": {**WANDB, "mode": "offline"}}),
        (["experiment=mine", "tracker=[wandb,mlflow]"], {"tracker.wandb": WANDB, "tracker.mlflow": {"type": "mlflow"}}),
        (
            ["experiment=mine", "tracker=[{type: wandb,project: p},tensorboard]", "tracker.wandb.mode=offline"],
            {
                "tracker.wandb": {**WANDB, "project": "p", "mode": "offline"},
                "tracker.tensorboard": {"type": "tensorboard"},
            },
        ),
        (["experiment=listed"], {"tracker.wandb": WANDB, "tracker.mlflow": MLFLOW}),
        (
            ["experiment=listed", "tracker.mlflow.timeout=5.0", "tracker.wandb.group=g"],
            {"tracker.wandb": {**WANDB, "group": "g"}, "tracker.mlflow": {**MLFLOW, "timeout": 5.0}},
        ),
        (["experiment=listed", "tracker=[tensorboard]"], {"tracker.tensorboard": {"type": "tensorboard"}}),
        (["experiment=listed", "tracker=[mlflow]"], {"tracker.mlflow": MLFLOW}),
        (["experiment=listed", "tracker.type=csv"], {"tracker": {"type": "csv"}}),
        (
            ["experiment=defaults", "tracker.wandb.timeout=7"],
            {
                "tracker.wandb": {**WANDB, "mode": "offline", "timeout": 7.0},
                "tracker.tensorboard": {"type": "tensorboard"},
            },
        ),
        (["experiment=defaults", "tracker=[mlflow]"], {"tracker.mlflow": {"type": "mlflow"}}),
        (["experiment=defaults", "tracker.type=csv"], {"tracker": {"type": "csv"}}),
        (["experiment=listed", "tracker.type=tensorboard"], {"tracker": {"type": "tensorboard"}}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_trackers_are_chosen(words: list[str], expected: dict[str, Any]) -> None:
    assert trackers(*words) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experiment=listed", "tracker.wandb.mdoe=offline"], "tracker.wandb.mdoe: unknown key; did you mean 'mode'?"),
        (["experiment=listed", "tracker.mlflow.timeout=-1"], "tracker.mlflow.timeout: "),
        (["experiment=listed", "tracker=csv"], "tracker=csv: has no effect, as tracker.type is set to 'several'"),
        (["experiment=defaults", "tracker=csv"], "tracker=csv: has no effect, as tracker.type is set to 'several'"),
        (["experiment=defaults", "tracker.wandb.mdoe=x"], "tracker.wandb.mdoe: unknown key; did you mean 'mode'?"),
        (["experiment=mine", "tracker=[wandb,wandbb]"], "tracker: no option 'wandbb' (there are csv, mlflow"),
        (["experiment=mine", "tracker=[]"], "tracker: [] is no option"),
        (
            ["experiment=mine", "tracker=wandb", "tracker.projekt=x"],
            "tracker.projekt: unknown key; did you mean 'project'?",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_name_the_tracker(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        compose_experiment(words)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("tracker: [wandb, wandb]", "there are two trackers of the type 'wandb'"),
        (
            "tracker: [wandb, mlfow]",
            "tracker.mlfow.type: 'mlfow' is not one of 'csv', 'wandb', 'mlflow', 'tensorboard'",
        ),
        ("tracker: [3]", "tracker[3].type: '3' is not one of 'csv'"),
        ("tracker: [{ mode: offline }]", "tracker.unnamed.type: is missing; one of 'csv'"),
        ("tracker: wandb", "tracker: 'wandb' is not a mapping; write tracker.type=wandb"),
        ("tracker: [wandb, { type: mlflow, url: x }]", "tracker.mlflow.url: unknown key; did you mean 'uri'?"),
    ],
)
def test_mistakes_in_a_list(listed: str, message: str) -> None:
    Path("conf/experiment/mine.yaml").write_text(f"{MINE}{listed}\n")
    with pytest.raises(UserError) as caught:
        compose_experiment(["experiment=mine"])
    assert message in str(caught.value)
    assert "conf/experiment/mine.yaml:5" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("[wandb, mlfow]", "tracker: no option 'mlfow' (there are csv, mlflow, tensorboard, wandb; looked in"),
        ("[wandb, wandb]", "defaults: names 'wandb' twice; leave one"),
        ("[wandb, { type: mlflow }]", "defaults: {'type': 'mlflow'} is no name of an option; write its keys below"),
    ],
)
def test_mistakes_in_a_defaults_list(names: str, message: str) -> None:
    Path("conf/experiment/mine.yaml").write_text(
        DEFAULTS.replace("[wandb, tensorboard]", names) + MINE.partition("\n")[2]
    )
    with pytest.raises(UserError) as caught:
        compose_experiment(["experiment=mine"])
    (fault,) = caught.value.faults
    assert str(fault).startswith(message)
    assert "conf/experiment/mine.yaml:4" in str(fault)


def test_several_trackers_in_a_config_of_ones_own() -> None:
    shipped = (conf_dir() / "config.yaml").read_text()
    Path("conf/config.yaml").write_text(shipped.replace("- tracker: csv", "- tracker: [wandb, tensorboard]"))
    assert list(trackers("experiment=mine")) == ["tracker.wandb", "tracker.tensorboard"]


def test_python_takes_the_list_as_files_do() -> None:
    config = compose_experiment(["experiment=mine"]).config.model_dump()
    found = ExperimentConfig.model_validate(config | {"tracker": ["csv", {"type": "mlflow", "uri": "x"}]})
    assert list(found.tracker.named()) == ["tracker.csv", "tracker.mlflow"]
