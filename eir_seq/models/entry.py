"""An entry of the catalogue: what is known of an architecture without building it. Plain data, without torch."""

from __future__ import annotations

from typing import NamedTuple

TEXT_TASKS = ("sequence-classification", "token-classification", "question-answering", "multiple-choice")
ROBERTA_TASKS = ("base", "masked-lm", "causal-lm", *TEXT_TASKS)
BERT_TASKS = ("base", "masked-lm", "causal-lm", "next-sentence", "pretraining", *TEXT_TASKS)
PAIR_TASKS = ("base", "encoder", "seq2seq-lm", "causal-lm")
T5_TASKS = ("base", "encoder", "seq2seq-lm", *TEXT_TASKS[:3])
XLM_TASKS = ("base", "masked-lm", *TEXT_TASKS[:3], "answer-search", "multiple-choice")

GROUPED = ("eir_seq::grouped_linear",)
"""Operation of expert layers, whose loop depends on data: an exported graph holds it as one node."""
DENSE = (
    "Its attention scores all pairs of tokens under a mask, so that time and memory grow with the square of the length."
)
"""Note of architectures with sparse attention that export as dense attention."""

TENSOR_INPUTS = (
    "bbox", "xpaths", "entities", "visual_embeds", "pixel_values", "global_attention_mask", "langs", "task_type_ids",
    "input_shape_ids", "input_pronunciation_ids",
)  # fmt: skip
"""Inputs other than tokens that columns of a table can give."""


class Export(NamedTuple):
    """What `torch.export` makes of an architecture.

    Attributes:
        refused: why the architecture does not export with dynamic batch and length; None if it does.
        operations: of this library, which has to be imported where the program runs.
        note: what a program does in another way than the model.
        lengths: which lengths a program takes, where not all that the model takes.
    """

    refused: str | None = None
    operations: tuple[str, ...] = ()
    note: str | None = None
    lengths: str | None = None


class Entry(NamedTuple):
    """An architecture of the catalogue.

    Attributes:
        config: ``module:Class`` of its options, below the family's package; the module does not import torch.
        architecture: ``module:NAME`` of its `Architecture`, below the family's package.
        paper: where it was published.
        summary: one sentence about it, the first of its page in the documentation.
        tasks: names of its tasks, one per published class.
        pooler: whether its base model has a pooler, a learned layer that makes one vector of a text's states.
        tensors: which of `TENSOR_INPUTS` it takes, some of them with the options that switch them on.
        replaced_tokens: whether its task `pretraining` is to detect which tokens were replaced.
        synonyms: published names of models with the same architecture and another tokenizer.
        export: what `torch.export` makes of it.
    """

    config: str
    architecture: str
    paper: str
    summary: str
    tasks: tuple[str, ...] = ("base",)
    pooler: bool = False
    tensors: tuple[str, ...] = ()
    replaced_tokens: bool = False
    synonyms: tuple[str, ...] = ()
    export: Export = Export()
