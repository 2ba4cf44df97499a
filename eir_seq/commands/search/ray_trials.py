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
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from eir_seq.commands.engines.ray import RayCluster, threads
from eir_seq.commands.engines.remote import HIDDEN, forwarded
from eir_seq.commands.search.ray_node import Setting, TrialOnNode
from eir_seq.commands.search.runner import LOOK_SECONDS, Runner, Watch
from eir_seq.commands.search.study import Claim, State, Study
from eir_seq.commands.search.trial import STATUS, Ended
from eir_seq.commands.search.worker import pruned_at
from eir_seq.config.overrides import normalized
from eir_seq.config.sweep_settings import SweepConfig
from eir_seq.errors import RunFailed
from eir_seq.files import read_text
from eir_seq.inference.jobs import Job, read_jobs
from eir_seq.training.redaction import redact_words

if TYPE_CHECKING:
    from eir_seq.commands.search.search import Search

_ASK_SECONDS = 1.0
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

        self._elsewhere = bool(ray.util.client.ray.is_connected())  # ray://: then Tune runs on the cluster

    def run(self, study: Study) -> int | None:
        """Have Tune run the trials, and tell of them."""
        config = self._search.request.config
        watch = Watch(study, self._search)
        names = self._names_of_secrets()
        setting = Setting(
            self._search.folder.absolute(),
            os.getcwd(),
            tuple(self._search.objectives),
            config.timeout,
            {name: word for word, name in names.items()},
            forwarded(config.ray.environment) | threads(config.cpus_per_trial),
        )
        wanted = Wanted(self._search, os.getcwd(), forwarded(config.ray.environment), names)
        searcher = StudySearch(None, ray.put(wanted)) if self._elsewhere else StudySearch(wanted)
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
                    reuse_actors=True,
                    trial_dirname_creator=_name,
                ),
                run_config=tune.RunConfig(
                    name=own.name,
                    storage_path=str(own.parent),
                    stop=Interruption(searcher),
                    failure_config=tune.FailureConfig(max_failures=config.ray.max_failures),
                    callbacks=[Steps(searcher)],
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

    def _names_of_secrets(self) -> dict[str, str]:
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
                if self._elsewhere:  # it ends with this connection
                    return
                searcher.stop()
        if failures and not isinstance(failures[0], RunFailed):
            said = (str(failures[0]).strip().splitlines() or [type(failures[0]).__name__])[-1]
            raise RunFailed(f"Ray Tune has failed: {said}; the same command continues the study") from failures[0]
        if failures:
            raise failures[0]


@dataclass
class _Running:
    """A trial that Tune has.

    Attributes:
        ending: the state with which it is to end, and what is said of that.
        trial: as Tune has it.
        actor: that runs it, once there is one.
        notified: the actor that has been sent how it is to end.
    """

    claim: Claim
    ending: tuple[State, str] | None = None
    trial: Any = None
    actor: Any = None
    notified: Any = None


@dataclass(frozen=True)
class Wanted:
    """What is searched, for the process in which Tune runs.

    Attributes:
        directory: the working directory.
        variables: that this process gets from here.
        names: what stands for secret words of commands, by word.
    """

    search: Search
    directory: str
    variables: Mapping[str, str]
    names: Mapping[str, str]


class StudySearch(Searcher):  # type: ignore[misc]
    """Gives Tune the trials of the study, and the study what they come to.

    Tune writes itself to files, with what it can pickle; of this only the reference goes there, as what is searched
    holds the password of a storage, say.

    Args:
        wanted: what is searched, if Tune runs in this process.
        reference: to that in the memory of the cluster, where Tune runs otherwise.
    """

    def __init__(self, wanted: Wanted | None, reference: Any = None) -> None:
        super().__init__()
        self._wanted, self._reference = wanted, reference
        self._study: Study | None = None
        self._running: dict[str, _Running] = {}
        self._asked = self._beaten = -math.inf
        self._stopping = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_wanted": None, "_running": {}, "_study": None}

    @property
    def wanted(self) -> Wanted:
        """What is searched."""
        if self._wanted is None:
            self._wanted = ray.get(self._reference)
            os.chdir(self._wanted.directory)
            os.environ.update(self._wanted.variables)
        return self._wanted

    @property
    def study(self) -> Study:
        """The study, as this process has it."""
        if self._study is None:
            self._study = self.wanted.search.study()
        return self._study

    @property
    def config(self) -> SweepConfig:
        """The settings."""
        return self.wanted.search.request.config

    def stop(self) -> None:
        """Have all trials save their state and end."""
        self._stopping = True

    @property
    def stopped(self) -> bool:
        """Whether all that ran have ended, after `stop`."""
        return self._stopping and all(running.actor is None for running in self._running.values())

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
        self._running[trial_id] = _Running(claim)
        jobs, words = self.wanted.search.jobs(), self.wanted.search.words(claim)
        run_dir = jobs.run_dir(Job(claim.number, ())).absolute()
        self.study.note_folder(claim, run_dir)
        command = [self.wanted.names.get(word, word) for word in jobs.command(words, run_dir)]
        return {"number": claim.number, "command": command, "overrides": redact_words(words)}

    def report(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Tell the study what a trial has measured, and the trial what the study says to that."""
        running = self._running.get(trial_id)
        if running is None:
            return
        values = result.get("measured") or []
        for step, value in enumerate(values[running.claim.reported :], running.claim.reported + 1):
            self.study.report(running.claim, step, value)
        pruner = self.config.pruner
        if not result["done"] and values and pruner != "none" and self.study.should_prune(running.claim):
            running.ending = "pruned", pruned_at(pruner, running.claim)
        self._tell(running)

    def look(self, trials: Sequence[Any]) -> None:
        """In each of Tune's steps: signs of life, and trials that are to stop."""
        for trial in trials:
            if (running := self._running.get(trial.trial_id)) is not None:
                running.trial = trial
                running.actor = trial.temporary_state.ray_actor if trial.status == "RUNNING" else None
        if time.monotonic() - self._beaten >= self.config.heartbeat:
            self._beaten = time.monotonic()
            for running in self._running.values():
                if not self.study.beat(running.claim):
                    running.ending = "running", ""
        for running in self._running.values():
            if self._stopping:
                running.ending = running.ending or ("running", "")
            self._tell(running)

    def _tell(self, running: _Running) -> None:
        if running.ending is not None and running.actor is not None and running.notified != running.actor:
            running.notified = running.actor
            running.actor.end.remote(*running.ending)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study how a trial ended."""
        running = self._running.pop(trial_id, None)
        if running is None:
            return
        ended = (result or {}).get("ended")
        if error:
            self._lost(running)
        elif ended is not None:
            self._conclude(running.claim, ended.value)
        else:
            self.study.release(running.claim)

    def release_all(self) -> None:
        """Give trials back that have not begun."""
        for running in self._running.values():
            self.study.release(running.claim)
        self._running.clear()

    def _conclude(self, claim: Claim, ended: Ended) -> None:
        self.wanted.search.jobs().write(
            replace(ended.job, status=STATUS.get(ended.state, "stopped"), message=ended.message)
        )
        if ended.state == "running":
            self.study.release(claim)
        else:
            self.study.finish(claim, ended.state, ended.values, ended.message)

    def _lost(self, running: _Running) -> None:
        claim, times = running.claim, self.config.ray.max_failures + 1
        said = ""
        with suppress(OSError, AttributeError, TypeError):  # there is no file where nothing was said
            said = last_words(read_text(running.trial.error_file))
        message = f"its node failed{f' {times} times' if times > 1 else ''}{f': {said}' if said else ''}"
        for job in read_jobs(self.wanted.search.folder):
            if job.number == claim.number:
                self.wanted.search.jobs().write(replace(job, status="failed", message=message, pid=None))
        self.study.finish(claim, "failed", (), message)

    def save(self, checkpoint_path: str) -> None:
        """The study is stored already."""

    def restore(self, checkpoint_path: str) -> None:
        """The study is stored."""


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]
    """Tune's scheduler: trials in their order, of which the study's pruner ends some."""

    def __init__(self, searcher: StudySearch) -> None:
        super().__init__()
        self._searcher = searcher

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Report it; a trial that is to end does so by itself, so that its state is saved."""
        self._searcher.report(trial.trial_id, result)
        return str(TrialScheduler.CONTINUE)


class Interruption(tune.Stopper):  # type: ignore[misc]
    """Ends the search once all trials have saved their state after a signal."""

    def __init__(self, searcher: StudySearch) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """No single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether nothing runs any more."""
        return self._searcher.stopped


class Steps(tune.Callback):  # type: ignore[misc]
    """Lets the search act in each of Tune's steps."""

    def __init__(self, searcher: StudySearch) -> None:
        self._searcher = searcher

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        """Look at the trials."""
        self._searcher.look(trials)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        """Trials that had no room are for whoever continues."""
        self._searcher.release_all()


def last_words(trace: str, limit: int = 200) -> str:
    """The last line of what an actor raised, or of why it is gone."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    return lines[-1][:limit] if lines else ""


def _name(trial: Any) -> str:
    return str(trial.trial_id)
