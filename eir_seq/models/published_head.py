"""The head of a published checkpoint, for those who read states with a head of their own."""

from __future__ import annotations

from torch import Tensor

from eir_seq.models.checkpoint.folder import read_config, read_tensors
from eir_seq.models.checkpoint.keymap import modern
from eir_seq.models.checkpoint.matching import unwrapped
from eir_seq.models.model import Model


def published_head(model: Model, task: str) -> dict[str, Tensor]:
    """Tensors of the head of a task in the checkpoint from which a model was loaded, by name within the head.

    Empty where there are none: the model was not loaded, the architecture has no such task, its class reads other
    states (those of a decoder), or the file lacks the head.

    Args:
        model: a model that `eir_seq.models.from_pretrained` returned, for any task.
        task: of the catalogue, such as ``question-answering``.

    Raises:
        UserError: the checkpoint cannot be read any more.

    Example:
        >>> from eir_seq.models import create_model, from_pretrained
        >>> sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
        >>> create_model("bert", sizes, task="question-answering").save_pretrained("model")
        >>> head = published_head(from_pretrained("model", task="base"), "question-answering")
        >>> {name: list(x.shape) for name, x in head.items()}
        {'out.weight': [2, 16], 'out.bias': [2]}
    """
    declared = model.architecture.tasks.get(task)
    if model.folder is None or declared is None:
        return {}
    if type(declared.plan(model.config)) is not type(model.declared.plan(model.config)):
        return {}
    tensors, _ = unwrapped(model, read_tensors(model.folder), str(model.folder))
    left = {modern(name): tensor for name, tensor in tensors.items()}
    found: dict[str, Tensor] = {}
    for row in declared.rows_of_head(model.config):
        found |= row.pull(left)
    return found


def published_class(model: Model) -> str | None:
    """The class that wrote the checkpoint from which a model was loaded, such as ``XLNetForQuestionAnswering``."""
    if model.folder is None:
        return None
    names = read_config(model.folder).get("architectures")
    return str(names[0]) if isinstance(names, list) and names else None
