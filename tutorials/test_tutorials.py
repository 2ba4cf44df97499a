"""The tutorials that make their data: each trains some steps, and, slowly, learns what its README says."""

from __future__ import annotations

import csv
import json
import runpy
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from eir_seq.commands import main
from tests.readme import FAST, run_all

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Tutorial:
    """A tutorial, and what it learns.

    Attributes:
        folder: its name.
        experiment: the file in conf/experiment.
        bars: by output and metric, what the test rows must reach.
    """

    folder: str
    experiment: str
    bars: dict[tuple[str, str], float]

    def copy(self, folder: Path) -> Path:
        """Without data and runs."""
        return shutil.copytree(HERE / self.folder / "conf", folder / "conf").parent


TUTORIALS = [
    Tutorial("03_poker_hands", "poker", {("hand", "mcc"): 0.85}),
    Tutorial("04_handwritten_digits", "digits", {("digit", "accuracy"): 0.9}),
    Tutorial("05_file_fragments", "fragments", {("kind", "accuracy"): 0.97}),
    Tutorial("06_survival", "survival", {("life", "c_index"): 0.69}),
    Tutorial("07_populations", "populations", {("population", "accuracy"): 0.93, ("trait", "r2"): 0.7}),
    Tutorial("08_signals", "signals", {("shape", "accuracy"): 0.97, ("frequency", "r2"): 0.95}),
    Tutorial("09_topics", "topics", {("topics", "f1"): 0.8}),
    Tutorial("10_grades", "grades", {("grade", "kappa"): 0.8}),
    Tutorial("11_questions", "questions", {("answer", "exact_match"): 0.9}),
    Tutorial("12_missing_everything", "missing", {("admitted", "accuracy"): 0.93, ("days", "r2"): 0.9}),
    Tutorial("20_instructions", "instructions", {("answer", "exact_match"): 0.9}),
    Tutorial("14_intervals", "intervals", {("load", "r2"): 0.92, ("load", "coverage"): 0.7}),
    Tutorial("22_restored_pictures", "colours", {("restored", "r2"): 0.85}),
    Tutorial("23_segments", "segments", {("clean", "r2"): 0.93, ("shapes", "accuracy"): 0.96}),
    Tutorial("16_captions", "captions", {("caption", "exact_match"): 0.9}),
    Tutorial("17_sentences", "reports", {("report", "exact_match"): 0.93}),
    Tutorial("19_search", "search", {("match", "recall_at_1"): 0.93}),
    Tutorial("31_messages", "messages", {("pulse", "accuracy"): 0.97}),
]
PROTEINS = Tutorial("18_proteins", "proteins", {})
FOLDS = Tutorial("13_cross_validation", "folds", {})


def data_of(tutorial: Tutorial, *rows: int) -> None:
    """What its script makes, in the current folder."""
    runpy.run_path(str(HERE / tutorial.folder / "make_data.py"))["main"](*rows)


@pytest.mark.parametrize("tutorial", [*TUTORIALS, PROTEINS, FOLDS], ids=lambda tutorial: tutorial.folder)
def test_a_step_can_be_done(
    tutorial: Tutorial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tutorial.copy(tmp_path))
    data_of(tutorial, 96)
    cache = f"data.cache_dir={tmp_path / 'cache'}"
    assert main(["check", f"experiment={tutorial.experiment}", "trainer.threads=1", cache]) == 0
    assert "all is well" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: tutorial.folder)
def test_it_trains(tutorial: Tutorial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tutorial.copy(tmp_path))
    data_of(tutorial, 96)
    short = ["trainer=try", "trainer.max_steps=2", "trainer.threads=1", f"data.cache_dir={tmp_path / 'cache'}"]
    assert main([f"experiment={tutorial.experiment}", "run.dir=run", *short]) == 0
    measured = json.loads(Path("run/result.json").read_text())["test"]
    assert set(tutorial.bars) <= {(output, metric) for output, metrics in measured.items() for metric in metrics}


@pytest.mark.slow
def test_folds_are_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDS.copy(tmp_path))
    data_of(FOLDS, 96)
    short = ["trainer=try", "trainer.max_steps=2", "data.folds=2", f"data.cache_dir={tmp_path / 'cache'}"]
    assert main(["experiment=folds", "run.dir=run", *short]) == 0
    with Path("run/out_of_fold.csv").open() as file:
        assert {row["id"] for row in csv.DictReader(file)} == {f"m{row}" for row in range(96)}


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", [*TUTORIALS, PROTEINS, FOLDS], ids=lambda tutorial: tutorial.folder)
def test_the_commands_do_what_the_tutorial_says(tutorial: Tutorial, tmp_path: Path) -> None:
    shutil.copytree(HERE / tutorial.folder, tmp_path / "copy")
    run_all(HERE / tutorial.folder / "README.md", tmp_path / "copy", (*FAST, "data.limit=200"))


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: tutorial.folder)
def test_it_learns_what_the_tutorial_says(tutorial: Tutorial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tutorial.copy(tmp_path))
    runpy.run_path(str(HERE / tutorial.folder / "make_data.py"))["main"]()
    assert main([f"experiment={tutorial.experiment}", "run.dir=run", f"data.cache_dir={tmp_path / 'cache'}"]) == 0
    measured = json.loads(Path("run/result.json").read_text())["test"]
    reached = {(output, metric): measured[output][metric] for output, metric in tutorial.bars}
    assert {key: value for key, value in reached.items() if value < tutorial.bars[key]} == {}


@pytest.mark.slow
def test_folds_learn_what_the_tutorial_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDS.copy(tmp_path))
    runpy.run_path(str(HERE / FOLDS.folder / "make_data.py"))["main"]()
    assert main(["experiment=folds", "run.dir=run", f"data.cache_dir={tmp_path / 'cache'}"]) == 0
    with Path("run/folds.csv").open() as file:
        means = {(row["output"], row["metric"]): float(row["mean"]) for row in csv.DictReader(file)}
    assert means["complaint", "auroc"] > 0.85


@pytest.mark.slow
def test_proteins_have_the_motif_of_their_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = PROTEINS.copy(tmp_path)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(HERE / PROTEINS.folder))
    data_of(PROTEINS)
    assert main(["experiment=proteins", "run.dir=run", f"data.cache_dir={tmp_path / 'cache'}"]) == 0
    recognise = runpy.run_path(str(HERE / PROTEINS.folder / "recognise.py"))["main"]
    assert recognise("run/predictions/test.csv") > 0.9


def test_every_tutorial_is_listed_with_its_picture() -> None:
    listed = (HERE / "README.md").read_text()
    for tutorial in (*TUTORIALS, PROTEINS, FOLDS):
        assert f"{tutorial.folder}/README.md" in listed
        assert "picture.svg" in (HERE / tutorial.folder / "README.md").read_text()
        assert (HERE / tutorial.folder / "picture.svg").read_text().startswith("<svg ")
