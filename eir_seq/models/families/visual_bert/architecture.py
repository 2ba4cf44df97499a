"""Visual_bert (https://arxiv.org/abs/1908.03557)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.joined import JoinedPlan
from eir_seq.models.checkpoint.keymap import Row, Same
from eir_seq.models.families.bert.heads import bert_classification, bert_language_model, next_sentence
from eir_seq.models.families.bert.keymap import BERT_LAYER_ROWS, BERT_PRETRAINING_ROWS, bert_rows
from eir_seq.models.families.bert.plan import bert_plan
from eir_seq.models.families.luke.architecture import in_stack
from eir_seq.models.families.visual_bert.heads import ImagePreTraining, RegionAlignment, VisualQuestionAnswering
from eir_seq.models.families.visual_bert.options import VisualBertConfig
from eir_seq.models.heads.sequence_classification import SequenceClassification
from eir_seq.models.heads.spans_and_tokens import MultipleChoice
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.linear import Linear


class RegionEmbeddings(Configured):
    """Regions of an image: their projected vectors, segments, and the positions of words that they belong to."""

    @dataclass(frozen=True)
    class Config(Configured.Config):
        """The options of the architecture."""

        options: VisualBertConfig

        features: ClassVar = ("visual_embeds", "visual_attention_mask", "visual_token_type_ids", "image_text_alignment")

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config.options
        self.project = Linear(c.visual_embedding_dim, c.hidden_size)
        self.segments = nn.Embedding(c.type_vocab_size, c.hidden_size)
        self.positions = nn.Embedding(c.max_position_embeddings, c.hidden_size)

    def forward(self, features: dict[str, Tensor], text: Any) -> tuple[Tensor, Tensor | None] | None:
        """`visual_embeds` (batch, regions, own width), `image_text_alignment` (batch, regions, words), -1 for none.

        All regions have position 0 of their own table. Norm and dropout are those of the text.

        Raises:
            ValueError: another width than the projection's, or regions that no alignment is given for.
        """
        vectors = features.get("visual_embeds")
        if vectors is None:
            return None
        if vectors.shape[-1] != self.project.in_features:
            raise ValueError(
                f"visual_embeds have width {vectors.shape[-1]}, visual_embedding_dim is {self.project.in_features}"
            )
        segments = features.get("visual_token_type_ids")
        if segments is None:
            segments = torch.ones(vectors.shape[:2], dtype=torch.long, device=vectors.device)
        x = self.project(vectors.to(self.project.weight.dtype)) + self.segments(segments) + self.positions.weight[0]
        alignment = features.get("image_text_alignment")
        if alignment is not None:
            if alignment.shape[1] < vectors.shape[1]:
                raise ValueError(f"image_text_alignment names {alignment.shape[1]} of {vectors.shape[1]} regions")
            alignment = alignment[:, : vectors.shape[1]]
            aligned = (alignment != -1)[..., None].to(x.dtype)
            where = (text.positions(alignment.clamp(min=0)) * aligned).sum(2)
            x = x + where / aligned.sum(2).clamp(min=1)
        return text.dropout(text.norm(x)), features.get("visual_attention_mask")


@dataclass(frozen=True)
class CopiedTables(Initialization):
    """Normal weights; tables of regions then begin as copies of those of the text, where `copied`."""

    copied: bool = True

    @torch.no_grad()
    def fill(self, model: nn.Module, only: set[str] | None = None) -> None:
        """See `Initialization.fill`."""
        super().fill(model, only)
        parameters = dict(model.named_parameters())
        for table in ("segments", "positions") if self.copied else ():
            name = f"body.embeddings.others.{table}.weight"
            if name in parameters and (only is None or name in only):
                parameters[name].copy_(parameters[f"body.embeddings.{table}.weight"])


def visual_bert_plan(c: VisualBertConfig) -> JoinedPlan:
    """Bert over a text and regions after it; every published class has the pooler."""
    stack = bert_plan(c)
    return JoinedPlan(
        embeddings=stack.embeddings,
        others=RegionEmbeddings.Config(c),
        layers=stack.layers,
        pooler=stack.pooler,
        closing=stack.layers[0] if c.bypass_transformer else None,
    )


def visual_bert_rows(c: VisualBertConfig) -> Iterator[Row]:
    """Bert's key map, the tables of regions, and the layer that follows."""
    yield Same("embeddings.visual_projection", "embeddings.others.project")
    yield Same("embeddings.visual_token_type_embeddings", "embeddings.others.segments")
    yield Same("embeddings.visual_position_embeddings", "embeddings.others.positions")
    yield from in_stack(bert_rows(c))
    for row in BERT_LAYER_ROWS:
        assert isinstance(row, Same)
        published = row.published.replace("encoder.layer.{i}", "additional_layer")
        yield Same(published, row.native.replace("layers.{i}", "closing.layers.0"))


def image_pretraining(c: VisualBertConfig) -> ImagePreTraining.Config:
    """Hidden words, and whether text and image belong together."""
    return ImagePreTraining.Config(tokens=bert_language_model(c, "hidden"), pairs=next_sentence(c))


def region_alignment(c: VisualBertConfig) -> RegionAlignment.Config:
    """Which region each word speaks of."""
    return RegionAlignment.Config(
        unread=image_pretraining(c), hidden_size=c.hidden_size, head_size=c.hidden_size // c.num_attention_heads
    )


def visual_reasoning(c: VisualBertConfig) -> SequenceClassification.Config:
    """Classes of text and image; labels are class numbers."""
    return replace(bert_classification(c), problem_type="single_label_classification")


UNREAD_ROWS = tuple(replace(row, native=f"unread.{row.native}") for row in BERT_PRETRAINING_ROWS)

VISUAL_BERT = Architecture(
    tasks=declare_tasks(
        "VisualBert",
        "visual_bert",
        visual_bert_plan,
        visual_bert_rows,
        {
            "pretraining": TaskHead("ForPreTraining", image_pretraining, BERT_PRETRAINING_ROWS),
            "visual-question-answering": TaskHead(
                "ForQuestionAnswering",
                lambda c: VisualQuestionAnswering.Config.of(c, dropout=c.hidden_dropout_prob),
                (Same("cls", "out"),),
            ),
            "visual-reasoning": TaskHead("ForVisualReasoning", visual_reasoning, (Same("cls", "out"),)),
            "region-to-phrase-alignment": TaskHead(
                "ForRegionToPhraseAlignment",
                region_alignment,
                (
                    *UNREAD_ROWS,
                    Same("attention.query", "query"),
                    Same("attention.key", "key"),
                    Same("attention.value", "value"),
                ),
            ),
            "multiple-choice": TaskHead(
                "ForMultipleChoice",
                partial(MultipleChoice.Config.by, one=bert_classification),
                (Same("cls", "one.out"),),
            ),
        },
    ),
    prefixes=("visual_bert",),
    initialization=lambda c: CopiedTables(c.initializer_range, copied=c.special_visual_initialize),
)
