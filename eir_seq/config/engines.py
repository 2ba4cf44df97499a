"""What runs the jobs of ``-m`` (``hydra/launcher=processes|ray|slurm``) and the trials of a search (`sweep.engine`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from eir_seq.config.strict import Positive, Strict

EngineName = Literal["local", "ray", "slurm"]


def _of_gpus(value: float | None) -> float | None:
    if value is not None and value > 1 and value != int(value):
        raise ValueError("is neither a fraction of a GPU nor a number of GPUs")
    return value


Gpus = Annotated[float | None, Field(ge=0), AfterValidator(_of_gpus)]


class RayConfig(Strict):
    """A Ray cluster, and what it does about lost nodes."""

    address: str | None = Field(
        None,
        min_length=1,
        description="ray://HOST:10001 (from outside the cluster), HOST:6379 or auto (from one of its nodes), local (a "
        "cluster of this machine alone); absent: that of RAY_ADDRESS, or local",
    )
    max_failures: int = Field(
        3,
        ge=-1,
        description="how often a job starts again when its node is lost; it resumes from its run folder. -1: always",
    )
    resources: dict[str, float] = Field(
        default_factory=dict,
        description="what else of a node each job needs, such as {a100: 1}, as `ray start` named it",
    )
    environment: list[str] = Field(
        default_factory=list,
        description="names of variables that jobs get from here; EIR_SEQ_*, PYTHONPATH and what the node has they get "
        "in any case",
    )
    autoscaling: bool = Field(
        False, description="nodes may be added: wait for one that has what a job needs, instead of refusing to start"
    )


class SlurmConfig(Strict):
    """Jobs of SLURM, by submitit."""

    cluster: Literal["slurm", "local"] = Field(
        "slurm", description="slurm, or processes of this machine by submitit's local executor, to try it out"
    )
    timeout_min: Positive = Field(
        240, description="minutes after which SLURM ends a job; before, it saves its state and is queued again"
    )
    grace_s: Positive = Field(120, description="seconds before that at which a job saves its state")
    max_timeouts: int = Field(20, ge=0, description="how often a job may reach its time limit before it fails")
    partition: str | None = Field(None, min_length=1, description="partition; the cluster's default if absent")
    account: str | None = Field(None, min_length=1, description="account that is charged")
    qos: str | None = Field(None, min_length=1, description="quality of service")
    constraint: str | None = Field(None, min_length=1, description="features of nodes, such as a100")
    mem_gb: float | None = Field(None, gt=0, description="memory of each job in GB; the cluster's default if absent")
    setup: list[str] = Field(
        default_factory=list, description="commands of the shell before a job, such as [module load cuda]"
    )
    extra: dict[str, str | int | bool] = Field(
        default_factory=dict, description="further options of sbatch, such as {reservation: maintenance}"
    )

    @model_validator(mode="after")
    def _grace_fits(self) -> SlurmConfig:
        if self.grace_s >= 60 * self.timeout_min:
            raise ValueError(f"grace_s ({self.grace_s} s) leaves nothing of timeout_min ({self.timeout_min} minutes)")
        return self


_N_JOBS = "jobs at once"
_GPUS = "GPUs of each job, of which it sees no others: 0, a fraction such as 0.5, 1, 2 ...; absent: "
_CPUS = "CPUs of each job, and its threads (unless trainer.threads says otherwise); absent: "


class ProcessLauncher(Strict):
    """``hydra/launcher=processes``: each job in a process of this machine."""

    n_jobs: Positive = Field(1, description=_N_JOBS)
    gpus_per_job: Gpus = Field(None, description=f"{_GPUS}all see all")
    cpus_per_job: Positive | None = Field(None, description=f"{_CPUS}all of the machine, divided by n_jobs")


class RayLauncher(RayConfig):
    """``hydra/launcher=ray``: each job on a node of a Ray cluster, or on several."""

    n_jobs: Positive | None = Field(None, description=f"{_N_JOBS}; absent: as many as the cluster has room for")
    gpus_per_job: Gpus = Field(None, description=f"{_GPUS}none")
    cpus_per_job: Positive | None = Field(None, description=f"{_CPUS}1")
    nodes_per_job: Positive = Field(
        1, description="nodes that each training is shared by, each with these GPUs and CPUs; sets trainer.num_nodes"
    )


class SlurmLauncher(SlurmConfig):
    """``hydra/launcher=slurm``: the jobs as one array of SLURM."""

    n_jobs: Positive | None = Field(None, description=f"{_N_JOBS}; absent: as many as SLURM allows")
    gpus_per_job: Annotated[int | None, Field(ge=0)] = Field(None, description=f"{_GPUS}the cluster's default")
    cpus_per_job: Positive | None = Field(None, description=f"{_CPUS}the cluster's default")


LAUNCHERS: dict[str, type[Strict]] = {
    "processes": ProcessLauncher,
    "ray": RayLauncher,
    "slurm": SlurmLauncher,
}
"""The options of each ``hydra/launcher=NAME``."""


def launcher_node(name: str) -> dict[str, Any]:
    """The node of Hydra's group ``hydra/launcher`` for a name: what it makes of it, and all options.

    Empty mappings are absent, as Hydra adds no keys to one.
    """
    options = {key: None if value == {} else value for key, value in LAUNCHERS[name]().model_dump().items()}
    return {"_target_": f"hydra_plugins.eir_seq_launcher.{LAUNCHERS[name].__name__}", **options}
