"""The batches of an experiment as a user's own ``lightning.Trainer`` takes them."""

from __future__ import annotations

from typing import Any, Protocol

from eir_seq.data.module import DataModule
from eir_seq.errors import Fault, UserError
from eir_seq.training.lightning import LightningDataModule


class Grouped(Protocol):
    """Gives each training batch the counts of the optimizer step that it is part of, see `Groups`."""

    def __call__(self, batches: Any, *, size: int) -> Any:
        """Steps are made of `size` batches each."""


class TrainerData(LightningDataModule):
    """A `DataModule` with the hooks of Lightning.

    Args:
        rows: the encoded splits and their batches.
        grouped: what the module that is trained needs to know of each optimizer step.
    """

    def __init__(self, rows: DataModule, grouped: Grouped) -> None:
        super().__init__()
        self.rows, self._grouped = rows, grouped

    @property
    def batches_per_epoch(self) -> int:
        """Training batches, the same number in every epoch."""
        return self.rows.batches_per_epoch

    def setup(self, stage: str | None = None) -> None:
        """Refuse what only a run can do.

        Raises:
            UserError: the trainer has several processes, or the rows are streamed without being counted.
        """
        del stage  # the rows are encoded already
        trainer: Any = self.trainer
        if trainer is not None and trainer.world_size != self.rows.world_size:
            message = f"its {trainer.world_size} processes would share the rows; give it devices=1"
            raise UserError(Fault("lightning.Trainer", message))
        if not self.rows.counted:
            message = "needs a run where batches are not counted; a lightning.Trainer of your own does not have it"
            raise UserError(Fault("data.streaming", message))

    def train_dataloader(self) -> Any:
        """Training batches from the position on."""
        trainer: Any = self.trainer
        if trainer is not None and trainer.overfit_batches > 0:
            self.rows.repeat_first_epoch()
        size = 1 if trainer is None else trainer.accumulate_grad_batches
        return self._grouped(self.rows.train_dataloader(), size=size)

    def val_dataloader(self) -> Any:
        """Every validation row once; no batches if there is no validation split."""
        return self.rows.val_dataloader()

    def test_dataloader(self) -> Any:
        """Every test row once; no batches if there is no test split."""
        return self.rows.test_dataloader()

    def predict_dataloader(self) -> Any:
        """The test rows, whose labels may be missing."""
        return self.rows.test_dataloader()

    def state_dict(self) -> dict[str, int]:
        """The position in the training batches, which a trainer keeps in its checkpoints."""
        trainer: Any = self.trainer
        if trainer is None:
            return {}
        loop = trainer.fit_loop
        epoch, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress.current.processed
        if epoch.started == epoch.processed:  # between two epochs
            return {"epoch": epoch.processed, "batches_done": 0}
        whole = batches >= trainer.num_training_batches
        return {"epoch": epoch.processed + whole, "batches_done": 0 if whole else batches}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue at the position of a checkpoint."""
        if state_dict:
            self.rows.set_position(state_dict["epoch"], state_dict["batches_done"])

    def teardown(self, stage: str | None = None) -> None:
        """The trainer is done; end the processes that prepare batches."""
        del stage
        self.rows.close()
