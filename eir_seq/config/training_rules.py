"""What the options of training demand of each other."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.config.schema import TrainerConfig
from eir_seq.config.sections import Sections
from eir_seq.config.strict import ignored
from eir_seq.config.training import GradNormConfig, SwaConfig
from eir_seq.errors import Fault


def training_faults(sections: Sections) -> Iterator[Fault]:
    """Averages that never begin, weights of losses without effect, and options that exclude each other."""
    if sections.trainer is None:
        return
    yield from _averaging(sections.trainer, sections)
    yield from _early_stopping(sections.trainer)
    yield from _weighting(sections.trainer, sections)
    yield from _processes(sections.trainer, sections)
    yield from _sharding(sections.trainer, sections)


def _processes(trainer: TrainerConfig, sections: Sections) -> Iterator[Fault]:
    """Batches with fewer rows than processes."""
    devices = trainer.devices if isinstance(trainer.devices, int) else 1
    processes = devices * trainer.num_nodes
    if sections.data is not None and sections.data.batch_size < processes:
        message = (
            f"{processes} processes share the rows of each batch, but data.batch_size is {sections.data.batch_size}"
        )
        yield Fault("trainer.devices" if devices > 1 else "trainer.num_nodes", message)


def _sharding(trainer: TrainerConfig, sections: Sections) -> Iterator[Fault]:
    """What cannot be trained in shards."""
    if trainer.strategy != "fsdp":
        return
    place, optimizer = "trainer.strategy", sections.optimizer
    if optimizer is not None and not optimizer.ELEMENTWISE:
        yield Fault(place, f"'fsdp' needs an optimizer that updates each weight by itself; {optimizer.type!r} does not")
    refused = {
        "trainer.compile": trainer.compile,
        "trainer.loss_weighting": trainer.loss_weighting.type != "fixed",
    }
    for name in (name for name, used in refused.items() if used):
        yield Fault(place, f"'fsdp' cannot be combined with {name}; use 'ddp'")


def _averaging(trainer: TrainerConfig, sections: Sections) -> Iterator[Fault]:
    averaging, steps = trainer.averaging, trainer.max_steps
    if not isinstance(averaging, SwaConfig):
        return
    place = "trainer.averaging"
    if steps is not None and isinstance(averaging.start, int) and averaging.start >= steps:
        yield Fault(f"{place}.start", f"{averaging.start} steps do not end before max_steps {steps}")
    if averaging.lr is None:
        yield from ignored(place, averaging, "anneal", "without lr")
    elif sections.scheduler is not None and sections.scheduler.FOLLOWS_MONITOR:
        yield Fault(
            f"{place}.lr", f"cannot be combined with scheduler.type {sections.scheduler.type!r}, which sets the rate"
        )


def _early_stopping(trainer: TrainerConfig) -> Iterator[Fault]:
    early = trainer.early_stopping
    if early is None:
        return
    for key, limit in (("steps", trainer.max_steps), ("epochs", trainer.max_epochs)):
        after = getattr(early, f"after_{key}")
        if after and limit is not None and after >= limit:
            message = f"early stopping would begin after {after} {key}, and max_{key} is {limit}"
            yield Fault(f"trainer.early_stopping.after_{key}", message)


def _weighting(trainer: TrainerConfig, sections: Sections) -> Iterator[Fault]:
    place, weighting = "trainer.loss_weighting", trainer.loss_weighting
    if weighting.type == "fixed" or not sections.output_names:
        return
    if len(sections.output_names) == 1:
        yield Fault(place, f"{weighting.type!r} has no effect with one output")
    if not isinstance(weighting, GradNormConfig):
        return
    for name, output in sections.outputs.items():
        yield from ignored(f"outputs.{name}", output, "loss_weight", "with trainer.loss_weighting: gradnorm")
    if trainer.compile:
        yield Fault(
            "trainer.compile", "cannot be combined with trainer.loss_weighting: gradnorm, which needs more gradients"
        )
    read = set(sections.token_inputs.values())
    if len(read) > 1:
        listed = ", ".join(sorted(read))
        yield Fault(place, f"'gradnorm' needs a layer that all outputs share; they read the tokens of {listed}")
