"""Plug-ins: what other packages and modules of a project add, from the page that shows how."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from eir_seq import plugins
from eir_seq.commands import main
from eir_seq.commands.sweep import job_command
from eir_seq.config.compose import compose_experiment
from eir_seq.config.fusion import FusionBase
from eir_seq.config.kinds import union
from eir_seq.config.primary import modules_in_conf
from eir_seq.errors import UserError
from eir_seq.registry import GROUPS, Registry
from tests.readme import ROOT, named_files, write_named_files

PAGE = ROOT / "docs/guide/extend.md"
LONGEST = 40
"""Lines of code that a kind may need on the page."""

EXPERIMENT = """# @package _global_
data:
  { source: sqlite, name: rows.db, train: select * from rows, id: id, batch_size: 8, validation: 0.2, cache_dir: cache }
inputs:
  dna:
    column: sequence
    max_length: 12
    tokenizer: { type: codons }
    model: { model_type: tiny, model_init_config: { hidden_size: 8 } }
  values: { type: measures, names: [a, b] }
  table: { type: tabular, continuous: [a, b], model: { model_type: cross } }
fusion: { type: mean, hidden_size: 8 }
broker: [{ from: inputs.dna, to: outputs.events, projection: normed, fusion: film }]
outputs:
  events: { type: count, column: events }
  curve: { type: array, column: curve, model: { model_type: ramp } }
optimizer: { type: rprop, lr: 0.01 }
scheduler: { type: inverse-sqrt, warmup: 5 }
trainer: { max_epochs: 2, accelerator: cpu, keep_optimizer_state: true, monitor: { output: events, metric: zeros } }
tracker: { type: lightning-csv }
callbacks: { norm: { type: weight-norm } }
run: { dir: run }
"""
USED = """
import json, sys
from eir_seq import plugins
plugins.load(["my_project.plugins"])
before = sorted(name for name in sys.modules if name.startswith("my_project."))
from eir_seq.commands.schema import experiment_schema
from eir_seq.config.compose import compose_experiment
schema = experiment_schema()
from eir_seq.data.readers import read_table
from eir_seq.data.readers.base import Wanted
config = compose_experiment(["experiment=mine"]).config
table = read_table("x.fasta", config.data, Wanted({"sequence": "inputs.dna.column"}), "data.train").table
print(json.dumps({
    "before": before,
    "torch": "torch" in sys.modules,
    "definitions": sorted(schema["$defs"]),
    "types": [type(part).__name__ for part in (config.fusion, config.optimizer, config.scheduler, config.tracker)],
    "rows": table.to_pylist(),
    "needed": sorted(plugins.needed(config.model_dump(mode="json"))),
}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The plug-ins of the page in a project with an experiment that uses all of them."""
    write_named_files(PAGE, tmp_path)
    draw = random.Random(0)
    rows = [
        (f"r{i}", "".join(draw.choice("ACGT") for _ in range(draw.randint(6, 20))), draw.random(), draw.random(), i % 2)
        for i in range(60)
    ]
    rows = [(*row, json.dumps([row[2], row[3]])) for row in rows]
    database = sqlite3.connect(tmp_path / "rows.db")
    database.execute("create table rows (id text, sequence text, a real, b real, events integer, curve text)")
    database.executemany("insert into rows values (?, ?, ?, ?, ?, ?)", rows)
    database.commit()
    database.close()
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "sequence", "a", "b", "events", "curve"), *rows[:7]])
    (tmp_path / "x.fasta").write_text(">one\nACGT\nAC\n>two\nGGG\n")
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/mine.yaml").write_text(EXPERIMENT)
    return tmp_path


def run(
    folder: Path, *words: str, python: str = sys.executable, path: str = str(ROOT)
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EIR_SEQ"))}
    environment |= {"OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": path} if path else {})
    return subprocess.run([python, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_the_page_shows_each_kind_in_few_lines() -> None:
    sections = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    lengths = {}
    for section in sections:
        code = "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
        lengths[section.splitlines()[0]] = sum(1 for line in code.splitlines() if line and not line.startswith("#"))
    assert {title: length for title, length in lengths.items() if length > LONGEST} == {}


def test_the_page_shows_every_group() -> None:
    shown = set(re.findall(r'^    "(\w+)\.[\w.-]+": "my_project\.', named_files(PAGE)["my_project/plugins.py"], re.M))
    assert shown == GROUPS.keys()


def test_a_module_adds_one_of_each(project: Path) -> None:
    done = run(project, "-c", USED)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["before"] == ["my_project.plugins"], "something is imported before it is used"
    assert not found["torch"], "options are known without torch"
    assert {"CountConfig", "MeasuresConfig", "MeanConfig", "RpropConfig", "CodonsConfig"} <= set(found["definitions"])
    assert found["types"] == ["MeanConfig", "RpropConfig", "InverseSqrtConfig", "LightningCsvConfig"]
    assert found["rows"] == [{"sequence": "ACGTAC"}, {"sequence": "GGG"}]
    assert set(found["needed"]) == {
        "architectures.tiny",
        "callbacks.weight-norm",
        "decoders.array.ramp",
        "encoders.tabular.cross",
        "fusions.mean",
        "inputs.measures",
        "metrics.count.zeros",
        "optimizers.rprop",
        "outputs.count",
        "message_fusions.film",
        "projections.normed",
        "schedulers.inverse-sqrt",
        "sources.sqlite",
        "tokenizers.codons",
        "trackers.lightning-csv",
    }


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of one entry, in place of all there are."""
    registry = Registry("outputs", {"classification": "eir_seq.a:A"})
    monkeypatch.setattr(plugins, "GROUPS", {"outputs": registry})
    monkeypatch.setattr(plugins, "_modules", {})
    return registry


def points(monkeypatch: pytest.MonkeyPatch, *named: tuple[str, str]) -> None:
    found = [EntryPoint(name, target, plugins.GROUP) for name, target in named]
    monkeypatch.setattr(plugins, "entry_points", lambda group: found)
    monkeypatch.setattr(plugins, "discover", plugins.discover.__wrapped__)


def test_entry_points_are_found_and_not_imported(outputs: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    points(monkeypatch, ("outputs.survival", "not_there.config:Config"))
    plugins.discover()
    assert list(outputs) == ["classification", "survival"]
    assert plugins.registered() == {"outputs.survival": "not_there.config"}
    with pytest.raises(UserError, match=r"plug-in not_there.config: outputs.survival .* cannot be imported: ModuleNot"):
        outputs["survival"]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (("outputs.classification", "b:B"), "already registered by eir_seq (eir_seq.a:A); give yours another name"),
        (("output.survival", "b:B"), "is not GROUP.NAME with a group of outputs; did you mean 'outputs'?"),
        (("outputs", "b:B"), "is not GROUP.NAME"),
        (("outputs.survival", "b"), "'b' is not of the form module:Name"),
    ],
)
def test_wrong_lines_are_refused(
    named: tuple[str, str], said: str, outputs: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    points(monkeypatch, named)
    with pytest.raises(UserError, match=f"plug-in b: .*{re.escape(said)}"):
        plugins.discover()


def test_two_plug_ins_of_one_name_are_refused_and_the_same_line_twice_is_not(outputs: Registry) -> None:
    outputs.add("survival", "a:A", "first 1.0")
    outputs.add("survival", "a:A", "first 1.0")
    with pytest.raises(UserError, match=r"plug-in second 2.0: 'survival' .* registered by first 1.0 \(a:A\)"):
        outputs.add("survival", "b:B", "second 2.0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise RuntimeError('no')", "cannot be imported: RuntimeError: no"),
        ("", "has no dictionary PLUGINS"),
        ("PLUGINS = {'outputs.survival': 3}", "has no dictionary PLUGINS"),
        ("PLUGINS = {'outputs.survival': 'a:A'}", "outputs.survival comes too late: eir_seq.config.kinds is imported"),
    ],
)
def test_wrong_modules_are_refused(
    text: str, said: str, outputs: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"module_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"plug-in {name}: {said}"):
        plugins.load([name])
    assert list(outputs) == ["classification"]
    assert plugins.loaded() == ()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("fractions:Fraction", "is <class 'fractions.Fraction'>, which is no subclass of eir_seq.config.fusion.Fus"),
        ("eir_seq.config.fusion:ConcatFusionConfig", 'ConcatFusionConfig needs a field type: Literal["mean"] = "mean"'),
    ],
)
def test_a_config_class_of_another_kind_is_refused(entry: str, said: str) -> None:
    registry = Registry("fusions", {})
    registry.add("mean", entry, "mine 1.0")
    with pytest.raises(UserError, match=f"plug-in mine 1.0: fusions.mean.*{re.escape(said)}"):
        union(registry, FusionBase)


def test_what_a_bundle_needs_is_named(outputs: Registry) -> None:
    outputs.add("survival", "a:A", "mine 1.0")
    assert plugins.needed({"outputs": {"one": {"type": "survival"}}, "note": "classification"}) == {
        "outputs.survival": "mine 1.0"
    }
    assert plugins.needed({"outputs": {"survival": {"type": "classification", "column": "survival"}}}) == {}
    assert plugins.missing({"outputs.survival": "mine 1.0"}) == []
    (fault,) = plugins.missing({"outputs.a": "yours 2.0", "outputs.b": "yours 2.0", "outputs.survival": "mine 1.0"})
    assert str(fault).startswith("needs outputs.a, outputs.b of the plug-in yours 2.0, which is not here")


# ---------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module that registers nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_modules", {})
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "registers_nothing.py").write_text("PLUGINS = {}")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_modules_of_the_command_line_reach_the_jobs_of_a_sweep(empty: Path) -> None:
    assert "--plugins" not in " ".join(job_command(["seed=1"], empty))
    assert main(["--plugins", "registers_nothing", "--help"]) == 0
    assert main(["--plugins=registers_nothing", "models", "list"]) == 0
    assert "--plugins=registers_nothing" in job_command(["seed=1"], empty)


def test_the_users_config_names_modules(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "conf/config.yaml").read_text()
    (empty / "conf/config.yaml").write_text(f"{text}\nplugins: [registers_nothing]\n")
    assert main(["--cfg", "job", "experiment=imdb_longformer"]) == 0
    assert plugins.loaded() == ("registers_nothing",)
    compose_experiment(["experiment=imdb_longformer"])
    (empty / "conf/config.yaml").write_text(f"{text}\nplugins: registers_nothing\n")
    assert main(["models", "list"]) == 2
    assert "plugins: is no list of modules, such as [my_project.plugins] (conf/config.yaml:" in capsys.readouterr().err


def test_a_folder_of_the_command_line_comes_first(empty: Path) -> None:
    (empty / "more").mkdir()
    (empty / "more/config.yaml").write_text("plugins: [registers_nothing]\n")
    for words in (["--config-dir", "more"], ["--config-dir=more"]):
        assert modules_in_conf(words) == ["registers_nothing"]
    assert modules_in_conf([]) == []


@pytest.mark.parametrize("words", [["--plugins"], ["--plugins="], ["--plugins", "a,,b"]])
def test_a_flag_without_modules_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("--plugins: name modules, such as --plugins my_project.plugins")


@pytest.mark.parametrize("in_file", [True, False])
def test_an_experiment_names_no_plug_ins(empty: Path, in_file: bool, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "conf/experiment/imdb_longformer.yaml").read_text()
    named = "\nplugins: [registers_nothing]\n" if in_file else ""
    (empty / "conf/experiment/mine.yaml").write_text(f"{text}{named}")
    assert main(["experiment=mine", *([] if in_file else ["+plugins=[registers_nothing]"])]) == 2
    said = capsys.readouterr().err
    assert said.startswith("plugins: is no key of an experiment, which may come from elsewhere")
    assert ("(conf/experiment/mine.yaml:" if in_file else "(command line)") in said
    assert plugins.loaded() == ()


# -------------------------------------------------------------------------------------------------------- a package


@pytest.mark.slow
def test_a_package_from_a_wheel_trains_resumes_reports_and_predicts(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path_factory.mktemp("package")
    write_named_files(PAGE, source)
    registered = re.findall(r'^    ("[^"]+"): ("[^"]+"),$', (source / "my_project/plugins.py").read_text(), re.M)
    (source / "my_project/plugins.py").unlink()
    (source / "my_project/__init__.py").touch()
    lines = "\n".join(f"{name} = {target}" for name, target in registered)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "my-project"\nversion = "1.5"\n'
        f'[project.entry-points."eir_seq.plugins"]\n{lines}\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["my_project"]\n'
    )
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source],
        check=True,
        capture_output=True,
    )
    (wheel,) = (source / "dist").glob("*.whl")
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = str(folder / "bin/python")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = folder / "lib" / version / "site-packages"
    (site / "beside.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    pip = [python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    shutil.rmtree(project / "my_project")

    def ours(*words: str) -> subprocess.CompletedProcess[str]:
        return run(project, "-m", "eir_seq", *words, python=python, path="")

    assert (done := ours("experiment=mine")).returncode == 0, done.stderr
    assert "zeros" in done.stdout
    assert (done := ours("experiment=mine", "trainer.max_epochs=3")).returncode == 0, done.stderr
    assert "epoch 3" in done.stdout
    assert "Rows without events" in (project / "run/report/index.html").read_text()
    assert json.loads((project / "run/manifest.json").read_text())["plugins"]["outputs.count"] == "my-project 1.5"
    assert (done := ours("predict", "run=run", "data.test=rows.csv")).returncode == 0, done.stderr
    assert (project / "run/predictions/rows.predicted.csv").read_text().count("\n") == 8
    done = run(project, "-m", "eir_seq", "predict", "run=run", "data.test=rows.csv")  # without the package
    assert done.returncode == 2
    assert re.fullmatch(
        r"run/bundle: needs .*outputs\.count.* of the plug-in my-project 1\.5, which is not here.*\n", done.stderr
    )
