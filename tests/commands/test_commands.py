"""The command line: help, listings, schema, completion, Hydra's modes, exit codes."""

# ruff: noqa: E501
from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from eir_seq.commands import COMMANDS, main, train
from eir_seq.commands.schema import experiment_schema
from eir_seq.config.compose import compose_experiment
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.models.catalogue import CATALOGUE, SYNONYMS
from eir_seq.models.option_checks import build_config
from eir_seq.models.options import describe
from tests.config.project import MINE, make_project, with_line

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EIR_SEQ_CONF", raising=False)
    monkeypatch.setattr(train, "preflight", lambda *_: ())  # no data belong to this experiment
    return tmp_path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Configs that `train` was called with; nothing is trained."""
    calls: list[object] = []
    run = types.ModuleType("eir_seq.training.run")
    run.train = lambda config, **_options: calls.append(config)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "eir_seq.training.run", run)
    return calls


def _code_of(words: list[str]) -> object:
    """The exit code, whether it is returned or raised (as argparse and Hydra do once they have printed)."""
    try:
        return main(words)
    except SystemExit as error:
        return error.code


def test_help_names_commands_experiments_and_groups(capsys: Capture) -> None:
    for word in ("--help", "-h", "help"):
        assert main([word]) == 0
        text = capsys.readouterr().out
        assert all(name in text for name in [*COMMANDS, "imdb_longformer", "reviews_sample", "one-cycle"])
        assert "mine               My own experiment." in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: Capture) -> None:
    assert _code_of([command, "--help"]) == 0
    assert f"eir_seq {command}".replace(" train", " [train]") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["tran"], "tran: not a command; choose from train, check, predict, chat, embed, models, bench, sweep, runs, cache, native, schema; did you mean 'train'?"),
        (["--cgf", "job"], "--cgf: not a flag; did you mean '--cfg'? (command line)"),
        (["--experimental-rerun", "x.pickle"], "--experimental-rerun: it would load a pickle; repeat a run from"),
        (["--config-dir", "nowhere", "experiment=mine"], "--config-dir: 'nowhere' is not a folder (command line)"),
        (["models", "show", "resnet"], "model_type: 'resnet' is an encoder of inputs of type image, not in the catalogue"),
        (["models", "show", "longfomer"], "model_type: 'longfomer' is not in the catalogue; did you mean 'longformer'?"),
        (["experiment=mine", "hydra.run.dir=x"], "hydra.run.dir: has no effect; run.dir=DIR names the folder of a run"),
        (["experiment=mine", "hydra.launcher.n_jobs=2"], "hydra.launcher.n_jobs: has no effect without -m (command"),
        (["experiment=mine", "hydra.mode=MULTIRUN"], "hydra.mode: write -m for MULTIRUN (command line)"),
        (["models", "lst"], "eir_seq models: argument list|show: invalid choice"),
        (["runs", "compare", "nowhere"], "nowhere: no such folder"),
        (["runs", "compare", "conf"], "conf: holds no runs"),
        ([], "experiment: none is chosen; write experiment=NAME with one of: imdb_bert_tiny, imdb_combined,"),
        (["expriment=mine"], "expriment: unknown key; did you mean 'experiment'? (command line)"),
        (["predict", "data.test=conf"], "run: is missing; it is the run folder, or the bundle in it"),
        (["predict", "rnu=conf"], "rnu: unknown key; did you mean 'run', which is missing?"),
        (["predict", "run=cnf"], "run: no such file or folder: 'cnf'; did you mean 'conf'? (command line)"),
        (["predict", "run=conf", "data.tst=x"], "data.tst: unknown key; did you mean 'test'?"),
        (["predict", "run=conf", "accelerator=gpus"], "accelerator: 'gpus' is not one of 'auto', 'cpu', 'gpu', 'mps'; did"),
        (["predict", "conf"], "conf: not of the form key=value; did you mean data.test=conf? (command line)"),
        (["predict", "run=conf", "data=rows.csv"], "data: 'rows.csv' is not a mapping; write data.test=rows.csv, in YAML"),
        (["predict", "run=conf", "batch_size=0"], "batch_size: 0 is not an integer >= 1"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_line(words: list[str], line: str, capsys: Capture) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_train_prints_the_note_first_and_is_the_default_command(
    project: Path, trained: list[object], capsys: Capture
) -> None:
    make_project(project, with_line(MINE, "max_epochs: 1", "note: made of sand"))
    for words in (["experiment=mine"], ["+experiment=mine"], ["train", "experiment=mine"]):
        assert main(words) == 0
        assert capsys.readouterr().out == "made of sand\n"
    assert trained[0] == trained[1] == trained[2]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RunFailed("step 12: the loss is nan"), 3, "step 12: the loss is nan\n"),
        (
            UserError(Fault("inputs.review.column", "no column 'text'")),
            2,
            "inputs.review.column: no column 'text' (conf/experiment/mine.yaml:9)\n",
        ),
        (UserError(Fault("reviews.csv row 7", "empty")), 2, "reviews.csv row 7: empty\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def fail(_config: object, **_options: object) -> None:
        raise error

    run = types.ModuleType("eir_seq.training.run")
    run.train = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "eir_seq.training.run", run)
    assert main(["experiment=mine"]) == code
    assert capsys.readouterr().err == line


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_config: object, **_options: object) -> None:
        raise ZeroDivisionError

    run = types.ModuleType("eir_seq.training.run")
    run.train = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "eir_seq.training.run", run)
    with pytest.raises(ZeroDivisionError):
        main(["experiment=mine"])


def test_cfg_job_shows_values_and_defaults_and_takes_overrides(capsys: Capture) -> None:
    import yaml

    assert main(["--cfg", "job", "experiment=mine", "trainer.max_steps=7"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["trainer"]["max_steps"] == 7
    assert shown["trainer"]["gradient_clip"] == 1.0
    assert shown["data"]["batch_size"] == 8
    assert shown["inputs"]["review"]["model"]["model_type"] == "longformer"


def test_cfg_job_refuses_what_a_run_would_refuse(capsys: Capture) -> None:
    assert main(["--cfg", "job", "experiment=mine", "seed=x"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", [["--cfg", "all"], ["--cfg", "hydra"], ["--info", "defaults-tree"], ["--hydra-help"]])
def test_modes_of_hydra(words: list[str], capsys: Capture) -> None:
    assert _code_of([*words, "experiment=mine"]) == 0
    assert len(capsys.readouterr().out) > 200


def test_info_searchpath_shows_the_users_folder_first(project: Path, capsys: Capture) -> None:
    assert main(["--info", "searchpath", "experiment=mine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    users = next(index for index, line in enumerate(lines) if f"{project}/conf" in line)
    shipped = next(index for index, line in enumerate(lines) if f"{ROOT}/conf" in line)
    assert users < shipped


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("eir_seq experiment=imdb_l", "experiment=imdb_longformer"),
        ("eir_seq experiment=min", "experiment=mine"),
        ("eir_seq train data=rev", "data=reviews_sample"),
        ("eir_seq trainer.max_e", "trainer.max_epochs="),
        ("eir_seq mod", "models"),
    ],
)
def test_completion(line: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == [expected]


def test_completion_can_be_installed(capsys: Capture) -> None:
    assert main(["-sc", "install=bash"]) == 0
    assert "complete" in capsys.readouterr().out


def test_models_list_and_show(capsys: Capture) -> None:
    assert main(["models", "list"]) == 0
    assert all(name in capsys.readouterr().out for name in ("longformer",))
    assert main(["models", "list", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == sorted(CATALOGUE)
    for name in CATALOGUE:
        assert main(["models", "show", name, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["name"] == name
        assert {"name", "default", "type", "meaning"} == set(shown["options"][0])
    assert main(["models", "show", "longformer"]) == 0
    assert "attention_window" in capsys.readouterr().out


def test_names_of_tensors(capsys: Capture) -> None:
    assert main(["models", "show", "gpt2", "--tensors"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "h.*.attn.c_attn.weight  768 x 2304  (takes an adapter)" in lines
    assert "wte.weight  50257 x 768" in lines
    assert len(lines) == 16
    assert main(["models", "show", "mixtral", "--tensors", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["layers.*.self_attn.q_proj.weight"] == {
        "name": "layers.*.self_attn.q_proj.weight",
        "shape": [4096, 4096],
        "lora": True,
    }
    assert not rows["layers.*.block_sparse_moe.experts.*.w1.weight"]["lora"]


def test_models_of_a_task(capsys: Capture) -> None:
    assert main(["models", "list", "--task", "seq2seq-lm", "--json"]) == 0
    listed = [entry["name"] for entry in json.loads(capsys.readouterr().out)]
    assert listed == [name for name, entry in CATALOGUE.items() if "seq2seq-lm" in entry.tasks]
    assert {"t5", "bart"} < set(listed) < set(CATALOGUE)
    assert main(["models", "list", "--task", "masked-ln"]) == 2
    assert capsys.readouterr().err.endswith("did you mean 'masked-lm'?\n")


@pytest.mark.parametrize(("synonym", "name"), SYNONYMS.items())
def test_a_synonym_is_the_architecture_itself(synonym: str, name: str, capsys: Capture) -> None:
    shown = []
    for word in (synonym, name):
        assert main(["models", "show", word]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    words = ["experiment=imdb_longformer", f"inputs.review.model.model_type={synonym}"]
    assert compose_experiment(words).config.inputs["review"].model.model_type == name
    assert build_config(synonym).model_type == name


def test_the_catalogue_tells_the_tasks_of_each_architecture() -> None:
    from eir_seq.models.catalogue import architecture

    assert {name: entry.tasks for name, entry in CATALOGUE.items()} == {
        name: tuple(architecture(name).tasks) for name in CATALOGUE
    }


def test_the_schema_completes_model_types_and_their_options() -> None:
    schema = experiment_schema()
    model = schema["$defs"]["SequenceModelConfig"]
    assert {entry["const"] for entry in model["properties"]["model_type"]["anyOf"] if "const" in entry} == set(
        CATALOGUE
    )
    longformer = next(
        rule for rule in model["allOf"] if rule["if"]["properties"]["model_type"]["const"] == "longformer"
    )
    assert "attention_window" in longformer["then"]["properties"]["model_init_config"]["properties"]
    assert schema["properties"]["inputs"]["minProperties"] == 1
    json.dumps(schema)


def test_the_schema_accepts_good_files_and_refuses_bad_ones() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import yaml

    from eir_seq.config.folders import conf_dir

    validator = jsonschema.Draft202012Validator(experiment_schema())
    for path in (conf_dir() / "experiment").glob("*.yaml"):
        assert list(validator.iter_errors(yaml.safe_load(path.read_text()))) == []
    bad = yaml.safe_load(MINE)
    bad["inputs"]["review"]["model"]["model_init_config"]["hiden_size"] = 3
    assert list(validator.iter_errors(bad)) != []


def test_every_option_of_every_model_has_a_meaning() -> None:
    from eir_seq.models.catalogue import config_class

    for name in CATALOGUE:
        assert all(option["meaning"] and option["type"] for option in describe(config_class(name)))


def test_closed_output_is_no_fault(project: Path) -> None:
    command = f"{sys.executable} -m eir_seq schema | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["{", "0"]
    assert done.stderr == ""
