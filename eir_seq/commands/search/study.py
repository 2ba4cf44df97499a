"""A study that several processes and machines share, on Optuna by ask and tell.

Each trial belongs to one worker, which renews its sign of life. A trial whose worker is gone is taken over: it keeps
its number and its values, and continues in its run folder.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eir_seq.commands.search.algorithms import build_pruner, build_sampler
from eir_seq.config.packages import is_installed, missing_package
from eir_seq.config.sweep_settings import Direction, SweepConfig
from eir_seq.config.sweep_space import Dimension
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.files import read_text
from eir_seq.randomness import derive_seed
from eir_seq.training.redaction import redact

State = Literal["complete", "pruned", "failed", "timeout", "running"]
SETTLE_SECONDS = 0.5
"""How long a worker that takes a trial over waits to see whether another one did so at the same time."""
JOURNAL = "study.journal"
"""The file of a study that is in no other storage."""
_OWNER, _OUTCOME, _MESSAGE, _FOLDER = "owner", "outcome", "message", "run_dir"
_SURPLUS, _SETTING = "surplus", "setting"
_MISSED = 3
_TRIES = 5


@dataclass(frozen=True)
class Trial:
    """One trial as the study has it.

    Attributes:
        params: its values as texts in Hydra's grammar, by key.
        values: of the objectives, if it is complete; of a pruned one the last value that it reported.
        run_dir: its run folder on the machine that ran it last.
    """

    number: int
    state: State
    values: tuple[float, ...]
    params: Mapping[str, str]
    message: str = ""
    run_dir: str = ""


@dataclass
class Claim:
    """A trial that this worker runs."""

    number: int
    chosen: Mapping[str, Any]
    reported: int
    handle: Any
    taken_over: bool
    beats: int = 0


class Study:
    """The study of a sweep.

    Args:
        config: the settings of the sweep.
        space: keys in an order in which conditions come first.
        folder: of the sweep, which holds the default journal.
        name: in the storage.
        directions: of the objectives.
        seed: of the sampler; what a trial is given depends on it and on the trials that ended before.
        total: how many trials there are in the end.
        fixed: by number, values that a trial is given whatever the sampler says.

    Raises:
        UserError: a package is missing, or the storage cannot be reached.
    """

    def __init__(
        self,
        config: SweepConfig,
        space: Sequence[Dimension],
        folder: Path,
        name: str,
        directions: Sequence[Direction],
        *,
        seed: int,
        total: int,
        fixed: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.config, self.space, self.name, self.directions = config, space, name, tuple(directions)
        self._seed, self._total, self._fixed = seed, total, fixed
        self._worker = uuid.uuid4().hex
        self._seen: dict[int, tuple[Any, float]] = {}
        self._alive: set[int] = set()
        self._storage = open_storage(config, folder)

    def exists(self) -> bool:
        """Whether the study has been created."""
        import optuna

        with _failures(self.config):
            return self.name in optuna.get_all_study_names(self._storage)

    def begin(self, setting: Mapping[str, Any]) -> bool:
        """Create the study, or join it; returns whether it was there.

        Raises:
            UserError: it is there, and not the same search.
        """
        import optuna

        with _failures(self.config):
            known = {
                study.study_name for study in optuna.get_all_study_summaries(self._storage, include_best_trial=False)
            }
            study = optuna.create_study(
                storage=self._storage, study_name=self.name, directions=list(self.directions), load_if_exists=True
            )
            before = study.user_attrs.get(_SETTING)
            if before is None:
                study.set_user_attr(_SETTING, dict(setting))
        if before is not None and before != setting:
            differing = sorted(key for key in {*before, *setting} if before.get(key) != setting.get(key))
            faults = [
                Fault(f"sweep.{key}" if key == "space" else key, f"was {before.get(key)} and is {setting.get(key)}")
                for key in differing
            ]
            last = "is the name of another search in this storage; name another sweep.study, or another sweep.dir"
            raise UserError(Fault("sweep.study", f"{self.name!r} {last}"), *faults)
        return self.name in known

    def trials(self) -> list[Trial]:
        """All trials by number."""
        return [self._as_trial(frozen) for frozen in self._all()]

    def claim(self) -> Claim | None:
        """A trial to run: one whose worker is gone, or the next one; None if there is none now."""
        with _failures(self.config):
            trials = self._all()
            for frozen in trials:
                if _is_running(frozen) and self._is_stale(frozen) and self._take_over(frozen):
                    return self._suggested(frozen.number, frozen._trial_id, taken_over=True)
            if len(trials) >= self._total:
                return None
            trial_id = self._storage.create_new_trial(self._study_id, self._template())
            number: int = self._storage.get_trial_number_from_id(trial_id)
            if self._rank(number) >= self._total:  # other workers were faster
                from optuna.trial import TrialState

                self._storage.set_trial_user_attr(trial_id, _SURPLUS, True)
                self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
                return None
            return self._suggested(number, trial_id, taken_over=False)

    @property
    def pending(self) -> bool:
        """Whether there may be more for this worker: a trial to come, or one whose worker may be gone."""
        with _failures(self.config):
            trials = self._all()
            return len(trials) < self._total or any(
                _is_running(frozen) and frozen.number not in self._alive and not self._lives(frozen)
                for frozen in trials
            )

    def report(self, claim: Claim, step: int, value: float) -> None:
        """Record the monitored value of the evaluation `step`, counted from 1."""
        with _failures(self.config):
            claim.handle.report(value, step)
        claim.reported = step

    def should_prune(self, claim: Claim) -> bool:
        """Whether the pruner would stop a trial that has reported something."""
        with _failures(self.config):
            return self.config.pruner != "none" and claim.reported > 0 and bool(claim.handle.should_prune())

    def beat(self, claim: Claim) -> bool:
        """Give a sign of life; returns whether the trial still belongs to this worker."""
        with _failures(self.config):
            if not self._owns(claim):
                return False
            claim.beats += 1
            self._storage.set_trial_user_attr(claim.handle._trial_id, _OWNER, self._owner(claim.beats))
            return True

    def finish(self, claim: Claim, state: State, values: Sequence[float] = (), message: str = "") -> bool:
        """Record how a trial ended, unless another worker has it now; returns whether it was recorded."""
        from optuna.trial import TrialState

        with _failures(self.config):
            if not self._owns(claim):
                return False
            trial_id = claim.handle._trial_id
            self._storage.set_trial_user_attr(trial_id, _OUTCOME, state)
            if message:
                self._storage.set_trial_user_attr(trial_id, _MESSAGE, str(redact(message)))
            told = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(state, TrialState.FAIL)
            study = claim.handle.study
            study.tell(claim.number, list(values) if state == "complete" else None, told, skip_if_finished=True)
            return True

    def note_folder(self, claim: Claim, run_dir: Path) -> None:
        """Record where a trial runs."""
        with _failures(self.config):
            self._storage.set_trial_user_attr(claim.handle._trial_id, _FOLDER, str(run_dir.absolute()))

    def release(self, claim: Claim) -> None:
        """Give a trial that was interrupted back, for whoever continues the study."""
        with _failures(self.config):
            if self._owns(claim):
                self._storage.set_trial_user_attr(claim.handle._trial_id, _OWNER, {})

    # ------------------------------------------------------------------------------------------------ internals

    @property
    def _study_id(self) -> int:
        found: int = self._storage.get_study_id_from_name(self.name)
        return found

    def _all(self) -> list[Any]:
        with _failures(self.config):
            trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        return sorted((frozen for frozen in trials if not frozen.user_attrs.get(_SURPLUS)), key=_number)

    def _rank(self, number: int) -> int:
        """The place of a trial among those that are not surplus."""
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        return number - sum(1 for other in trials if other.number < number and other.user_attrs.get(_SURPLUS))

    def _suggested(self, number: int, trial_id: int, *, taken_over: bool) -> Claim:
        """A trial with a value for each key of the space whose condition holds; values that it has stay."""
        import optuna

        rank = self._rank(number)
        if rank < len(self._fixed):
            self._storage.set_trial_system_attr(trial_id, "fixed_params", dict(self._fixed[rank]))
        study = optuna.Study(
            self.name,
            self._storage,
            sampler=build_sampler(self.config, derive_seed(self._seed, "sweep", number) % 2**32),
            pruner=build_pruner(self.config),
        )
        handle = optuna.Trial(study, trial_id)
        chosen: dict[str, Any] = {}
        for item in self.space:
            if not item.is_active(chosen):
                continue
            if item.kind == "choice":
                chosen[item.key] = handle.suggest_categorical(item.key, list(item.choices))
            elif item.kind == "integer":
                step = 1 if item.step is None else int(item.step)
                chosen[item.key] = handle.suggest_int(item.key, int(item.low), int(item.high), step=step, log=item.log)
            else:
                chosen[item.key] = handle.suggest_float(item.key, item.low, item.high, step=item.step, log=item.log)
        reported = max(self._storage.get_trial(trial_id).intermediate_values, default=0)
        return Claim(number, chosen, reported, handle, taken_over)

    def _template(self) -> Any:
        import optuna

        return optuna.create_trial(state=optuna.trial.TrialState.RUNNING, user_attrs={_OWNER: self._owner(0)})

    def _owner(self, beats: int) -> dict[str, Any]:
        pid = os.getpid()
        return {"worker": self._worker, "machine": machine(), "pid": pid, "started": started(pid), "beats": beats}

    def _owns(self, claim: Claim) -> bool:
        frozen = self._storage.get_trial(claim.handle._trial_id)
        return not frozen.state.is_finished() and frozen.user_attrs.get(_OWNER, {}).get("worker") == self._worker

    def _lives(self, frozen: Any) -> bool:
        """Whether the worker of a trial is this one, or a process of this machine that lives."""
        owner = frozen.user_attrs.get(_OWNER, {})
        if owner.get("worker") == self._worker:
            return True
        known: str | None = owner.get("started")
        return owner.get("machine") == machine() and known is not None and started(owner.get("pid")) == known

    def _is_stale(self, frozen: Any) -> bool:
        """Whether the worker of a trial is gone: known at once of this machine, by signs of life of others."""
        owner = frozen.user_attrs.get(_OWNER, {})
        if self._lives(frozen):
            return False
        if not owner or owner.get("machine") == machine():
            return True
        now = time.monotonic()
        before, since = self._seen.setdefault(frozen.number, (owner, now))
        if before != owner:
            self._alive.add(frozen.number)
            self._seen[frozen.number] = owner, now
        elif now - since > _MISSED * self.config.heartbeat:
            self._alive.discard(frozen.number)
            return True
        return False

    def _take_over(self, frozen: Any) -> bool:
        """Make a trial this worker's; the last of several that try at the same time gets it."""
        self._storage.set_trial_user_attr(frozen._trial_id, _OWNER, self._owner(0))
        time.sleep(SETTLE_SECONDS)
        now = self._storage.get_trial(frozen._trial_id)
        return _is_running(now) and bool(now.user_attrs[_OWNER].get("worker") == self._worker)

    def _as_trial(self, frozen: Any) -> Trial:
        states: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        state = states.get(frozen.state.name, "running")
        if state == "failed":
            state = frozen.user_attrs.get(_OUTCOME, "failed")
        params = {item.key: item.text(frozen.params[item.key]) for item in self.space if item.key in frozen.params}
        values = tuple(frozen.values or ())
        message, run_dir = (str(frozen.user_attrs.get(key, "")) for key in (_MESSAGE, _FOLDER))
        return Trial(frozen.number, state, values, params, message, run_dir)


def machine() -> str:
    """What distinguishes this machine, since it was started, and its container from others."""
    boot = ""
    with suppress(OSError):
        boot = read_text("/proc/sys/kernel/random/boot_id").strip()
    processes = ""
    with suppress(OSError):
        processes = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()} {boot} {processes}"


def started(pid: int | None) -> str | None:
    """When a process was started, which tells it from a later one of the same number; None if there is no such one."""
    try:
        state, *fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else fields[18]


def open_storage(config: SweepConfig, folder: Path) -> Any:
    """Optuna's storage for the URL of a study.

    Raises:
        UserError: a package is missing, no such kind of storage, or it cannot be reached.
    """
    if not is_installed("optuna"):
        raise UserError(Fault("sweep", missing_package("optuna", extra="search")))
    if config.sampler == "cmaes" and not is_installed("cmaes"):
        raise UserError(Fault("sweep.sampler", missing_package("cmaes", extra="search")))
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module=r"optuna\.")
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    url = config.storage or f"journal://{folder.absolute() / JOURNAL}"
    scheme, _, rest = url.partition("://")
    with _failures(config, UserError):
        if scheme == "journal":
            from eir_seq.commands.search.journal import Journal

            path = Path(rest.removeprefix("/") if rest.startswith("//") else rest).expanduser().absolute()
            path.parent.mkdir(parents=True, exist_ok=True)
            return optuna.storages.JournalStorage(Journal(path))
        if scheme == "sqlite" or scheme.partition("+")[0] == "postgresql":
            if scheme == "postgresql":  # SQLAlchemy's own choice of a driver differs between its versions
                driver = next(filter(is_installed, ("psycopg2", "psycopg")), None)
                if driver is None:
                    raise UserError(Fault("sweep.storage", missing_package("psycopg2", extra="postgres")))
                url = f"{scheme}+{driver}://{rest}"
            waiting = {"connect_args": {"timeout": 60}} if scheme == "sqlite" else {"pool_pre_ping": True}
            return _tried(lambda: optuna.storages.RDBStorage(url, engine_kwargs=waiting))
    message = f"{redact(url)!r} is not journal:///FILE, sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
    raise UserError(Fault("sweep.storage", message))


def _tried(make: Callable[[], Any]) -> Any:
    """Connect; again after a moment, as two workers may have made the tables at the same time."""
    for attempt in range(_TRIES):
        try:
            return make()
        except Exception:
            if attempt == _TRIES - 1:
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError


@contextmanager
def _failures(config: SweepConfig, kind: type[UserError] | type[RunFailed] = RunFailed) -> Iterator[None]:
    """A storage that cannot be reached, in one line."""
    try:
        yield
    except (UserError, RunFailed, AssertionError):
        raise
    except Exception as error:
        if not _is_of_storage(error):
            raise
        lines = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
        where = redact(config.storage) if config.storage else "the study's journal"
        message = f"{where} cannot be used: {lines[0] if lines else type(error).__name__}"
        if kind is UserError:
            raise UserError(Fault("sweep.storage", str(redact(message)))) from error
        raise RunFailed(f"sweep.storage: {redact(message)}; the same command continues the study") from error


def _is_of_storage(error: Exception) -> bool:
    import optuna

    if isinstance(error, OSError | optuna.exceptions.StorageInternalError | ImportError):
        return True
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return False
    return isinstance(error, SQLAlchemyError)


def _is_running(frozen: Any) -> bool:
    return bool(frozen.state.name == "RUNNING")


def _number(frozen: Any) -> int:
    number: int = frozen.number
    return number
