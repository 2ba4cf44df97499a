"""Rows that a run, or `predict`, explains: the table, the report, and what cannot be explained."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.commands.predict import predict_config
from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.explanations.records import RECORDS, TABLE, loaded
from eir_seq.inference.predict import predict
from eir_seq.inference.report import write_report
from eir_seq.training.attributions import warnings_about
from eir_seq.training.bundle import read_bundle
from eir_seq.training.check import check
from eir_seq.training.run import train
from tests.recipes.known_word import WORDS, experiment, hits

TEXT = {
    "type": "sequence",
    "column": "text",
    "max_length": 18,
    "model": {
        "model_type": "bert",
        "model_init_config": {
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
        },
    },
}  # fmt: skip


def small(folder: Path, **changes: Any) -> Any:
    """Two inputs with one encoder, each explained in its own way, and two outputs."""
    inputs = {
        "text": {**TEXT, "interpretation": {"rows": 2}},
        "note": {
            "type": "sequence",
            "column": "note",
            "share": "text",
            "interpretation": {"ids": ["test-1", "test-4"], "baseline": "mean"},
        },
    }
    outputs = {"kind": {"type": "classification", "column": "kind"}, "size": {"type": "regression", "column": "size"}}
    trainer = {"max_epochs": 3, "accelerator": "cpu", "keep_optimizer_state": True}
    given = {"inputs": inputs, "outputs": outputs, "trainer": trainer, **changes}
    return experiment(folder, rows=120, test=12, **given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attributions")
    train(small(folder), finish=write_report)
    return folder


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scores(rows: list[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    """The tokens of each score."""
    keys = ("id", "split", "input", "output", "target")
    for key in dict.fromkeys(tuple(row[name] for name in keys) for row in rows):
        yield [row for row in rows if tuple(row[name] for name in keys) == key]


def test_the_table_divides_the_scores_of_the_rows_that_were_asked_for(folder: Path) -> None:
    rows = lines(folder / "run" / TABLE)
    texts = {row["id"]: row for row in lines(folder / "test.csv")}
    found = list(scores(rows))
    for tokens in found:
        first, values = tokens[0], [float(token["attribution"]) for token in tokens]
        text = texts[first["id"]][first["input"]]
        assert [token["token"] for token in tokens] == text.split()
        assert all(text[int(token["start"]) : int(token["end"])] == token["token"] for token in tokens)
        assert [int(token["position"]) for token in tokens] == list(range(1, len(tokens) + 1))
        difference = float(first["score"]) - float(first["baseline_score"])
        assert abs(sum(values) - difference) <= 0.01 * sum(map(abs, values)) + 1e-9
    # rows: of each class, those that are true of it, evenly spaced; of numbers by their value
    explained = [tokens[0] for tokens in found if tokens[0]["input"] == "text"]
    of_kind = {row["id"] for row in explained if row["output"] == "kind"}
    true = [texts[row_id]["kind"] for row_id in of_kind]
    assert {kind: true.count(kind) for kind in set(true)} == {"fruit": 2, "metal": 2, "river": 2}
    predicted = lines(folder / "run" / "predictions" / "test.csv")
    order = sorted(predicted, key=lambda row: float(row["size"]))
    assert {row["id"] for row in explained if row["output"] == "size"} == {order[0]["id"], order[-1]["id"]}
    # ids: the same for both outputs
    named = {(row["id"], row["output"]) for row in rows if row["input"] == "note"}
    assert named == {(row_id, output) for row_id in ("test-1", "test-4") for output in ("kind", "size")}
    assert {row["split"] for row in rows} == {"test"}


def test_scores_are_those_of_the_predictions(folder: Path) -> None:
    predicted = {row["id"]: row for row in lines(folder / "run" / "predictions" / "test.csv")}
    for row in lines(folder / "run" / TABLE):
        about = predicted[row["id"]]
        if row["output"] == "size":
            assert float(row["score"]) == pytest.approx(float(about["size"]), rel=1e-4)
            assert (row["target"], row["role"]) == ("size", "")
            continue
        odds = torch.tensor(float(about[f"kind_p({row['target']})"]), dtype=torch.float64).logit()
        assert float(row["score"]) == pytest.approx(float(odds), rel=1e-3, abs=1e-3)
        roles = [
            name for name, which in (("predicted", "kind"), ("true", "kind_true")) if about[which] == row["target"]
        ]
        assert row["role"] == " and ".join(roles)


def test_the_report_shows_texts_and_their_words(folder: Path) -> None:
    page = (folder / "run" / "report" / "index.html").read_text(encoding="utf-8")
    assert '<section id="attributions">' in page
    assert page.count("Tokens that matter most") == 4
    assert "the log odds of the class" in page
    assert "the predicted value" in page
    for name in ("text", "note"):
        assert f"explained by {name}, test rows" in page
    assert "rgba(var(--plus),0.80)" in page
    assert "rgba(var(--minus)," in page


def test_a_bundle_explains_as_the_run_did(folder: Path, tmp_path: Path) -> None:
    assert all(
        config.interpretation is None for config in read_bundle(folder / "run" / "bundle").config.inputs.values()
    )
    arguments = [f"run={folder / 'run' / 'bundle'}", f"data.test={folder / 'test.csv'}", "interpretation.text.rows=2"]
    config = predict_config(
        [*arguments, "interpretation.note.ids=[test-1,test-4]", "interpretation.note.baseline=mean"]
    )
    bundle = shutil.copytree(folder / "run" / "bundle", tmp_path / "bundle")
    predict(bundle, test=str(folder / "test.csv"), output=tmp_path / "p.csv", interpretation=config.interpretation)
    for found, expected in zip(lines(tmp_path / "p.attributions.csv"), lines(folder / "run" / TABLE), strict=True):
        for name, value in expected.items():
            if name in ("score", "baseline_score", "attribution"):  # up to rounding: kernels may be chosen by time
                assert float(found[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-4)
            else:
                assert found[name] == value
    assert "the log odds of the class" in (tmp_path / "p.attributions.html").read_text(encoding="utf-8")
    predict(bundle, test=str(folder / "test.csv"), output=tmp_path / "plain.csv")
    assert (tmp_path / "plain.csv").read_bytes() == (tmp_path / "p.csv").read_bytes()


def test_rows_without_labels_count_as_they_are_predicted(folder: Path, tmp_path: Path) -> None:
    rows = list(csv.reader((folder / "test.csv").read_text(encoding="utf-8").splitlines()))
    with (tmp_path / "new.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(row[:3] for row in rows)
    config = predict_config(
        [f"run={folder / 'run'}", "interpretation.text.rows=1", "interpretation.text.baseline=zero"]
    )
    predict(
        folder / "run", test=str(tmp_path / "new.csv"), output=tmp_path / "p.csv", interpretation=config.interpretation
    )
    predicted = {row["kind"] for row in lines(tmp_path / "p.csv")}
    found = [row for row in lines(tmp_path / "p.attributions.csv") if row["output"] == "kind"]
    assert {row["role"] for row in found} == {"predicted"}
    assert {row["target"] for row in found} == predicted
    assert len({row["id"] for row in found}) == len(predicted)


def test_texts_cannot_break_the_page(folder: Path, tmp_path: Path) -> None:
    """Words are escaped, cells are safe for spreadsheets if wanted, and a token of a line end stays in its line."""
    evil = '<script>alert(1)</script> =cmd|x & "quoted"\nbama apple'
    with (tmp_path / "new.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text", "note"], ["<b>", evil, "bama =x"]])
    config = predict_config([f"run={folder / 'run'}", "interpretation.text.rows=1"])
    predict(
        folder / "run",
        test=str(tmp_path / "new.csv"),
        output=tmp_path / "p.csv",
        interpretation=config.interpretation,
        csv_safe=True,
    )
    page = (tmp_path / "p.attributions.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;" in page
    found = [row["token"] for row in lines(tmp_path / "p.attributions.csv")]
    assert not any(token.startswith(("=", "+", "-", "@")) for token in found)
    assert "script" in found
    assert "'=" in found


def test_what_is_missing_of_a_finished_run_is_made_again(folder: Path, tmp_path: Path) -> None:
    """The report where a kill left none; the table and what the report reads from the checkpoint that was kept."""
    shutil.copytree(folder / "run", tmp_path / "run")
    config = small(folder, run={"dir": str(tmp_path / "run")})
    before = {name: (folder / "run" / name).read_bytes() for name in (TABLE, RECORDS)}
    (tmp_path / "run" / "report" / "index.html").unlink()
    (tmp_path / "run" / "checksums.sha256").unlink()
    train(config, finish=write_report)
    assert "attributions" in (tmp_path / "run" / "report" / "index.html").read_text(encoding="utf-8")
    for name in before:
        (tmp_path / "run" / name).unlink()
    train(config, finish=write_report)
    assert {name: (tmp_path / "run" / name).read_bytes() for name in before} == before


def test_explaining_other_rows_does_not_change_the_run(folder: Path, tmp_path: Path) -> None:
    """The weights are the same without explanations, and a run may be continued with other ones."""
    config = small(folder, inputs={"text": TEXT, "note": {"type": "sequence", "column": "note", "share": "text"}})
    config = config.model_copy(update={"run": config.run.model_copy(update={"dir": str(tmp_path / "run")})})
    train(config)
    assert not (tmp_path / "run" / TABLE).exists()
    weights = [(path / "run" / "bundle" / "model.safetensors").read_bytes() for path in (folder, tmp_path)]
    assert weights[0] == weights[1]
    more = small(folder, run={"dir": str(tmp_path / "run")}, trainer={**config.trainer.model_dump(), "max_epochs": 4})
    train(more)
    assert (tmp_path / "run" / TABLE).is_file()


def wrong(folder: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as error:
        check(small(folder, **changes))
    assert not (folder / "run" / "config.yaml").exists()
    return str(error.value)


def test_what_cannot_be_explained_is_said_before_training(tmp_path: Path) -> None:
    ids = {"text": {**TEXT, "interpretation": {"ids": ["test-1", "test-99", "train-0", 7]}}}
    message = wrong(tmp_path, inputs=ids)
    assert "there is no row 'test-99' among those of validation and test; did you mean" in message
    assert "there is no row '7' among those of validation and test" in message
    assert "inputs.text.interpretation.ids: 'train-" in message
    assert "is a training row; rows of validation and test are explained" in message
    rows = {"text": {**TEXT, "interpretation": {"rows": 13}}}
    assert "inputs.text.interpretation.rows: 13 is more than the 12 test rows" in wrong(tmp_path, inputs=rows)
    numbers = {"type": "tabular", "continuous": ["size"], "interpretation": {}}
    kind = {"kind": {"type": "classification", "column": "kind"}}
    message = wrong(tmp_path, inputs={"numbers": numbers}, outputs=kind)
    assert "inputs.numbers.interpretation: a tabular input has no tokens whose vectors could be varied" in message
    masked = {"words": {"type": "masked_lm", "input": "text"}}
    message = wrong(tmp_path, inputs={"text": {**TEXT, "interpretation": {}}}, outputs=masked)
    assert "its texts are corrupted for outputs.words" in message


def test_rows_that_lack_the_input(tmp_path: Path) -> None:
    path = small(tmp_path).data.test
    assert isinstance(path, str)
    rows = list(csv.reader(Path(path).read_text(encoding="utf-8").splitlines()))
    text = {"type": "sequence", "column": "text", "model": TEXT["model"]}
    note = {**text, "column": "note"}
    config = small(tmp_path).model_dump(mode="json")
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [*row[:2], "" if row[0] in ("test-1", "test-2") else row[2], *row[3:]] for row in rows
        )
    config["data"] |= {"on_missing": "keep"}
    config["trainer"] |= {"max_epochs": 1}
    config["inputs"] = {"text": text, "note": {**note, "interpretation": {"ids": ["test-1", "test-3"]}}}
    with pytest.raises(UserError, match=r"inputs\.note\.interpretation\.ids: row 'test-1' lacks this input"):
        train(validate_experiment(config))
    config["inputs"]["note"]["interpretation"] = {"rows": 12}
    train(validate_experiment(config))
    assert {row["id"] for row in lines(tmp_path / "run" / TABLE)} == {f"test-{n}" for n in range(12)} - {
        "test-1",
        "test-2",
    }


def test_wrong_options(tmp_path: Path) -> None:
    for interpretation, message in (
        ({"rows": 3, "ids": ["a"]}, "rows and ids exclude each other"),
        ({"rows": 0}, "inputs.text.interpretation.rows"),
        ({"method": "gradient"}, "inputs.text.interpretation.method"),
        ({"baseline": "unknown"}, "inputs.text.interpretation.baseline"),
        ({"step": 3}, "inputs.text.interpretation.step"),
    ):
        with pytest.raises(UserError) as error:
            small(tmp_path, inputs={"text": {**TEXT, "interpretation": interpretation}})
        assert message in str(error.value), interpretation


def test_prompts_are_not_explained(folder: Path) -> None:
    config = predict_config([f"run={folder / 'run'}", "interpretation.tex.rows=1"])
    with pytest.raises(UserError, match=r"interpretation\.tex: 'tex' is not an input; did you mean 'text'"):
        predict(folder / "run", output=folder / "x.csv", interpretation=config.interpretation)
    assert not (folder / "x.csv").exists()
    with pytest.raises(UserError, match="rows of a table are explained, not prompts"):
        predict(folder / "run", prompt="a", interpretation=config.interpretation)


def test_sums_that_are_wrong_are_mentioned(folder: Path) -> None:
    found = loaded(folder / "run" / RECORDS)
    assert warnings_about(found) == []
    jumped = [found[0].model_copy(update={"score": found[0].score + 10}), *found[1:]]
    (warning,) = warnings_about(jumped)
    count = sum(row.input == "text" for row in found)
    assert warning.startswith(f"inputs.text.interpretation: the attributions of 1 of {count} scores miss their sum")


def test_check_says_what_it_costs(tmp_path: Path) -> None:
    said = str(check(small(tmp_path)))
    # 2 rows of each of 3 classes, 2 by size; 2 ids for each output
    assert "up to 12 explanations of rows, with up to 9,216 gradients of single rows" in said


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_known_word_has_the_largest_attribution(tmp_path: Path, seed: int) -> None:
    train(experiment(tmp_path, test=100, seed=seed))
    rows, right, first = hits(tmp_path / "run")
    assert rows == 100
    assert right >= 95
    assert first >= 95
    assert {row["token"] for row in lines(tmp_path / "run" / TABLE)} > WORDS
