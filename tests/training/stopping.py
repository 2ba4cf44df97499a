"""Runs that a signal stops, to be continued."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from eir_seq.training.module import TrainingModule
from eir_seq.training.signals import Stopped


@contextmanager
def stopped_after(steps: int) -> Iterator[None]:
    """The training within is stopped by SIGTERM after so many optimizer steps."""
    step = TrainingModule.training_step

    def stop(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == steps:
            raise Stopped(15)
        return step(self, batch, batch_idx)

    with patch.object(TrainingModule, "training_step", stop), pytest.raises(Stopped):
        yield
