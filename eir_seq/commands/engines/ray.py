"""Ray: commands as actors of a cluster, which start again on another node when theirs is lost."""

from __future__ import annotations

import os
import signal
import socket
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eir_seq.commands.engines import Engine, Launch, Task
from eir_seq.commands.engines.remote import Remote, forwarded, is_visible
from eir_seq.config.engines import RayConfig
from eir_seq.config.packages import is_installed, missing_package
from eir_seq.errors import Fault, UserError

_CONNECT_SECONDS, _LOOK_SECONDS = 10.0, 60.0
_LOST = -signal.SIGKILL
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Variables of Ray that are set where the user has not: nothing is sent home, and Tune writes no logs of its own."""


class RayCluster(Engine):
    """The engine of a Ray cluster.

    Args:
        folder: of the sweep, which all nodes must see.
        at_once: how many commands; None: as many as there is room for.
        gpus: of each.
        cpus: of each.
        place: the beginning of config keys, for faults.
        nodes: that each command is started on, with what distinguishes them as variables.

    Raises:
        UserError: Ray is missing, the cluster cannot be reached, has not what a command needs, or not the folder.
    """

    def __init__(
        self,
        config: RayConfig,
        folder: Path,
        at_once: int | None = None,
        gpus: float | None = None,
        cpus: int | None = None,
        *,
        place: str = "hydra.launcher.",
        unit: str = "job",
        nodes: int = 1,
    ) -> None:
        self.at_once = at_once
        self._config, self._cpus, self._nodes = config, cpus, nodes
        self.resources = resources_of(config, gpus, cpus)
        connect(config, f"{section_of(place)}address")
        try:
            check_nodes(config, self.resources, place, unit, nodes)
            check_folder(folder, "hydra.sweep.dir" if place.startswith("hydra") else f"{place}dir")
        except BaseException:
            self.close()
            raise

    def start(self, launches: Sequence[Launch]) -> list[Task]:
        """Give each to an actor, which waits for room on a node."""
        import ray

        variables = forwarded(self._config.environment) | threads(self._cpus)
        if self._nodes > 1:
            from eir_seq.commands.engines.ray_group import RayGroup

            most = self._config.max_failures
            return [RayGroup(remotes(launch, variables, self._nodes), self.resources, most) for launch in launches]
        actor = ray.remote(Runner).options(
            **options_of(self.resources),
            max_restarts=self._config.max_failures,
            max_task_retries=self._config.max_failures,
        )
        return [_RayTask(actor.remote(Remote(launch, variables))) for launch in launches]

    def close(self) -> None:
        """Disconnect; a cluster of this machine alone ends."""
        import ray

        ray.shutdown()


class Runner:
    """The actor that runs a command on a node."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def where(self) -> str:
        """The name of its node; answered once it runs."""
        return node()

    def endpoint(self) -> tuple[str, int]:
        """The address of its node, and a port that is free there."""
        import ray

        with socket.socket() as found:
            found.bind(("", 0))
            return ray.util.get_node_ip_address(), int(found.getsockname()[1])

    def run(self, variables: Mapping[str, str] | None = None) -> int:
        """Run the command, with further variables; returns its exit code."""
        self._remote.add(variables or {})
        return self._remote.run()

    def signal(self, number: int) -> None:
        """Pass a signal on to the command."""
        self._remote.send_signal(number)


class _RayTask(Task):
    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._where, self._code = actor.where.remote(), actor.run.remote()
        self._found: int | None = None
        self._reason = ""

    @property
    def place(self) -> str:
        import ray

        with suppress(ray.exceptions.RayError):
            return str(ray.get(self._where)) if self.begun else ""
        return ""

    @property
    def begun(self) -> bool:
        return is_ready(self._where)

    @property
    def reason(self) -> str:
        return self._reason

    def poll(self) -> int | None:
        import ray

        if self._found is None and is_ready(self._code):
            try:
                self._found = int(ray.get(self._code))
            except ray.exceptions.RayActorError as error:
                self._found, self._reason = _LOST, lost(error)
            except ray.exceptions.RayTaskError as error:
                self._found, self._reason = 1, f"cannot run there: {error.cause}"
            ray.kill(self._actor)  # otherwise it would hold its place
        return self._found

    def send_signal(self, number: int) -> None:
        import ray

        if self._found is not None:
            return
        if self.begun and number != signal.SIGKILL:
            self._actor.signal.remote(number)
            return
        self._found, self._reason = -number, "" if self.begun else "it had not begun"
        ray.kill(self._actor)


def require_ray(place: str) -> None:
    """Get ready to import Ray, which reads its variables then.

    Raises:
        UserError: it is not installed.
    """
    if not is_installed("ray"):
        raise UserError(Fault(place, missing_package("ray", extra="ray")))
    if "ray" in sys.modules:
        return
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def connect(config: RayConfig, place: str) -> None:
    """Connect to the cluster, or start one of this machine alone.

    Raises:
        UserError: Ray is missing, or there is no such cluster.
    """
    require_ray(place)
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    _check_reachable(address, place)
    import ray

    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
    if address == "local":
        quiet["include_dashboard"] = False
    try:
        ray.init(address=address, namespace=f"eir_seq-{uuid.uuid4().hex}", **quiet)
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError, and those of grpc
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        token = address.startswith("ray://") and "RAY_AUTH_MODE" not in os.environ
        hint = "; if the cluster has a token, set RAY_AUTH_MODE=token" if token else ""
        raise UserError(Fault(place, f"{address} is no Ray cluster that can be used: {said}{hint}")) from error


def _check_reachable(address: str, place: str) -> None:
    """Ray itself tries for minutes."""
    if address in ("local", "auto"):
        return
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or (port is None and "://" not in address) or parts.scheme not in ("", "ray"):
        raise UserError(Fault(place, f"{address!r} is not ray://HOST:PORT, HOST:PORT, auto or local"))
    try:
        socket.create_connection((host, port or 10001), _CONNECT_SECONDS).close()
    except OSError as error:
        message = f"{address} cannot be reached: {error.strerror or error}"
        raise UserError(Fault(place, message)) from error


def section_of(place: str) -> str:
    """Where the settings of Ray are: `-m` has no others there."""
    return place if place.startswith("hydra") else f"{place}ray."


def resources_of(config: RayConfig, gpus: float | None, cpus: int | None) -> dict[str, float]:
    """What Ray reserves for a command, by Ray's names."""
    found: dict[str, float] = {"CPU": cpus or 1, **config.resources}
    return {**found, "GPU": gpus} if gpus else found


def options_of(resources: Mapping[str, float]) -> dict[str, Any]:
    """The options of an actor that has these resources, and takes a signal while a command runs."""
    other = dict(resources)
    return {"num_cpus": other.pop("CPU"), "num_gpus": other.pop("GPU", 0), "resources": other, "max_concurrency": 2}


def remotes(launch: Launch, variables: Mapping[str, str], nodes: int) -> list[Remote]:
    """A command for each of several nodes; what those beside the first print goes to logs of their own."""
    logs = [launch.log, *(launch.log.with_suffix(f".node-{number}.log") for number in range(1, nodes))]
    return [Remote(replace(launch, log=log), variables) for log in logs]


def threads(cpus: int | None) -> dict[str, str]:
    """The variable that holds how many threads a command has."""
    return {"OMP_NUM_THREADS": str(cpus or 1)}


def check_nodes(config: RayConfig, resources: Mapping[str, float], place: str, unit: str, count: int = 1) -> None:
    """Whether a node, or several, have what a command needs.

    Raises:
        UserError: they have not.
    """
    import ray

    if config.autoscaling:
        return
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fit = sum(all(node.get(name, 0) >= needed for name, needed in resources.items()) for node in nodes)
    if fit >= count:
        return
    if fit:
        raise UserError(Fault(f"{place}nodes_per_{unit}", f"{count}, and {fit} nodes have what each needs"))
    keys = {"CPU": f"{place}cpus_per_{unit}", "GPU": f"{place}gpus_per_{unit}"}
    section = section_of(place)
    faults = []
    for name, needed in resources.items():
        most = max((node.get(name, 0) for node in nodes), default=0)
        if most < needed:
            message = f"{needed:g} {name}, and no node has more than {most:g}; with autoscaling=true it waits for one"
            faults.append(Fault(keys.get(name, f"{section}resources.{name}"), message))
    together = " and ".join(f"{needed:g} {name}" for name, needed in resources.items())
    raise UserError(*(faults or [Fault(f"{section}address", f"no node has {together} at once")]))


def check_folder(folder: Path, place: str) -> None:
    """Whether every node sees a folder of this machine, and has this package.

    Raises:
        UserError: some do not.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    look = ray.remote(num_cpus=0, max_retries=0)(is_visible)
    with _mark(folder) as mark:
        asked = {
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(number, soft=False)).remote(mark): name
            for number, name in nodes.items()
        }
        answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_LOOK_SECONDS)
        faults = [Fault(place, f"the node {asked[item]} does not answer") for item in silent]
        for item in answered:
            try:
                if not ray.get(item):
                    message = f"the node {asked[item]} does not see {folder.absolute()}; name a shared folder"
                    faults.append(Fault(place, message))
            except ray.exceptions.RayError as error:
                said = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
                faults.append(Fault(place, f"the node {asked[item]} cannot run eir_seq: {said}"))
    if faults:
        raise UserError(*faults)


@contextmanager
def _mark(folder: Path) -> Iterator[Path]:
    mark = folder.absolute() / f".visible-{uuid.uuid4().hex}"
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def lost(error: BaseException | None) -> str:
    """What to say of a command whose node was lost too often."""
    said = " ".join(str(error).split())
    return f"its node was lost{f': {said}' if said else ''}"[:200]


def node() -> str:
    """The name of this node."""
    import ray

    context = ray.get_runtime_context()
    gpus = ", ".join(context.get_accelerator_ids().get("GPU", []))
    return f"node {socket.gethostname()}{f', GPU {gpus}' if gpus else ''}"


def is_ready(reference: Any) -> bool:
    """Whether an actor has answered, or is gone."""
    import ray

    return bool(ray.wait([reference], timeout=0)[0])
