"""An experiment in a user's own ``lightning.Trainer``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from eir_seq.config.compose import compose_experiment
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError
from eir_seq.training.assemble import assemble, resolved
from eir_seq.training.console import Console
from eir_seq.training.groups import Groups
from eir_seq.training.module import TrainingModule
from eir_seq.training.trainer_data import TrainerData


@dataclass(frozen=True)
class Experiment:
    """What a ``lightning.Trainer`` is given: ``trainer.fit(experiment.module, experiment.data)``."""

    config: ExperimentConfig
    module: TrainingModule
    data: TrainerData


def load_experiment(experiment: Sequence[str] | ExperimentConfig) -> Experiment:
    """Read the rows, fit inputs and outputs, encode, and build the network of an experiment.

    The trainer decides how long and where to train, and in which precision; `trainer.gradient_clip` holds unless it has
    a ``gradient_clip_val``. Its ``accumulate_grad_batches`` makes the step that one batch of all rows would make. Give
    it ``devices=1``. Its own checkpoints hold the position in the training batches, so that training continues from the
    middle of an epoch with the batches that come next.

    Args:
        experiment: the words of a command line (``experiment=NAME``, ``GROUP=OPTION``, ``KEY=VALUE``), or a config.

    Raises:
        UserError: data or config are invalid.

    Example:
        >>> import lightning
        >>> from eir_seq.training.experiment import load_experiment
        >>> words = ["experiment=imdb_longformer", "data.limit=64"]
        >>> experiment = load_experiment(words)  # doctest: +SKIP
        >>> lightning.Trainer(max_epochs=1).fit(experiment.module, experiment.data)  # doctest: +SKIP
    """
    config = experiment if isinstance(experiment, ExperimentConfig) else compose_experiment(experiment).config
    if faults := list(_of_runs_alone(config)):
        raise UserError(*faults)
    with Console() as console:
        config = resolved(config, console)
        parts = assemble(config, console)
    network, outputs = parts.network, parts.outputs
    data = TrainerData(parts.data, partial(Groups, network=network, outputs=outputs))
    steps = data.batches_per_epoch
    module = TrainingModule(network, outputs, config, batches_per_epoch=steps, total_steps=steps, in_run=False)
    return Experiment(config, module, data)


def _of_runs_alone(config: ExperimentConfig) -> Iterator[Fault]:
    """Options that would change what is learned and that your own trainer does not have."""
    reason = "needs a run; a lightning.Trainer of your own does not have it"
    if config.trainer.averaging is not None:
        yield Fault("trainer.averaging", f"{reason} (lightning.pytorch.callbacks.WeightAveraging is similar)")
    if config.scheduler.FOLLOWS_MONITOR:
        yield Fault("scheduler.type", f"{config.scheduler.type!r} {reason}")
    if config.trainer.compile:
        yield Fault("trainer.compile", f"{reason}; call experiment.module.network.compile()")
