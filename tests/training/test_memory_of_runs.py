"""Resident memory of whole runs, as the system counts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eir_seq.__main__ import TUNABLES, tuned

COMMAND = (
    "experiment=imdb_longformer inputs.review.model.model_type=bert "
    "~inputs.review.model.model_init_config.attention_window data.batch_size=8 trainer.threads=1 trainer.max_steps=500 "
    "trainer.validate_every=125"
)


def test_what_the_environment_sets_stays() -> None:
    found = tuned({"A": "b", "GLIBC_TUNABLES": "glibc.malloc.check=0"})
    if found is None:
        pytest.skip("no glibc")
    ours = [f"{name}={value}" for name, value in TUNABLES.items()]
    assert found == {"A": "b", "GLIBC_TUNABLES": ":".join(["glibc.malloc.check=0", *ours])}
    assert tuned(found) is None, "a command starts again once"
    assert tuned({"GLIBC_TUNABLES": ":".join(f"{name}=3" for name in TUNABLES)}) is None


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_resident_memory_of_a_run_stays(tmp_path: Path) -> None:
    """500 steps with evaluations and checkpoints: the peak is that of the first 20 steps, but for a tenth.

    The largest batch is tried after the first step. Later ones of its size meet a heap with other holes. Without the
    trial, and with glibc's caches of threads, the peak grows by 20 to 30 %.
    """
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-m", "eir_seq", *COMMAND.split(), f"run.dir={tmp_path / 'run'}"]
    command += [f"+data.cache_dir={tmp_path / 'cache'}"]
    peaks: dict[int, int] = {}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            step, peak = _step(tmp_path / "run/metrics.csv"), _peak(process.pid)
            if step and peak:
                peaks[step] = peak
            time.sleep(0.02)
    assert process.returncode == 0
    early = min(step for step in peaks if step >= 20)
    assert early < 60, "the first steps were missed"
    assert max(peaks) == 500
    assert max(peaks.values()) <= 1.1 * peaks[early], peaks


def _step(metrics: Path) -> int:
    """The last step whose loss a run has noted: one in three."""
    try:
        lines = metrics.read_text().splitlines()
        return int(lines[-1].split(",")[1])
    except (OSError, ValueError, IndexError):
        return 0


def _peak(process: int) -> int:
    """Peak resident memory of a process, in kB."""
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0
