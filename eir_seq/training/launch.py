"""Starts the processes of one training and joins them: own ones, or those that torchrun or SLURM have started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist

from eir_seq import plugins
from eir_seq.config.schema import ExperimentConfig, TrainerConfig
from eir_seq.errors import EXIT_RUN_FAILED, Fault, RunFailed, UserError
from eir_seq.machine import failure_of
from eir_seq.training.lightning import ClusterEnvironment, SLURMEnvironment
from eir_seq.training.ranks import Ranks
from eir_seq.training.signals import Stopped

LOCAL = "127.0.0.1"
SLURM_PORT = 15_000
"""To which the last digits of the job's number are added, so that jobs on one machine have ports of their own."""
GRACE = 20.0
"""Seconds in which a process that failed ends, and in which the others end after it."""
MOMENT = 3.0
"""The same for a process that waits for one that never joined; nothing comes of waiting longer."""


@dataclass(frozen=True)
class Place:
    """Where this process is among those of a training.

    Attributes:
        rank: from 0, over all machines.
        world_size: processes on all machines.
        local_rank: from 0, on this machine.
        local_world_size: processes on this machine.
        address: of the machine of rank 0.
        port: at which its rank 0 listens.
        starts: whether it starts the other processes of this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    address: str = LOCAL
    port: int = 0
    starts: bool = False

    def environment(self, local_rank: int) -> dict[str, str]:
        """The variables by which torchrun, too, says to a process which one it is."""
        values = {
            "RANK": self.rank + local_rank,
            "WORLD_SIZE": self.world_size,
            "LOCAL_RANK": local_rank,
            "LOCAL_WORLD_SIZE": self.local_world_size,
            "MASTER_ADDR": self.address,
            "MASTER_PORT": self.port,
        }
        return {name: str(value) for name, value in values.items()}


def place_of(trainer: TrainerConfig, devices: int, variables: Mapping[str, str] = os.environ) -> Place:
    """Where this process is, by what torchrun, SLURM's srun, or a process group that is there already say.

    Without any of these it is the first process of its machine and starts the others; on several machines
    ``MASTER_ADDR``, ``MASTER_PORT`` and ``NODE_RANK`` say which machine this is.

    Args:
        trainer: its `num_nodes` is the number of machines.
        devices: processes for each.
        variables: the environment.

    Raises:
        UserError: another number of processes was started than the config says, or the machine's number is missing.
    """
    nodes = trainer.num_nodes
    found = _started(variables)
    if found is None:
        if nodes == 1:
            return Place(world_size=devices, local_world_size=devices, port=_free_port(devices), starts=devices > 1)
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if not variables.get(name)]
        if missing:
            how = "start it on each of them by torchrun or srun, or set MASTER_ADDR, MASTER_PORT and NODE_RANK there"
            raise UserError(Fault("trainer.num_nodes", f"{nodes} machines, but {' and '.join(missing)} not set; {how}"))
        node, port = _number(variables, "NODE_RANK"), _number(variables, "MASTER_PORT")
        if node >= nodes:
            raise UserError(Fault("trainer.num_nodes", f"{nodes}, but NODE_RANK is {node}; it counts from 0"))
        return Place(node * devices, nodes * devices, 0, devices, variables["MASTER_ADDR"], port, devices > 1)
    if found.world_size != nodes * devices:
        several = f" on each of {nodes} machines" if nodes > 1 else ""
        message = f"{devices}{several}, but {found.world_size} processes were started; the numbers have to agree"
        raise UserError(Fault("trainer.devices", message))
    return found


def launched_rank(variables: Mapping[str, str] = os.environ) -> int | None:
    """The rank of this process if others were started with it; else None."""
    found = _started(variables)
    return None if found is None else found.rank


def _started(variables: Mapping[str, str]) -> Place | None:
    """The place of a process that was started as one of several; None if it was not."""
    if dist.is_available() and dist.is_initialized():
        local = int(variables.get("LOCAL_RANK", 0))
        size = int(variables.get("LOCAL_WORLD_SIZE", 1))
        return Place(dist.get_rank(), dist.get_world_size(), local, size)
    if (size := _number(variables, "WORLD_SIZE", 1)) > 1 and variables.get("RANK"):
        rank, local = _number(variables, "RANK"), _number(variables, "LOCAL_RANK")
        port = _number(variables, "MASTER_PORT")
        local_size = _number(variables, "LOCAL_WORLD_SIZE", size)
        return Place(rank, size, local, local_size, variables.get("MASTER_ADDR", LOCAL), port)
    if (size := _number(variables, "SLURM_STEP_NUM_TASKS", 1)) > 1 and variables.get("SLURM_PROCID"):
        rank, local = _number(variables, "SLURM_PROCID"), _number(variables, "SLURM_LOCALID")
        nodes = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_NODELIST") or LOCAL
        address = variables.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes)
        port = _number(variables, "MASTER_PORT", SLURM_PORT + _number(variables, "SLURM_JOB_ID", 0) % 1000)
        return Place(rank, size, local, size // _number(variables, "SLURM_STEP_NUM_NODES", 1), address, port)
    return None


def _number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    value = variables.get(name) or ("" if default is None else str(default))
    if not value.isdecimal():
        raise UserError(Fault(name, f"{value!r} is not a number", "environment"))
    return int(value)


def _free_port(devices: int) -> int:
    if devices == 1:
        return 0
    with socket.socket() as found:
        found.bind((LOCAL, 0))
        port: int = found.getsockname()[1]
        return port


class Launch:
    """Starts the other processes of a training where that is this one's part, and ends them with it.

    Args:
        config: the experiment.
        place: where this process is.
        device: what it computes on.
    """

    def __init__(self, config: ExperimentConfig, place: Place, device: torch.device) -> None:
        self.config, self.place, self.device = config, place, device
        self.ranks = Ranks(place.rank, place.world_size, place.local_rank, place.local_world_size)
        self._processes: list[_Process] = []
        self._joined = False
        self._done = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._joined and not self.place.starts and self.ranks.several:
            self.join().broadcast(None)  # there was nothing to do, for the others neither
        self._done.set()
        self.ranks.close()
        for process in self._processes:
            process.end(GRACE if kind is None else 1.0)

    def start(self) -> None:
        """Start the other processes of this machine, which then wait at `join`."""
        if not self.place.starts:
            return
        threads = max(1, torch.get_num_threads() // self.place.local_world_size)
        if self.config.trainer.threads is None and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(threads)
        content = {"config": json.loads(self.config.model_dump_json()), "plugins": plugins.loaded()}
        for local_rank in range(1, self.place.local_world_size):
            own = self.place.environment(local_rank)
            environment = {"OMP_NUM_THREADS": str(threads), "TORCH_CPP_LOG_LEVEL": "ERROR", **os.environ, **own}
            self._processes.append(_Process(self.place.rank + local_rank, content, environment))
        threading.Thread(target=self._watch, daemon=True).start()

    def join(self) -> Ranks:
        """Join the process group; waits for the others.

        Raises:
            RunFailed: one of them has ended.
        """
        with self.failures():
            self.ranks.open(self.device, self.place.address, self.place.port)
        self._joined = True
        return self.ranks

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Within, an error of an exchange becomes what ended another process, if that was the cause."""
        try:
            yield
        except Exception as error:
            if not self.ranks.several or isinstance(error, UserError | RunFailed):
                raise
            lost = isinstance(error, dist.DistError) or "onnection" in str(error) or "gloo" in str(error)
            if lost and (failure := self._failure()) is not None:
                raise failure from None if isinstance(failure, Stopped) else error
            if lost and failure_of(error) is None:
                raise RunFailed("another process of this training has ended; the same command continues it") from error
            raise

    def _failure(self) -> RunFailed | Stopped | None:
        """That of a process that has ended; waits a moment for it."""
        end = time.monotonic() + GRACE
        while self._processes and time.monotonic() < end:
            for process in self._processes:
                if (failure := process.failure()) is not None:
                    return failure
            time.sleep(0.05)
        return None

    def _watch(self) -> None:
        """End this process if another one has ended and this one does not notice: at `join`, or in a kernel of NCCL."""
        while not self._done.wait(1.0):
            failure = next((found for process in self._processes if (found := process.failure()) is not None), None)
            if failure is not None:
                if not self._done.wait(2 * GRACE if self._joined else MOMENT):
                    if isinstance(failure, Stopped):
                        os._exit(128 + failure.signum)
                    print(failure, file=sys.stderr, flush=True)
                    os._exit(EXIT_RUN_FAILED)
                return


class _Process:
    """A process of another rank. It ends when its standard input does: with this one, however that ends."""

    def __init__(self, rank: int, content: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self.rank = rank
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "eir_seq.training.worker"],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, of which `failure` tells
            self._process.stdin.write(json.dumps(content).encode() + b"\n")
            self._process.stdin.flush()

    def failure(self) -> RunFailed | Stopped | None:
        """Why it has ended; None if it has not, or as it should."""
        code = self._process.poll()
        if not code:
            return None
        number = -code if code < 0 else code - 128
        if number in (signal.SIGTERM, signal.SIGINT):  # it stopped alone, before or after the steps
            return Stopped(number)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if code == 3 and lines:
            return RunFailed(lines[-1])
        why = f"by signal {-code}" if code < 0 else f"with code {code}"
        said = f" ({lines[-1][:300]})" if lines else ""
        return RunFailed(f"the process of rank {self.rank} ended {why}{said}; the same command continues the run")

    def end(self, seconds: float) -> None:
        """Wait for its end, and end it after some seconds."""
        assert self._process.stdin is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                self._process.stdin.close()
            try:
                self._process.wait(1.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with suppress(OSError):
            self._process.stdin.close()
        self._errors.close()


class RankEnvironment(ClusterEnvironment):
    """Tells Lightning's trainer which process this is; all of them run already."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    creates_processes_externally = True
    main_address = LOCAL
    main_port = 0

    @staticmethod
    def detect() -> bool:
        """It is never chosen by itself."""
        return False

    def world_size(self) -> int:
        """All processes."""
        return self.ranks.world_size

    def set_world_size(self, size: int) -> None:
        """It is known."""
        assert size == self.ranks.world_size, (size, self.ranks.world_size)

    def global_rank(self) -> int:
        """This process, over all machines."""
        return self.ranks.rank

    def set_global_rank(self, rank: int) -> None:
        """It is known."""

    def local_rank(self) -> int:
        """This process on its machine."""
        return self.ranks.local_rank

    def node_rank(self) -> int:
        """The machine."""
        return self.ranks.rank // self.ranks.local_world_size
