"""The trials of a search by Ray Tune: Ray places them on nodes, and starts those of a lost node again elsewhere.

The study says which trials there are and which are pruned, as with every engine; Tune has no state that counts.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from eir_seq.commands.engines import Engine, Launch, Task
from eir_seq.commands.engines.ray import RayCluster, node, threads
from eir_seq.commands.engines.remote import HIDDEN, Remote, forwarded
from eir_seq.commands.search.engines import LOOK_SECONDS, Runner, Watch
from eir_seq.commands.search.objective import Objective
from eir_seq.commands.search.study import Claim, State, Study
from eir_seq.commands.search.trial import GRACE_SECONDS, STATUS, Ended, TrialProcess
from eir_seq.commands.search.worker import pruned_at
from eir_seq.commands.sweep import Sweep
from eir_seq.config.overrides import normalized
from eir_seq.errors import RunFailed
from eir_seq.inference.jobs import Job, read_jobs
from eir_seq.training.redaction import redact_words

if TYPE_CHECKING:
    from eir_seq.commands.search import Search

_POLL_SECONDS, _ASK_SECONDS = 0.1, 1.0
_STEP_SECONDS = 5.0
"""How long a node looks at a trial without news before it answers, so that it can be stopped."""
_PENDING = 2
"""Trials that wait for room: their values are chosen, so that more would know less."""


class RayRunner(Runner):
    """Trials by Ray Tune.

    Raises:
        UserError: Ray is missing, or the cluster cannot be used.
    """

    def __init__(self, search: Search) -> None:
        config = search.request.config
        self._search = search
        self._jobs = search.jobs()
        self._cluster = RayCluster(
            config.ray,
            search.folder,
            None,
            config.gpus_per_trial,
            config.cpus_per_trial,
            place="sweep.",
            unit="trial",
        )

    def run(self, study: Study) -> int | None:
        """Have Tune run the trials, and tell of them."""
        config = self._search.request.config
        watch = Watch(study, self._search)
        secrets = self._secrets()
        setting = Setting(
            self._search.folder.absolute(),
            os.getcwd(),
            tuple(self._search.objectives),
            config.timeout,
            {name: word for word, name in secrets.items()},
            forwarded(config.ray.environment) | threads(config.cpus_per_trial),
        )
        searcher = StudySearch(self._search, secrets, portable=ray.util.client.ray.is_connected())
        own = Path(tempfile.mkdtemp(prefix=".ray-", dir=self._search.folder.absolute()))
        os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(_PENDING))
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        try:
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(TrialOnNode, setting=setting),
                    tune.PlacementGroupFactory([dict(self._cluster.resources)]),
                ),
                param_space={},
                tune_config=tune.TuneConfig(
                    num_samples=-1,
                    search_alg=searcher,
                    scheduler=StudyScheduler(searcher),
                    max_concurrent_trials=config.n_jobs,
                    trial_dirname_creator=_name,
                ),
                run_config=tune.RunConfig(
                    name=own.name,
                    storage_path=str(own.parent),
                    stop=Interruption(searcher),
                    failure_config=tune.FailureConfig(max_failures=config.ray.max_failures),
                    callbacks=[Beat(searcher)],
                    verbose=0,
                ),
            )
            with self._jobs.signals_passed_on():
                self._fit(tuner, searcher, watch)
            watch.look()
        finally:
            shutil.rmtree(own, ignore_errors=True)
        return self._jobs.stopped_by

    def close(self) -> None:
        """Disconnect from the cluster."""
        self._cluster.close()

    def _secrets(self) -> dict[str, str]:
        """What stands for the secret words of commands, by word: Tune writes the values of trials to files."""
        words = normalized(self._search.request.words)
        secret = [word for word in words if redact_words([word]) != [word]]
        return {word: f"{HIDDEN}{place}" for place, word in enumerate(secret)}

    def _fit(self, tuner: Any, searcher: StudySearch, watch: Watch) -> None:
        failures: list[BaseException] = []

        def fit() -> None:
            try:
                tuner.fit()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=fit, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(LOOK_SECONDS)
            watch.look()
            if self._jobs.stopped_by is not None:
                if searcher.portable:  # Tune runs on the cluster, and ends with this connection
                    return
                searcher.stop()
        if failures and not isinstance(failures[0], RunFailed):
            said = (str(failures[0]).strip().splitlines() or [type(failures[0]).__name__])[-1]
            raise RunFailed(f"Ray Tune has failed: {said}; the same command continues the study") from failures[0]
        if failures:
            raise failures[0]


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
        """Start the process, or continue a run whose node was lost."""
        os.chdir(setting.directory)
        command = [setting.secrets.get(word, word) for word in config["command"]]
        jobs = Sweep(setting.folder, lambda *_: command, engine=_OnNode(setting.variables), say=lambda _: None)
        job = Job(config["number"], tuple(config["overrides"]))
        self._process = TrialProcess(jobs, job, setting.objectives, setting.timeout, taken_over=True)
        self._ended: Ended | None = None

    def step(self) -> dict[str, Any]:
        """Wait for an evaluation, or for the end."""
        begun = time.monotonic()
        while True:
            self._ended = self._process.look()
            measured = self._process.measured()
            if self._ended is not None or measured or time.monotonic() - begun > _STEP_SECONDS:
                break
            time.sleep(_POLL_SECONDS)
        found: dict[str, Any] = {"measured": measured, "done": self._ended is not None}
        if self._ended is not None:
            found |= {"ended": _Plain(self._ended)}
        return found

    def cleanup(self) -> None:
        """Have a process that still runs save its state, and wait for it."""
        if self._ended is None:
            self._process.stop("running")
            end = time.monotonic() + 2 * GRACE_SECONDS
            while self._process.look() is None and time.monotonic() < end:
                time.sleep(_POLL_SECONDS)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The run folder has the state."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """The run folder has the state."""


class _Plain:
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


@dataclass
class _Running:
    claim: Claim
    begun: float
    ending: State | None = None


class StudySearch(Searcher):  # type: ignore[misc]
    """Gives Tune the trials of the study, and the study what they come to.

    Args:
        search: what is searched.
        secrets: what stands for secret words of commands, by word.
        portable: it is pickled to run on another machine.
    """

    def __init__(self, search: Search, secrets: Mapping[str, str], *, portable: bool) -> None:
        super().__init__(metric="value", mode="min")
        self.portable = portable
        self._search, self._secrets = search, secrets
        self._directory, self._variables = os.getcwd(), forwarded(search.request.config.ray.environment)
        self._running: dict[str, _Running] = {}
        self._study: Study | None = None
        self._asked = self._beaten = -math.inf
        self._stopping = False

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes what it can to files, which nobody reads: with the password of a storage, say.
        if not self.portable:
            return {}
        return {**self.__dict__, "portable": False, "_running": {}, "_study": None}

    @property
    def study(self) -> Study:
        """The study, as the process has it in which Tune runs."""
        if self._study is None:
            os.chdir(self._directory)
            os.environ.update(self._variables)
            self._study = self._search.study()
        return self._study

    @property
    def stopping(self) -> bool:
        """Whether a signal came."""
        return self._stopping

    def stop(self) -> None:
        """Have all trials save their state and end."""
        self._stopping = True

    def suggest(self, trial_id: str) -> Any:
        """The next trial; None if there is none now."""
        if self._stopping:
            return Searcher.FINISHED
        if time.monotonic() - self._asked < _ASK_SECONDS:
            return None
        claim = self.study.claim()
        if claim is None:
            self._asked = time.monotonic()
            return None if self._running or self.study.pending else Searcher.FINISHED
        self._running[trial_id] = _Running(claim, time.monotonic())
        jobs, words = self._search.jobs(), self._search.words(claim)
        run_dir = jobs.run_dir(Job(claim.number, ())).absolute()
        self.study.note_folder(claim, run_dir)
        command = [self._secrets.get(word, word) for word in jobs.command(words, run_dir)]
        return {"number": claim.number, "command": command, "overrides": redact_words(words)}

    def decide(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Report what a trial has measured; returns whether it is to stop."""
        running = self._running.get(trial_id)
        if running is None:
            return True
        self._report(running, result)
        config = self._search.request.config
        if result["done"] or running.ending is not None:
            return running.ending is not None
        if config.pruner != "none" and self.study.should_prune(running.claim):
            running.ending = "pruned"
        return running.ending is not None

    def beat(self) -> None:
        """Give signs of life of the trials, when it is time."""
        if time.monotonic() - self._beaten < self._search.request.config.heartbeat:
            return
        self._beaten = time.monotonic()
        for running in self._running.values():
            if not self.study.beat(running.claim):
                running.ending = "running"

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study how a trial ended."""
        running = self._running.pop(trial_id, None)
        if running is None:
            return
        claim, ended = running.claim, (result or {}).get("ended")
        if error:
            self._lost(claim)
        elif ended is not None:
            self._conclude(claim, ended.value)
        elif running.ending == "pruned":
            message = pruned_at(self._search.request.config.pruner, claim)
            self._note(claim, "pruned", message)
            self.study.finish(claim, "pruned", (), message)
        elif running.ending is None:
            self.study.release(claim)

    def release_all(self) -> None:
        """Give interrupted trials back, once their processes have ended."""
        for running in self._running.values():
            self._note(running.claim, "running", "")
            self.study.release(running.claim)
        self._running.clear()

    def _report(self, running: _Running, result: Mapping[str, Any]) -> None:
        values = result.get("measured") or []
        for step, value in enumerate(values[running.claim.reported :], running.claim.reported + 1):
            self.study.report(running.claim, step, value)

    def _conclude(self, claim: Claim, ended: Ended) -> None:
        self._search.jobs().write(replace(ended.job, status=STATUS.get(ended.state, "stopped"), message=ended.message))
        if ended.state == "running":
            self.study.release(claim)
        else:
            self.study.finish(claim, ended.state, ended.values, ended.message)

    def _lost(self, claim: Claim) -> None:
        times = self._search.request.config.ray.max_failures + 1
        message = f"its node was lost {times} times" if times > 1 else "its node was lost"
        self._note(claim, "failed", message)
        self.study.finish(claim, "failed", (), message)

    def _note(self, claim: Claim, state: State, message: str) -> None:
        """Record the status of a trial whose node does not: it is stopped, or gone."""
        known = {job.number: job for job in read_jobs(self._search.folder)}
        if (job := known.get(claim.number)) is not None:
            self._search.jobs().write(replace(job, status=STATUS.get(state, "stopped"), message=message, pid=None))

    def save(self, checkpoint_path: str) -> None:
        """The study is stored already."""

    def restore(self, checkpoint_path: str) -> None:
        """The study is stored."""


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]
    """Tune's scheduler: trials in their order, stopped where the study's pruner says so."""

    def __init__(self, searcher: StudySearch) -> None:
        super().__init__()
        self._searcher = searcher

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Continue or stop."""
        decision: str = (
            TrialScheduler.STOP if self._searcher.decide(trial.trial_id, result) else TrialScheduler.CONTINUE
        )
        return decision


class Interruption(tune.Stopper):  # type: ignore[misc]
    """Ends all trials when a signal came."""

    def __init__(self, searcher: StudySearch) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """No single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether a signal came."""
        return self._searcher.stopping


class Beat(tune.Callback):  # type: ignore[misc]
    """Gives signs of life in each of Tune's steps."""

    def __init__(self, searcher: StudySearch) -> None:
        self._searcher = searcher

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        """A sign, when it is time."""
        self._searcher.beat()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        """Interrupted trials have saved their state."""
        self._searcher.release_all()


def _name(trial: Any) -> str:
    return str(trial.trial_id)
