"""Lightning's side of checkpoint folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eir_seq.training.checkpoints import read_state, remove_folder, write_folder, write_state
from eir_seq.training.lightning import CheckpointIO


class FolderCheckpointIO(CheckpointIO):
    """Lets Lightning's trainer write and read its whole state as checkpoint folders."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the trainer's state to the folder `path`, which must not exist."""
        assert storage_options is None
        write_folder(Path(path), lambda folder: write_state(folder, checkpoint))

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The trainer's state; its tensors are on the CPU."""
        return read_state(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the folder."""
        remove_folder(Path(path))
