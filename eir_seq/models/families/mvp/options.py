"""Options of mvp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bart.options import BartConfig
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class MvpConfig(BartConfig):
    """Options of mvp."""

    model_type: ClassVar[str] = "mvp"

    vocab_size: int = size(50267, "number of tokens in the vocabulary")
    num_labels: int = size(2, "number of classes (or values) of a classification head")
    use_prompt: bool = option(False, "prompt tuning: learned keys and values precede those of the text in every layer")
    prompt_length: int = size(100, "how many of them")
    prompt_mid_dim: int = size(800, "inner width of the networks that make them")
