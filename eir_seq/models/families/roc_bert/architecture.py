"""Roc_bert (https://aclanthology.org/2022.acl-long.65.pdf)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.architecture import TaskHead
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, Unused
from eir_seq.models.families.bert.architecture import bert_like
from eir_seq.models.families.bert.heads import bert_language_model
from eir_seq.models.families.bert.keymap import BERT_LANGUAGE_MODEL_ROWS, bert_rows
from eir_seq.models.families.bert.plan import bert_embeddings, bert_plan
from eir_seq.models.families.roc_bert.options import RoCBertConfig
from eir_seq.models.heads.base import Head, Targets, token_loss
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.linear import Linear
from eir_seq.models.output import ModelOutput

SIGNS = {"shape": "input_shape_ids", "pronunciation": "input_pronunciation_ids"}


class SignEmbeddings(Embeddings):
    """Vectors of tokens, and of how they look and sound (section 3.2)."""

    config: Config

    @dataclass(frozen=True, kw_only=True)
    class Config(Embeddings.Config):
        """`signs`: rows and width of the table of each kind. `concat`: vectors are concatenated and projected.

        If not, they are averaged with bert's embeddings after norm and dropout.
        """

        signs: Mapping[str, tuple[int, int]]
        concat: bool

        @property
        def features(self) -> tuple[str, ...]:
            """Looks and sounds, as far as they have tables."""
            return tuple(SIGNS[kind] for kind in self.signs)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.signs = nn.ModuleDict(
            {kind: nn.Embedding(*shape, padding_idx=config.padding_id) for kind, shape in config.signs.items()}
        )
        width = config.hidden_size + sum(width for _, width in config.signs.values())
        self.map = Linear(width, config.hidden_size) if config.concat else None

    def forward(
        self,
        ids: Tensor | None,
        vectors: Tensor | None,
        positions: Tensor,
        segments: Tensor | None,
        features: dict[str, Tensor],
    ) -> Tensor:
        """Token ids (...) or vectors (..., size), position ids, segment ids and signs (...) -> (..., hidden).

        Signs that are not given count as id 0 where they are concatenated, and are left out where they are averaged.
        """
        if self.map is not None:
            parts = [self.tokens(ids) if vectors is None else vectors]
            for kind, table in self.signs.items():
                parts.append(table(features.get(SIGNS[kind], torch.zeros_like(positions))))
            return super().forward(None, self.map(torch.cat(parts, -1)), positions, segments, {})
        parts = [super().forward(ids, vectors, positions, segments, {})]
        for kind, table in self.signs.items():
            if SIGNS[kind] in features:
                parts.append(table(features[SIGNS[kind]]))
        return torch.stack(parts).sum(0) / len(parts)


def roc_bert_plan(c: RoCBertConfig, *, pooler: bool = True) -> StackPlan:
    """Bert with signs."""
    signs = {}
    if c.enable_shape:
        signs["shape"] = (c.shape_vocab_size, c.shape_embed_dim)
    if c.enable_pronunciation:
        signs["pronunciation"] = (c.pronunciation_vocab_size, c.pronunciation_embed_dim)
    embeddings = SignEmbeddings.Config(**vars(bert_embeddings(c)), signs=signs, concat=c.concat_input)
    return replace(bert_plan(c, pooler=pooler), embeddings=embeddings)


def roc_bert_rows(c: RoCBertConfig) -> Iterator[Row]:
    """Bert's key map, the tables of signs (files hold them even if they are not read) and the projection."""
    yield from bert_rows(c)
    for kind in SIGNS:
        if getattr(c, f"enable_{kind}"):
            yield Same(f"embeddings.{kind}_embed", f"embeddings.signs.{kind}")
        else:
            shape = (getattr(c, f"{kind}_vocab_size"), getattr(c, f"{kind}_embed_dim"))
            yield Unused(f"embeddings.{kind}_embed.weight", shape)
    yield Same("embeddings.map_inputs_layer", "embeddings.map")


READ = ("input_ids", *SIGNS.values(), "attention_mask", "token_type_ids")


class ContrastivePreTraining(Head):
    """Hidden tokens; and a text lies nearer to its own disfigured copy than to those of others (section 3.3)."""

    targets = tuple(f"{copy}_{name}" for copy in ("labels", "attack") for name in READ)

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`tokens`: the head of hidden tokens."""

        tokens: LanguageModel.Config
        padding_id: int

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.tokens = config.tokens.build()
        self.padding_id = config.padding_id
        self._body: tuple[nn.Module, ...] = ()

    def tie(self, body: nn.Module) -> None:
        """Score by the body's token table, and remember the body (no part of the head): the loss reads more texts."""
        self.tokens.tie(body)
        self._body = (body,)

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:  # noqa: ARG002
        """`logits`: (batch, length, vocabulary), with the `pooler_output` that texts are compared by."""
        return {"logits": self.tokens.scores(output.last_hidden_state), "pooler_output": output.pooler_output}

    def loss(self, predictions: dict[str, Tensor], targets: Targets) -> Tensor | None:
        """Cross-entropy of hidden tokens (`labels_input_ids`); with `attack_input_ids`, the contrast is added.

        `attack_...` are the tensors of the disfigured texts, `labels_...` those of the clean ones.
        """
        if "labels_input_ids" not in targets:
            return None
        labels = targets["labels_input_ids"]
        hidden = token_loss(predictions["logits"], labels)
        if "attack_input_ids" not in targets:
            return hidden
        clean = {**targets, "labels_input_ids": labels.masked_fill(labels == -100, self.padding_id)}
        attacked = F.normalize(self._pooled("attack", targets), dim=-1)
        own = torch.arange(len(labels), device=labels.device)
        contrasts = [
            F.cross_entropy(100 * (F.normalize(texts, dim=-1) @ attacked.T), own)
            for texts in (predictions["pooler_output"], self._pooled("labels", clean))
        ]
        return hidden + (contrasts[0] + contrasts[1]) / 2

    def _pooled(self, copy: str, targets: Targets) -> Tensor:
        """(batch, hidden) pooler's outputs of other texts."""
        pooled: Tensor = self._body[0](**{name: targets.get(f"{copy}_{name}") for name in READ}).pooler_output
        return pooled


def roc_bert_pretraining(c: RoCBertConfig) -> ContrastivePreTraining.Config:
    """Bert's head of hidden tokens."""
    return ContrastivePreTraining.Config(tokens=bert_language_model(c, "hidden"), padding_id=c.pad_token_id or 0)


ROC_BERT = bert_like(
    "RoCBert",
    "roc_bert",
    roc_bert_plan,
    roc_bert_rows,
    own={
        "next-sentence": None,
        "pretraining": TaskHead(
            "ForPreTraining",
            roc_bert_pretraining,
            tuple(replace(row, native=f"tokens.{row.native}") for row in BERT_LANGUAGE_MODEL_ROWS),
        ),
    },
)
