"""The same model in transformers, with the same weights."""

from __future__ import annotations

import inspect
import tempfile
from typing import Any

from torch import Tensor, nn

from eir_seq.config.packages import is_installed, missing_package
from eir_seq.errors import Fault, UserError
from eir_seq.models.model import Model

WITHOUT = {
    "mra": "attention of transformers' mra is a kernel for GPUs",
    "sequence-default": "not in transformers",
}
"""Architectures that cannot be compared, and why."""


def check_installed() -> None:
    """Raises `UserError` if transformers is not installed."""
    if not is_installed("transformers"):
        raise UserError(Fault("--against", missing_package("transformers")))


def reference_of(model: Model) -> Any:
    """The published class of a model's task, opened from what the model saves, with transformers' default attention."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    task, base = model.declared, model.architecture.tasks["base"]
    part = not hasattr(transformers, task.published)  # published as a part of the base class
    cls = getattr(transformers, base.published if part else task.published)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        reference = cls.from_pretrained(folder, local_files_only=True)
    return getattr(reference, model.task) if part else reference


def taken(model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the inputs that the class knows; fnet, say, knows no mask."""
    parameters = inspect.signature(model.forward).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return inputs
    return {name: x for name, x in inputs.items() if name in parameters}
