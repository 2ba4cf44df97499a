"""Bert (https://arxiv.org/abs/1810.04805)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from eir_seq.models.architecture import Architecture, Plan, TaskHead, declare_tasks
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.bert.heads import (
    bert_classification,
    bert_heads,
    bert_language_model,
    bert_pretraining,
    next_sentence,
)
from eir_seq.models.families.bert.keymap import BERT_LANGUAGE_MODEL_ROWS, bert_rows, pretraining_rows
from eir_seq.models.families.bert.plan import bert_initialization, bert_plan, without_pooler
from eir_seq.models.heads.language_model import LanguageModel


def bert_like(
    family: str,
    prefix: str,
    plan: Callable[..., Plan],
    rows: Callable[[Any], Iterable[Row]] = bert_rows,
    *,
    own: Mapping[str, TaskHead | None] = MappingProxyType({}),
    language_model: Callable[..., LanguageModel.Config] = bert_language_model,
    language_model_rows: tuple[Same, ...] = BERT_LANGUAGE_MODEL_ROWS,
) -> Architecture:
    """An architecture with bert's heads, unless it has them in a form of its `own` (None: not at all).

    `plan`: options and ``pooler`` -> body; `family`, `prefix`: see `declare_tasks`.
    """
    plain = partial(plan, pooler=False)
    heads: dict[str, TaskHead | None] = {
        "masked-lm": TaskHead("ForMaskedLM", partial(language_model, predicts="hidden"), language_model_rows, plain),
        "causal-lm": TaskHead("ForCausalLM", partial(language_model, predicts="next"), language_model_rows, plain),
        "next-sentence": TaskHead("ForNextSentencePrediction", next_sentence, (Same("cls.seq_relationship", "out"),)),
        "pretraining": TaskHead("ForPreTraining", bert_pretraining, pretraining_rows(language_model_rows)),
        **bert_heads(bert_classification, plain, (Same("classifier", "out"),), choice_plan=plan),
        **own,
    }
    present = {task: head for task, head in heads.items() if head is not None}
    return Architecture(
        tasks=declare_tasks(family, prefix, plan, rows, present),
        prefixes=(prefix,),
        initialization=bert_initialization,
    )


BERT = bert_like(
    "Bert",
    "bert",
    bert_plan,
    own={
        "causal-lm": TaskHead(
            "LMHeadModel", partial(bert_language_model, predicts="next"), BERT_LANGUAGE_MODEL_ROWS, without_pooler
        )
    },
)
