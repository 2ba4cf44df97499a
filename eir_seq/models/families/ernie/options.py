"""Options of ernie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import BertConfig
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class ErnieConfig(BertConfig):
    """Options of ernie: bert's, and what the text is meant for."""

    model_type: ClassVar[str] = "ernie"

    task_type_vocab_size: int = size(3, "number of task types (task_type_ids)")
    use_task_id: bool = option(False, "a vector per task type is added to each token's")
