from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.errors import RunFailed, UserError
from eir_seq.training import checkpoints
from eir_seq.training.checkpoints import (
    MANIFEST,
    STATE,
    TENSORS,
    WEIGHTS,
    CheckpointStore,
    read_state,
    verify_folder,
    write_folder,
    write_state,
)

MIXED: dict[str, Any] = {
    "weights": {"a.b": torch.arange(6.0).view(2, 3), "half": torch.ones(2, dtype=torch.bfloat16)},
    "by number": {0: {"step": torch.tensor(3.0)}, 1: {}},
    "tuple": (0.9, 0.999),
    "values": [None, True, 3, 0.1, "text", float("inf")],
    "not contiguous": torch.arange(6).view(2, 3).t(),
    "empty": torch.empty(0, 3),
    "$odd": {"$tensor": "a text"},
}


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def save(folder: Path, state: dict[str, Any] = MIXED) -> None:
    write_folder(folder, lambda partial: write_state(partial, state))


def test_any_state_comes_back_as_it_was(tmp_path: Path) -> None:
    save(tmp_path / "c")
    assert equal(read_state(tmp_path / "c"), MIXED)
    assert verify_folder(tmp_path / "c") is None
    assert {path.name for path in (tmp_path / "c").iterdir()} == {TENSORS, STATE, MANIFEST}
    assert {path.name for path in tmp_path.iterdir()} == {"c"}


def test_tied_weights_are_written_once(tmp_path: Path) -> None:
    weight = torch.randn(100, 100)
    save(tmp_path / "c", {"one": weight, "other": weight, "part": weight[:50]})
    assert (tmp_path / "c" / TENSORS).stat().st_size < 1.6 * weight.numel() * 4
    found = read_state(tmp_path / "c")
    assert found["one"] is found["other"]
    assert torch.equal(found["part"], weight[:50])


def test_an_optimizer_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    def stepped(steps: int, state: Any = None, weights: Any = None) -> Any:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 3)
        optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
        if state is not None:
            layer.load_state_dict(weights)
            optimizer.load_state_dict(state)
        for _ in range(steps):
            layer(torch.ones(2, 3)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return layer.state_dict(), optimizer.state_dict()

    weights, state = stepped(2)
    save(tmp_path / "c", {"weights": weights, "optimizer": state})
    found = read_state(tmp_path / "c")
    assert equal(stepped(2, found["optimizer"], found["weights"]), stepped(4))


def test_what_cannot_be_saved_is_our_fault(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="cannot be saved"):
        save(tmp_path / "c", {"function": print})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["save_file", "flush_to_disk"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_leaves_the_old_checkpoint(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "step-00000001")

    def fail(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoints, call, fail)
    with pytest.raises(RunFailed) as failed:
        save(tmp_path / "step-00000002")
    monkeypatch.undo()
    message = str(failed.value)
    assert message.startswith(f"{tmp_path / 'step-00000002'} could not be written: {os.strerror(number)} (")
    assert message.endswith(" bytes are free)")
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert verify_folder(tmp_path / "step-00000001") is None


WRITER = """
import sys, torch, resource
from pathlib import Path
from eir_seq.errors import RunFailed
from eir_seq.training.checkpoints import write_folder, write_state
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    write_folder(Path(sys.argv[1]), lambda partial: write_state(partial, {"weights": torch.ones(500_000)}))
except RunFailed as error:
    print(error)
    sys.exit(3)
"""


def test_the_kernel_refusing_to_write_is_a_failed_run(tmp_path: Path) -> None:
    """A file size limit fails the same write call as a full disk, and needs no mount."""
    save(tmp_path / "step-00000001")
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path / "step-00000002"), "limit"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "could not be written" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_full_disk(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    program = "import subprocess, sys; subprocess.run(sys.argv[1:8], check=True); sys.argv[1:8] = []" + WRITER
    probe = subprocess.run(["unshare", "-Urm", *mount], capture_output=True, check=False) if _unshare() else None
    if probe is None or probe.returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    done = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-c", program, *mount, str(tmp_path / "step-00000002"), "full"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "could not be written: " in done.stdout
    assert "No space left on device" in done.stdout


def _unshare() -> bool:
    return shutil.which("unshare") is not None


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    save(tmp_path / "c")
    manifest = json.loads((tmp_path / "c" / MANIFEST).read_text())
    (tmp_path / "c" / MANIFEST).write_text(json.dumps({**manifest, "format": 99}))
    assert verify_folder(tmp_path / "c") == "written by a newer version (format 99; this one reads up to 1)"


def test_a_second_checkpoint_of_a_step_is_the_newer_one(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for _ in range(11):
        save(store.next_path(5))
    save(store.next_path(4))
    assert [path.name for path in store.resumable()][:2] == ["step-00000005-11", "step-00000005-10"]
    assert store.resumable()[-1].name == "step-00000004"


def test_a_finished_run_keeps_one_checkpoint_by_the_name_of_its_step(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, 2)
    for _ in range(2):
        store.next_path(6).mkdir()
    store.finish(lambda _: None, resumable=True)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000006"]


def test_damaged_best_weights_are_not_loaded(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    store.write_best(3, {"a": torch.ones(2)})
    (store.best(3) / WEIGHTS).write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"is damaged: model\.safetensors has 8 bytes instead of"):
        store.read_best(3)
    store.write_best(3, {"a": torch.ones(2)})
    assert torch.equal(store.read_best(3)["a"], torch.ones(2))


def test_foreign_folders_among_the_checkpoints_are_left_alone(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    (tmp_path / "step-of-mine").mkdir()
    for step in (1, 2):
        save(store.next_path(step))
    store.prune(lambda path: None)
    assert {path.name for path in tmp_path.iterdir()} == {"step-of-mine", "step-00000002"}
