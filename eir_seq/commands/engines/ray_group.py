"""One training on several nodes of a Ray cluster: the same command on each, with what tells them apart as variables."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from eir_seq.commands.engines import Task
from eir_seq.commands.engines.ray import Runner, is_ready, lost, options_of
from eir_seq.commands.engines.remote import Remote


class RayGroup(Task):
    """A command on several nodes; when one of these is lost, all start again, and continue from their checkpoint.

    Args:
        remotes: the command, for each node.
        resources: that it needs on each, by Ray's names.
        failures: how often nodes may be lost; -1: always.
    """

    def __init__(self, remotes: Sequence[Remote], resources: Mapping[str, float], failures: int) -> None:
        self._remotes, self._resources, self._failures = remotes, dict(resources), failures
        self._found: int | None = None
        self._reason = self._place = ""
        self._codes: list[Any] = []
        self._begin()

    @property
    def place(self) -> str:
        """The nodes."""
        return self._place

    @property
    def begun(self) -> bool:
        """Whether all nodes have been found."""
        return bool(self._codes)

    @property
    def reason(self) -> str:
        """Why it ended, if a node was lost."""
        return self._reason

    def poll(self) -> int | None:
        """Start the command once all nodes are there; its exit code when it has ended on all of them."""
        if self._found is not None:
            return self._found
        try:
            if not self._codes and all(map(is_ready, [*self._where, self._endpoint])):
                self._place = " and ".join(ray.get(self._where))
                self._codes = [actor.run.remote(self._variables(rank)) for rank, actor in enumerate(self._actors)]
            codes = [ray.get(code) for code in self._codes if is_ready(code)]
        except ray.exceptions.RayActorError as error:
            return self._again(error)
        except ray.exceptions.RayTaskError as error:
            self._reason = f"cannot run there: {error.cause}"
            return self._end(1)
        if codes and len(codes) == len(self._codes):
            return self._end(next((code for code in codes if code != 0), 0))
        return None

    def send_signal(self, number: int) -> None:
        """To the command on all nodes."""
        if self._found is not None:
            return
        if not self.begun or number == signal.SIGKILL:
            self._end(-number)
            return
        for actor in self._actors:
            actor.signal.remote(number)

    def _begin(self) -> None:
        self._group = placement_group([self._resources] * len(self._remotes), strategy="STRICT_SPREAD")
        runner = ray.remote(Runner)
        self._actors: list[Any] = [
            runner.options(
                **options_of(self._resources),
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, index),
            ).remote(remote)
            for index, remote in enumerate(self._remotes)
        ]
        self._where = [actor.where.remote() for actor in self._actors]
        self._endpoint = self._actors[0].endpoint.remote()

    def _variables(self, rank: int) -> dict[str, str]:
        address, port = ray.get(self._endpoint)
        return {"MASTER_ADDR": address, "MASTER_PORT": str(port), "NODE_RANK": str(rank)}

    def _again(self, error: Exception) -> int | None:
        self._let_go()
        if self._failures == 0:
            self._found, self._reason = -signal.SIGKILL, lost(error)
            return self._found
        self._failures -= 1
        self._begin()
        return None

    def _end(self, code: int) -> int:
        self._let_go()
        self._found = code
        return code

    def _let_go(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        remove_placement_group(self._group)
        self._codes = []
