from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from eir_seq.commands.predict import predict_config
from eir_seq.commands.preflight import prediction_faults
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import RunFailed, UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.predictor import Predictor
from eir_seq.inference.report import write_report
from eir_seq.outputs.predictions import NOT_PREDICTED
from eir_seq.training.bundle import read_bundle
from eir_seq.training.run import train

WORDS = {"good": ("fine", "great", "warm", "clever"), "bad": ("dull", "cold", "lazy", "poor")}
Row = dict[str, str]


def rows(count: int, seed: int) -> list[Row]:
    source = random.Random(seed)
    made = []
    for number in range(count):
        kind = source.choice(sorted(WORDS))
        words = [source.choice(WORDS[kind] + ("film", "plot", "cast")) for _ in range(source.randint(3, 30))]
        made.append(
            {
                "name": f"r{seed}-{number}",
                "text": " ".join(words),
                "kind": kind,
                "stars": f"{sum(word in WORDS['good'] for word in words) / len(words):.3f}",
            }
        )
    return made


def write(path: Path, table: list[Row], leave_out: tuple[str, ...] = ()) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [key for key in table[0] if key not in leave_out], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    return str(path)


def read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


VALIDATION = rows(23, seed=2)


def experiment(folder: Path) -> ExperimentConfig:
    config: dict[str, Any] = {
        "data": {
            "train": write(folder / "train.csv", rows(60, seed=1)),
            "validation": write(folder / "validation.csv", VALIDATION),
            "id": "name",
            "batch_size": 8,
            "cache_dir": str(folder / "cache"),
        },
        "inputs": {
            "review": {
                "column": "text",
                "max_length": 24,
                "tokenizer": {"type": "word"},
                "model": {
                    "model_type": "bert",
                    "model_init_config": {
                        "hidden_size": 16,
                        "num_hidden_layers": 1,
                        "num_attention_heads": 2,
                        "intermediate_size": 16,
                        "max_position_embeddings": 32,
                    },
                },
            }
        },
        "fusion": {"type": "concat"},
        "outputs": {
            "verdict": {"type": "classification", "column": "kind"},
            "rating": {"type": "regression", "column": "stars"},
        },
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "threads": 1},
        "run": {"dir": str(folder / "run")},
    }
    return ExperimentConfig.model_validate(config)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(experiment(folder), finish=write_report)
    return folder / "run"


def test_a_real_run_has_a_report(run: Path) -> None:
    html = (run / "report" / "index.html").read_text()
    for heading in ("Confusion", "Calibration", "Predicted against true", "Worst errors", "Lengths of review"):
        assert heading in html
    result = json.loads((run / "result.json").read_text())
    assert f"{result['validation']['verdict']['auroc']:.4f}" in html


def test_a_run_that_fails_has_a_report_that_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RunFailed("step 1: the loss of outputs.verdict is not finite")

    monkeypatch.setattr("eir_seq.training.run.fit", fail)
    with pytest.raises(RunFailed):
        train(experiment(tmp_path), finish=write_report)
    html = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "step 1: the loss of outputs.verdict is not finite" in html
    assert "Lengths of review" in html


def test_validation_rows_are_predicted_as_training_reported(run: Path, tmp_path: Path) -> None:
    test = write(tmp_path / "v.csv", VALIDATION)
    written = predict(run, test=test, output=tmp_path / "out.csv", accelerator="cpu")
    assert written.read_bytes() == (run / "predictions" / "validation.csv").read_bytes()
    metrics = json.loads((tmp_path / "out.metrics.json").read_text())
    assert metrics == json.loads((run / "result.json").read_text())["validation"]


def test_the_bundle_is_all_that_is_needed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = shutil.copytree(run / "bundle", tmp_path / "elsewhere")
    test = write(tmp_path / "v.csv", VALIDATION)
    monkeypatch.chdir(tmp_path)
    written = predict(alone, test=test)
    assert written == Path("v.predicted.csv")
    assert written.read_bytes() == (run / "predictions" / "validation.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "elsewhere",
        "v.csv",
        "v.predicted.csv",
        "v.predicted.metrics.json",
    ]


def test_table_has_the_files_order_ids_labels_and_probabilities(run: Path, tmp_path: Path) -> None:
    table = list(reversed(rows(40, seed=3)))
    predicted = read(predict(run, test=write(tmp_path / "t.csv", table), output=tmp_path / "o.csv", batch_size=7))
    assert list(predicted[0]) == [
        "id",
        "verdict_true",
        "verdict",
        "verdict_p(bad)",
        "verdict_p(good)",
        "rating_true",
        "rating",
    ]
    assert [row["id"] for row in predicted] == [row["name"] for row in table]
    assert [row["verdict_true"] for row in predicted] == [row["kind"] for row in table]
    assert [float(row["rating_true"]) for row in predicted] == [float(row["stars"]) for row in table]
    for row in predicted:
        good, bad = float(row["verdict_p(good)"]), float(row["verdict_p(bad)"])
        assert good + bad == pytest.approx(1, abs=1e-8)
        assert row["verdict"] == ("good" if good > bad else "bad")


def test_what_a_row_gets_does_not_depend_on_the_rows_beside_it(run: Path, tmp_path: Path) -> None:
    table = rows(20, seed=4)
    test = write(tmp_path / "t.csv", table)
    together = read(predict(run, test=test, output=tmp_path / "a.csv", batch_size=20))
    alone = read(predict(run, test=test, output=tmp_path / "b.csv", batch_size=1))
    for one, other in zip(together, alone, strict=True):
        # Sums in another order differ by rounding of single precision.
        assert float(one["rating"]) == pytest.approx(float(other["rating"]), abs=1e-5)
        assert float(one["verdict_p(good)"]) == pytest.approx(float(other["verdict_p(good)"]), abs=1e-5)


def test_twice_the_same_bytes(run: Path, tmp_path: Path) -> None:
    test = write(tmp_path / "t.csv", rows(20, seed=5))
    first = predict(run, test=test, output=tmp_path / "a.csv").read_bytes()
    assert predict(run, test=test, output=tmp_path / "b.csv").read_bytes() == first


def test_labels_are_not_needed(run: Path, tmp_path: Path) -> None:
    table = rows(9, seed=6)
    test = write(tmp_path / "t.csv", table, leave_out=("kind", "stars"))
    predicted = read(predict(run, test=test, output=tmp_path / "o.csv"))
    assert list(predicted[0]) == ["id", "verdict", "verdict_p(bad)", "verdict_p(good)", "rating"]
    assert [row["id"] for row in predicted] == [row["name"] for row in table]
    assert not (tmp_path / "o.metrics.json").exists()


def test_ids_are_not_needed_and_said_to_be_missing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = write(tmp_path / "t.csv", rows(3, seed=6), leave_out=("name",))
    assert [row["id"] for row in read(predict(run, test=test, output=tmp_path / "o.csv"))] == ["1", "2", "3"]
    assert "no column 'name'" in capsys.readouterr().out


def test_ids_that_repeat_are_refused(run: Path, tmp_path: Path) -> None:
    table = rows(3, seed=6)
    table[2]["name"] = table[0]["name"]
    assert "more than once" in faults(run, test=write(tmp_path / "t.csv", table), output=tmp_path / "o.csv")


def test_the_output_whose_labels_are_there_is_measured(run: Path, tmp_path: Path) -> None:
    test = write(tmp_path / "t.csv", rows(9, seed=6), leave_out=("stars",))
    predict(run, test=test, output=tmp_path / "o.csv")
    assert list(json.loads((tmp_path / "o.metrics.json").read_text())) == ["verdict"]


def test_default_place_does_not_overwrite_what_training_wrote(run: Path, tmp_path: Path) -> None:
    before = (run / "predictions" / "validation.csv").read_bytes()
    written = predict(run, test=write(tmp_path / "validation.csv", rows(5, seed=7)))
    assert written == run / "predictions" / "validation.predicted.csv"
    assert (run / "predictions" / "validation.csv").read_bytes() == before


def faults(run: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        predict(run, **options)
    return str(caught.value)


def test_what_is_no_bundle_is_one_line(run: Path, tmp_path: Path) -> None:
    test = write(tmp_path / "t.csv", rows(3, seed=8))
    assert "is not a folder" in faults(tmp_path / "nowhere", test=test)
    assert "neither a run folder nor a bundle" in faults(tmp_path, test=test)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(run / "config.yaml", unfinished)
    assert "not finished" in faults(unfinished, test=test)


@pytest.mark.parametrize(
    "name", ["config.yaml", "model.safetensors", "outputs/verdict.json", "inputs/review/input.json", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["truncated", "changed", "removed"])
def test_a_damaged_bundle_is_refused(run: Path, tmp_path: Path, name: str, damage: str) -> None:
    bundle = shutil.copytree(run / "bundle", tmp_path / "bundle")
    path = bundle / name
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else content[:-3] + b"}x\n")
    message = faults(bundle, test=write(tmp_path / "t.csv", rows(3, seed=8)), output=tmp_path / "o.csv")
    assert len(message.splitlines()) == 1
    assert "bundle" in message
    assert not (tmp_path / "o.csv").exists()


def test_a_bundle_of_another_version_is_one_line(run: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(run / "bundle", tmp_path / "bundle")
    config, manifest = bundle / "config.yaml", bundle / "manifest.json"
    config.write_text(config.read_text() + "attention_to_detail: 3\n")
    listed = json.loads(manifest.read_text())
    content = config.read_bytes()
    listed["files"]["config.yaml"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest.write_text(json.dumps(listed))
    message = faults(bundle, test=write(tmp_path / "t.csv", rows(3, seed=8)), output=tmp_path / "o.csv")
    assert "cannot be read by this version" in message
    assert "attention_to_detail" in message
    assert len(message.splitlines()) == 1


def test_rows_that_cannot_be_used_leave_nothing_behind(run: Path, tmp_path: Path) -> None:
    table = rows(5, seed=9)
    table[2]["kind"] = "goood"
    output = tmp_path / "o.csv"
    message = faults(run, test=write(tmp_path / "t.csv", table), output=output)
    assert "'goood'" in message
    assert "did you mean 'good'?" in message
    assert table[2]["name"] in message
    renamed = [{("txt" if key == "text" else key): value for key, value in row.items()} for row in rows(3, seed=9)]
    assert "did you mean 'txt'?" in faults(run, test=write(tmp_path / "u.csv", renamed), output=output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "u.csv"]


def test_places_that_cannot_be_written_are_refused_first(run: Path, tmp_path: Path) -> None:
    test = write(tmp_path / "t.csv", rows(3, seed=8))
    before = Path(test).read_bytes()
    assert "is a folder" in faults(run, test=test, output=tmp_path)
    assert "there is no folder" in faults(run, test=test, output=tmp_path / "no" / "o.csv")
    assert "o.parquet would be a CSV file; name it o.csv" in faults(run, test=test, output=tmp_path / "o.parquet")
    assert "rows to predict" in faults(run, test=test, output=Path(test))
    assert Path(test).read_bytes() == before
    for name in ("o.csv", "p.metrics.json"):
        os.mkfifo(tmp_path / name)
        output = tmp_path / f"{name[0]}.csv"
        assert f"{tmp_path / name} is not a regular file" in faults(run, test=test, output=output)
        assert (tmp_path / name).is_fifo()


def test_without_a_file_the_runs_own_test_rows_are_wanted(run: Path, tmp_path: Path) -> None:
    assert "data.test" in faults(run, output=tmp_path / "o.csv")


def test_rows_that_cannot_be_used_stand_in_their_places_with_the_reason(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = rows(9, seed=10)
    for number in (0, 4, 8):
        table[number]["text"] = " " if number == 4 else ""
    test, output = write(tmp_path / "t.csv", table), tmp_path / "o.csv"
    assert "line 2: 'text' is empty; data.on_bad_row=skip leaves" in faults(run, test=test, output=output)
    predicted = read(predict(run, test=test, output=output, reading={"on_bad_row": "skip"}))
    assert "rows without a prediction: 3 " in capsys.readouterr().out
    assert [row["id"] for row in predicted] == [row["name"] for row in table]
    assert list(predicted[0])[-1] == NOT_PREDICTED
    for number, row in enumerate(predicted):
        reason = {0: "'text' is empty", 4: "'text' is blank", 8: "'text' is empty"}.get(number, "")
        assert row.pop(NOT_PREDICTED) == reason
        assert all((value == "") == bool(reason) for name, value in row.items() if name != "id")
    usable = [row for row in table if row["text"].strip()]
    alone = read(predict(run, test=write(tmp_path / "u.csv", usable), output=tmp_path / "p.csv"))
    assert alone == [row for row in predicted if row["verdict"]]


def test_rows_of_classes_that_training_did_not_have(run: Path, tmp_path: Path) -> None:
    table = rows(7, seed=14)
    table[1]["text"] = ""
    table[2]["kind"] = table[6]["kind"] = "god"
    test, output = write(tmp_path / "t.csv", table), tmp_path / "o.csv"
    usable = [row for row in table if row["text"]]
    told = faults(run, test=write(tmp_path / "u.csv", usable), output=output)
    assert "'god' in column 'kind' is not a class of the training rows; did you mean 'good'?" in told
    assert all(f"{tmp_path}/u.csv line {line}" in str(told) for line in (3, 7))
    predicted = read(predict(run, test=test, output=output, reading={"on_bad_row": "skip"}))
    assert [row["id"] for row in predicted] == [row["name"] for row in table]
    unknown = "'god' in column 'kind' is not a class of the training rows"
    reasons = {1: "'text' is empty", 2: unknown, 6: unknown}
    assert [row[NOT_PREDICTED] for row in predicted] == [reasons.get(number, "") for number in range(7)]
    assert [row["verdict"] == "" for row in predicted] == [number in reasons for number in range(7)]
    assert (tmp_path / "o.metrics.json").is_file(), "the others are scored"
    strange = write(tmp_path / "s.csv", [{**row, "kind": "so-so"} for row in table])
    with pytest.raises(UserError, match=r"data.test: no row is left: 'so-so' in column 'kind' is not a class"):
        predict(run, test=strange, output=output, reading={"on_bad_row": "skip"})


def test_the_table_has_the_same_columns_whether_or_not_a_row_was_left_out(run: Path, tmp_path: Path) -> None:
    test = write(tmp_path / "t.csv", rows(3, seed=11))
    predicted = read(predict(run, test=test, output=tmp_path / "o.csv", reading={"on_bad_row": "skip"}))
    assert [row[NOT_PREDICTED] for row in predicted] == [""] * 3


def test_lines_that_are_no_json_have_a_line_in_the_table(run: Path, tmp_path: Path) -> None:
    table = rows(4, seed=12)
    lines = [json.dumps(row) for row in table]
    broken = ["{", *lines[:2], "[]", "{", *lines[2:3], lines[3].replace(table[3]["text"], ""), "{"]
    (tmp_path / "t.jsonl").write_text("\n".join(broken) + "\n")
    test = str(tmp_path / "t.jsonl")
    assert list(prediction_faults(run / "bundle", test, {"on_bad_row": "skip"})) == []
    predicted = read(predict(run, test=test, output=tmp_path / "o.csv", reading={"on_bad_row": "skip"}))
    names = [row["name"] for row in table]
    assert [row["id"] for row in predicted] == ["line 1", *names[:2], "line 4", "line 5", *names[2:], "line 8"]
    assert [bool(row[NOT_PREDICTED]) for row in predicted] == [True, False, False, True, True, False, True, True]


def test_the_file_may_be_read_in_another_way_than_the_runs(run: Path, tmp_path: Path) -> None:
    table = rows(4, seed=13)
    table[2]["text"] = '"' + table[2]["text"]
    lines = [f"{row['name']};{row['text']}" for row in table]
    (tmp_path / "t.csv").write_text("number;words\n" + "\n".join(lines) + "\n")
    arguments = ["data.delimiter=';'", "data.quote=null", "data.id=number", "data.rename={words: text}"]
    config = predict_config([f"run={run}", f"data.test={tmp_path / 't.csv'}", *arguments])
    assert list(prediction_faults(run / "bundle", config.data.test, config.data.reading)) == []
    predicted = read(predict(run, test=config.data.test, output=tmp_path / "o.csv", reading=config.data.reading))
    assert [row["id"] for row in predicted] == [row["name"] for row in table]
    assert "no column 'nummer'" in faults(run, test=config.data.test, reading=config.data.reading | {"id": "nummer"})


def test_rows_in_memory_are_predicted_as_those_of_a_file(run: Path, tmp_path: Path) -> None:
    table = rows(17, seed=4)
    written = read(predict(run, test=write(tmp_path / "new.csv", table), output=tmp_path / "p.csv"))
    found = Predictor(read_bundle(run / "bundle")).predict([{"text": row["text"]} for row in table])
    assert list(found[0]) == [name for name in written[0] if name != "id" and not name.endswith("_true")]
    for row, line in zip(found, written, strict=True):
        for name, value in row.items():
            assert line[name] == (f"{value:.9g}" if isinstance(value, float) else value)


def test_rows_in_memory_that_cannot_be_used_are_all_named(run: Path) -> None:
    predictor = Predictor(read_bundle(run / "bundle"))
    assert predictor.predict([]) == []
    with pytest.raises(UserError) as caught:
        predictor.predict([{"text": "fine"}, {"text": " "}, {"text": None}, {"other": 1}])
    assert [str(fault).split(":")[0] for fault in caught.value.faults] == ["rows row 2", "rows row 3", "rows row 4"]
    with pytest.raises(UserError, match="column 'text' is not in the rows"):
        predictor.predict([{"words": "fine"}])
    with pytest.raises(UserError, match="several types"):
        predictor.predict([{"text": "fine"}, {"text": 3}])
    with pytest.raises(UserError, match="column 'text' holds values of no known type"):
        predictor.predict([{"text": object()}])
