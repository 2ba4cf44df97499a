"""How fast whole training loops are: samples of an experiment per second, and what part of it is not computing."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch.optim.optimizer import register_optimizer_step_post_hook

from eir_seq.commands.preflight import preflight
from eir_seq.config.compose import compose_experiment
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError
from eir_seq.training.assemble import assemble, resolved
from eir_seq.training.console import Console
from eir_seq.training.devices import pick_device
from eir_seq.training.fit import fit
from eir_seq.training.metrics_file import Measurement
from eir_seq.training.monitor import monitor_of
from eir_seq.training.preflight import check_config
from eir_seq.training.signals import SignalGuard

STEPS, WARM_UP = 60, 10
"""Steps of a loop, and those of them that are not counted: in the first ones memory grows."""


@dataclass
class LoopRow:
    """What was measured of one loop: per second of the process `samples`, and shares of these seconds.

    `forward`: inputs to outputs; `learning`: losses, gradients, clipping, optimizer; `rest`: batches, bookkeeping.
    """

    model: str
    steps: int
    samples: float
    forward: float
    learning: float
    rest: float


@dataclass
class Clock:
    """Notes seconds of the process; stands in for the console of a run."""

    marks: list[float] = field(default_factory=list)
    forward: float = 0.0
    learning: float = 0.0
    started: float | None = None
    ended: float | None = None

    def say(self, text: str) -> None:
        """Nothing: the loop's lines are not the benchmark's."""

    def evaluated(self, measurements: Sequence[Measurement], best: bool) -> None:
        """Nothing is evaluated."""

    def step(self, step: int, total: int, epoch: int, loss: Callable[[], float | None]) -> None:  # noqa: ARG002
        """After a step."""
        self.marks.append(time.process_time())
        if step == WARM_UP:
            self.forward = self.learning = 0.0

    def begin_forward(self, *_: object) -> None:
        """A network is called."""
        self.started = time.process_time()

    def end_forward(self, *_: object) -> None:
        """It has given its outputs."""
        if self.started is not None:
            self.ended = time.process_time()
            self.forward += self.ended - self.started

    def end_learning(self, *_: object) -> None:
        """The optimizer has changed the weights."""
        if self.ended is not None:
            self.learning += time.process_time() - self.ended
            self.started = self.ended = None


def measure_loop(words: Sequence[str], model_type: str | None, threads: int) -> LoopRow:
    """Train some steps of an experiment, without evaluating or saving.

    Args:
        words: ``experiment=NAME`` and overrides.
        model_type: what reads its sequences instead of what the experiment names.
        threads: of torch.

    Raises:
        UserError: the experiment is wrong, or has fewer steps than warm up.
    """
    with tempfile.TemporaryDirectory(prefix="eir_seq-bench-") as folder:
        config = _config(words, model_type, threads, folder)
        console = Console(io.StringIO())
        device = pick_device(config.trainer.accelerator)
        check_config(config)
        parts = assemble(resolved(config, console), console)
        clock, run_dir = Clock(), Path(folder)
        run_dir.mkdir(exist_ok=True)
        parts.network.register_forward_pre_hook(clock.begin_forward)
        parts.network.register_forward_hook(clock.end_forward)
        hook = register_optimizer_step_post_hook(clock.end_learning)
        try:
            with SignalGuard() as signals:
                loop = fit(
                    config, parts.network, parts.outputs, parts.data, run_dir=run_dir, device=device,
                    monitor=monitor_of(config), progress=clock, signals=signals, validate=False,
                )  # fmt: skip
        finally:
            hook.remove()
    counted = loop.steps_done - WARM_UP
    if counted < 1:
        raise UserError(Fault("trainer.max_steps", f"{loop.steps_done} steps; the first {WARM_UP} are not counted"))
    seconds = clock.marks[-1] - clock.marks[WARM_UP - 1]
    forward, learning = clock.forward / seconds, clock.learning / seconds
    samples = counted * config.data.batch_size * config.trainer.accumulate / seconds
    name = next((word.partition("=")[2] for word in words if word.startswith("experiment=")), config.name)
    title = name if model_type is None else f"{name}, {model_type}"
    return LoopRow(title, counted, samples, forward, learning, 1 - forward - learning)


def _config(words: Sequence[str], model_type: str | None, threads: int, folder: str) -> ExperimentConfig:
    keys = {word.lstrip("+").partition("=")[0] for word in words}
    words = [*words, f"run.dir={folder}", f"trainer.threads={threads}"]
    if keys.isdisjoint(("trainer.max_steps", "trainer.max_epochs")):
        words.append(f"trainer.max_steps={STEPS}")
    if model_type is None:
        return compose_experiment(words, preflight).config
    plain = compose_experiment(words, preflight).config
    read = [name for name, source in plain.inputs.items() if source.backbone is not None]
    if not read:
        raise UserError(Fault("--task", "no input of this experiment is read by an architecture of the catalogue"))
    models = [f"inputs.{name}.model.model_type={model_type}" for name in read]
    return compose_experiment([*words, *models], preflight).config
