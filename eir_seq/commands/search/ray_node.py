"""A trial of a search on a node of a Ray cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from eir_seq.commands.engines import Engine, Launch, Task
from eir_seq.commands.engines.ray import node
from eir_seq.commands.engines.remote import Remote
from eir_seq.commands.search.objective import Objective
from eir_seq.commands.search.study import State
from eir_seq.commands.search.trial import GRACE_SECONDS, Ended, TrialProcess
from eir_seq.commands.sweep import Sweep
from eir_seq.inference.jobs import Job

_POLL_SECONDS = 0.1
_STEP_SECONDS = 2.0
"""How long a node looks at a trial without news before it answers, so that it can be stopped."""


@dataclass(frozen=True)
class Setting:
    """What every node knows of the search; it is in the memory of the cluster, and in no file.

    Attributes:
        directory: the working directory.
        secrets: words of commands, by what stands for them.
        variables: that trials get from here.
    """

    folder: Path
    directory: str
    objectives: tuple[Objective, ...]
    timeout: float | None
    secrets: Mapping[str, str]
    variables: Mapping[str, str]


class TrialOnNode(tune.Trainable):  # type: ignore[misc]
    """A trial: its process, on the node where Ray has placed it."""

    def setup(self, config: dict[str, Any], setting: Setting) -> None:
        """Get ready for a trial; of actors that are made, Tune lets some go without a step."""
        self._setting = setting
        self.reset_config(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        """The same when another trial has ended here: a new actor would take seconds."""
        self._config = config
        self._process: TrialProcess | None = None
        self._ended: Ended | None = None
        return True

    def step(self) -> dict[str, Any]:
        """Wait for an evaluation, or for the end; first start the process, or continue a run whose node was lost."""
        if self._process is None:
            self._process = self._started()
        begun = time.monotonic()
        while True:
            self._ended = self._process.look()
            measured = self._process.measured()
            if self._ended is not None or measured or time.monotonic() - begun > _STEP_SECONDS:
                break
            time.sleep(_POLL_SECONDS)
        found: dict[str, Any] = {"measured": measured, "done": self._ended is not None}
        if self._ended is not None:
            found |= {"ended": Plain(self._ended)}
        return found

    def end(self, state: State, message: str) -> None:
        """Have the process save its state and end, with this state."""
        if self._process is not None and self._ended is None and not self._process.stopping:
            self._process.stop(state, message)

    def cleanup(self) -> None:
        """End what still runs."""
        self.end("running", "")
        end = time.monotonic() + 2 * GRACE_SECONDS
        while self._process is not None and self._ended is None and time.monotonic() < end:
            self._ended = self._process.look()
            time.sleep(_POLL_SECONDS)

    def _started(self) -> TrialProcess:
        setting = self._setting
        os.chdir(setting.directory)
        command = [setting.secrets.get(word, word) for word in self._config["command"]]
        jobs = Sweep(setting.folder, lambda *_: command, engine=_OnNode(setting.variables), say=lambda _: None)
        job = Job(self._config["number"], tuple(self._config["overrides"]))
        return TrialProcess(jobs, job, setting.objectives, setting.timeout, taken_over=True)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The run folder has the state."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """The run folder has the state."""


class Plain:
    """A value that Tune does not look into."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _OnNode(Engine):
    """Runs the process of a trial in the actor that Ray has placed for it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def start(self, launches: Sequence[Launch]) -> list[Task]:
        """Start each."""
        return [_TaskOnNode(Remote(launch, self._variables)) for launch in launches]


class _TaskOnNode(Task):
    def __init__(self, remote: Remote) -> None:
        self._remote, self._place = remote, node()
        remote.start()

    @property
    def pid(self) -> int | None:
        return self._remote.pid

    @property
    def place(self) -> str:
        return self._place

    def poll(self) -> int | None:
        return self._remote.poll()

    def send_signal(self, number: int) -> None:
        self._remote.send_signal(number)
