from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import UserError
from eir_seq.training import folder as folder_module
from eir_seq.training.folder import RunFolder, write_json
from eir_seq.training.redaction import redact, redact_words
from tests.training.fakes import experiment

ROOT = Path(__file__).parents[2]

HOLDER = """
import sys, time
from pathlib import Path
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import UserError
from eir_seq.training.folder import RunFolder
try:
    with RunFolder(ExperimentConfig.model_validate_json(sys.argv[1])) as folder:
        folder.write_config()
        folder.keep()
        print("owner", flush=True)
        sys.stdin.read()
except UserError as error:
    print(error)
    sys.exit(2)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, named(path).model_dump_json()],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def named(path: Path, **changes: Any) -> ExperimentConfig:
    return experiment(run={"dir": str(path)}, **changes)


def begun(path: Path, **changes: Any) -> None:
    with RunFolder(named(path, **changes)) as folder:
        folder.write_config()
        folder.keep()


def test_one_owner_wins_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "run"
    contenders = [hold(path) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        lines = list(pool.map(lambda process: process.stdout.readline(), contenders))  # type: ignore[union-attr]
    assert sorted(line == "owner\n" for line in lines) == [False, False, True]
    owner = contenders[lines.index("owner\n")]
    for process, line in zip(contenders, lines, strict=True):
        if process is not owner:
            assert process.wait() == 2
            assert line == f"run.dir: {path} is in use by process {owner.pid} on {socket.gethostname()}\n"
    assert (path / "config.yaml").exists(), "the losers removed nothing"
    owner.kill()
    owner.wait()
    with RunFolder(named(path)) as folder:
        assert folder.resumed


def test_an_owner_that_has_not_yet_written_its_name_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            (tmp_path / "owner").write_text("process 12 on host\n")

    monkeypatch.setattr(time, "sleep", nap)
    (tmp_path / "owner").touch()
    with (tmp_path / "owner").open("rb") as lock:
        assert folder_module._noted_owner(lock.fileno()) == "process 12 on host"
    assert len(naps) == 2


def test_runs_started_together_get_folders_of_their_own(tmp_path: Path) -> None:
    config = experiment(run={"root": str(tmp_path / "runs")}, name="mine")
    folders = [RunFolder(config) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(RunFolder.__enter__, folders))
    assert len({folder.path for folder in folders}) == 8
    assert {folder.path.parent for folder in folders} == {tmp_path / "runs" / "mine"}
    for folder in folders:
        folder.__exit__(None, None, None)
    assert not list((tmp_path / "runs").glob("mine/*")), "none of them came to anything"


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with RunFolder(named(tmp_path / "runs" / "deep" / "run")):
        assert (tmp_path / "runs" / "deep" / "run").is_dir()
    assert list((tmp_path / "runs").iterdir()) == []
    assert (tmp_path / "runs").is_dir()


def test_foreign_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"run\.dir: .* holds files that are not a run's \(thesis\.tex\)"):
        RunFolder(named(tmp_path)).__enter__()
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"run\.dir: .*file.* cannot be written: "):
        RunFolder(named(tmp_path / "file")).__enter__()
    with pytest.raises(UserError, match=r"run\.dir: .* cannot be written: Not a directory"):
        RunFolder(named(tmp_path / "file" / "run")).__enter__()


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write everywhere, so permissions alone do not tell
    with pytest.raises(UserError, match=r"run\.dir: .*/run cannot be written: Permission denied"):
        RunFolder(named(tmp_path / "run")).__enter__()
    config = experiment(run={"root": str(tmp_path / "runs")})
    with pytest.raises(UserError, match=r"run\.root: .*/runs cannot be written: Permission denied"):
        RunFolder(config).__enter__()


def test_a_changed_config_is_named_key_by_key(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    with pytest.raises(UserError) as refused:
        RunFolder(named(tmp_path / "run", seed=4, fusion={"dropout": 0.5})).__enter__()
    assert [fault.place for fault in refused.value.faults] == ["fusion.dropout", "seed"]
    assert str(refused.value).startswith(
        f"fusion.dropout: was 0.3 and is 0.5; {tmp_path / 'run' / 'config.yaml'} has the former"
    )


def test_the_config_of_another_experiment_or_half_of_one_is_one_line(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines[: len(lines) // 3]))
    with pytest.raises(
        UserError, match=rf"^run.dir: {path} is that of another experiment, or damaged: \d+ keys differ"
    ):
        RunFolder(named(tmp_path / "run")).__enter__()


@pytest.mark.parametrize(
    ("change", "extended"),
    [
        ({"data": {"num_workers": 2}}, None),
        ({"note": "another"}, None),
        ({"tracker": {"type": "tensorboard"}}, None),
        ({"trainer": {"keep_checkpoints": 5, "keep_optimizer_state": True}}, None),
        ({"scheduler": {"extend": "continue"}}, None),
        ({"trainer": {"max_epochs": 9}}, "trainer.max_epochs"),
        ({"trainer": {"max_steps": 9}}, "trainer.max_steps"),
    ],
)
def test_some_keys_may_change(change: dict[str, Any], extended: str | None, tmp_path: Path) -> None:
    begun(tmp_path / "run")
    with RunFolder(named(tmp_path / "run", **change)) as folder:
        assert folder.resumed
        assert folder.extended == extended


def test_keys_that_are_new_since_the_run_began_have_their_defaults(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    stored = yaml.safe_load(path.read_text())
    for section, key in (("trainer", "keep_optimizer_state"), ("scheduler", "extend"), ("data", "on_bad_row")):
        del stored[section][key]
    del stored["inputs"]["x"]["model"]["gradient_checkpointing"]
    path.write_text(yaml.safe_dump(stored))
    with RunFolder(named(tmp_path / "run")) as folder:
        assert folder.resumed
        assert folder.extended is None
    stored["seed_of_old"] = 1  # a key that is no longer one
    path.write_text(yaml.safe_dump(stored))
    with pytest.raises(UserError, match="seed_of_old: was 1 and is None"):
        RunFolder(named(tmp_path / "run")).__enter__()


def test_a_start_that_was_killed_early_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (".owner", "log.txt", ".partial-config.yaml-77"):
        (tmp_path / "run" / name).write_text("")
    with RunFolder(named(tmp_path / "run")) as folder:
        assert not folder.resumed


def test_a_foreign_config(tmp_path: Path) -> None:
    for content in (b"a: [", b"\xff\xfe", b"just text"):
        (tmp_path / "config.yaml").write_bytes(content)
        with pytest.raises(UserError, match=r"config\.yaml is not a run's config"):
            RunFolder(named(tmp_path)).__enter__()


def test_odd_names_work(tmp_path: Path) -> None:
    path = tmp_path / "with spaces, ünïcode and (brackets)" / ("x" * 200)
    begun(path)
    assert (path / "config.yaml").exists()


def test_files_appear_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "result.json", {"a": 1})

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_json(tmp_path / "result.json", {"a": 2})
    assert (tmp_path / "result.json").read_text() == '{\n  "a": 1\n}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:pass@host/x", "https://***@host/x"),
        ("s3://key@bucket", "s3://***@bucket"),
        ("+hub.token=abc", "+hub.token=***"),
        ("tracker.api_key=abc", "tracker.api_key=***"),
        ("HF_TOKEN=abc", "HF_TOKEN=***"),
        ("a.hf_token=abc b=1", "a.hf_token=*** b=1"),
        ("num_memory_tokens=4", "num_memory_tokens=4"),
        ("model.use_cls_token=true", "model.use_cls_token=true"),
        ("inputs.review.model.pad_token_id=0", "inputs.review.model.pad_token_id=0"),
        ("https://host/x@y", "https://host/x@y"),
        ("https://me:p@ss@host/x", "https://***@host/x"),
        ("https://host/x?access_token=abc", "https://host/x?access_token=***"),
        ("a note with api_key=abc", "a note with api_key=***"),
        ('{"token": "abc", "seed": 1}', '{"token": "***", "seed": 1}'),
        ("client_secret: 'a b' c", "client_secret: '***' c"),
        ("myPassword: abc", "myPassword: ***"),
        ("--api-key abc", "--api-key ***"),
        ("Authorization: Bearer abc", "Authorization: Bearer ***"),
        ("Authorization: Basic abc", "Authorization: Basic ***"),
        ("max_token=4", "max_token=4"),
        ("mask_token=<mask>", "mask_token=<mask>"),
        ("unexpected token: 'abc'", "unexpected token: 'abc'"),
        ("the key 3 is a number", "the key 3 is a number"),
        ("secret_output: accuracy 0.5, f1 0.3", "secret_output: accuracy 0.5, f1 0.3"),
        ("monkey=abc", "monkey=abc"),
    ],
)
def test_redaction(text: str, expected: str) -> None:
    assert redact({"a": [text]}) == {"a": [expected]}


def test_redaction_of_mappings_and_command_lines() -> None:
    given = {"api_key": "abc", "pad_token": "[PAD]", "num_tokens": 3, "my_token": "abc", "password": {"x": 1}}
    assert redact(given) == {**given, "api_key": "***", "my_token": "***"}
    assert redact_words(["a=1", "x.password=a b", "--api-key", "abc", "--cfg", "job"]) == [
        "a=1", "x.password=***", "--api-key", "***", "--cfg", "job"
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["a b: c ", "a", "a=", "://", "bearer ", '"', "key='", "a: "])
def test_redaction_of_long_texts_takes_no_time(text: str) -> None:
    start = time.process_time()
    redact(text * 20_000)
    assert time.process_time() - start < 5  # a pattern that goes back and forth takes minutes


def test_the_owner_is_this_process(tmp_path: Path) -> None:
    with RunFolder(named(tmp_path / "run")) as folder:
        assert (folder.path / ".owner").read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
