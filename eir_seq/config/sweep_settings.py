"""The settings of a search: ``conf/sweep/NAME.yaml`` and ``sweep.KEY=VALUE``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from eir_seq.config.engines import EngineName, Gpus, RayConfig, SlurmConfig
from eir_seq.config.strict import Positive, Several, Strict

Direction = Literal["minimize", "maximize"]
Sampler = Literal["random", "grid", "tpe", "cmaes", "gp"]
Pruner = Literal["none", "median", "hyperband", "asha"]


class ConditionalConfig(Strict):
    """Values of a key that is set only where other keys of the space have certain values."""

    values: str = Field(description="choice(...), interval(...), range(...) or tag(log, ...)")
    when: dict[str, Any] = Field(
        min_length=1, description="keys of the space, each with the value, or a list of values, that it must have"
    )


Starts = Annotated[
    list[str | dict[str, Any]],
    BeforeValidator(lambda value: [value] if isinstance(value, str | Mapping) else value),
]


class SweepConfig(Strict):
    """A search over values of config keys."""

    space: dict[str, str | ConditionalConfig] = Field(
        default_factory=dict,
        description="by config key or group: choice(A, B), interval(LOW, HIGH), int(interval(LOW, HIGH)), "
        "range(FIRST, LAST, STEP), each also as tag(log, ...)",
    )
    direction: Direction | None = Field(None, description="of trainer.monitor; absent: as the metric says")
    metrics: list[str] = Field(
        default_factory=list,
        description="objectives in place of trainer.monitor: OUTPUT.METRIC, loss or average; several: a Pareto front",
    )
    directions: list[Direction] = Field(
        default_factory=list, description="of each of the metrics; absent: as they say themselves"
    )
    trials: Positive | None = Field(
        None, description="trials of the whole study; absent: 20, or the whole grid with sampler=grid"
    )
    sampler: Sampler = Field(
        "tpe",
        description="how values are chosen: tpe (tree of Parzen estimators), gp (Gaussian process), cmaes (CMA-ES), "
        "random, grid",
    )
    startup_trials: Positive = Field(10, description="random trials before tpe, gp or cmaes use what they have seen")
    pruner: Pruner = Field(
        "none",
        description="which trials stop early, by the monitored value of each evaluation: median (worse than the "
        "median), asha (successive halving), hyperband, none",
    )
    pruner_startup: int = Field(5, ge=0, description="trials that must have ended before median stops one")
    pruner_warmup: Positive = Field(1, description="evaluations of a trial before it may be stopped")
    reduction_factor: Several = Field(3, description="one of so many trials stays at each rung of asha and hyperband")
    n_jobs: Positive | None = Field(
        None, description="trials that this command runs at once; absent: 1, or as many as a Ray cluster has room for"
    )
    timeout: float | None = Field(None, gt=0, description="seconds after which a trial is stopped; no limit if absent")
    dir: str | None = Field(None, description="folder of the sweep; by default sweeps/EXPERIMENT/NAME")
    storage: str | None = Field(
        None,
        description="where the study is: journal:///FILE, sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE; "
        "by default the journal DIR/study.journal",
    )
    study: str | None = Field(None, min_length=1, description="its name in the storage; by default EXPERIMENT/NAME")
    start: Starts = Field(
        default_factory=list,
        description="settings to try first: a run folder, the folder of a sweep (its five best), overrides, or a "
        "mapping of keys of the space to values",
    )
    engine: EngineName = Field(
        "local", description="what runs the trials: local (processes of this machine), ray, slurm (an array of workers)"
    )
    gpus_per_trial: Gpus = Field(
        None,
        description="GPUs of each trial, of which it sees no others: 0, a fraction such as 0.5, 1, 2 ...; absent: none "
        "on ray, the cluster's default on slurm, and local trials see all",
    )
    cpus_per_trial: Positive | None = Field(
        None,
        description="CPUs of each trial, and its threads (unless trainer.threads says otherwise); absent: 1 on ray, "
        "the cluster's default on slurm, and local trials divide the machine",
    )
    ray: RayConfig = Field(default_factory=RayConfig, description="the cluster of engine=ray")
    slurm: SlurmConfig = Field(default_factory=SlurmConfig, description="the jobs of engine=slurm")
    heartbeat: float = Field(
        30.0,
        gt=0,
        description="seconds between signs of life of running trials; one of another machine that gives none three "
        "times is continued here",
    )
