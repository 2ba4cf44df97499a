"""The module that reads a sequence input: a backbone of the catalogue and a pooling of its token states."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from eir_seq.backbones import SEQ2SEQ, build_backbone, compute_as, frozen_modules, set_pooler, vocabulary_of
from eir_seq.config.backbones import Pool, SequenceModelConfig
from eir_seq.config.schema import DataConfig
from eir_seq.errors import Fault, UserError
from eir_seq.modalities.encoders.base import Encoder
from eir_seq.modalities.sequence.tensors.declare import check_sizes, not_given
from eir_seq.models.heads.base import Head
from eir_seq.models.layers.eager import is_eager
from eir_seq.models.options import fields
from eir_seq.models.output import TokenStates
from eir_seq.models.pruning import PRUNED
from eir_seq.models.transformers_backend import AUTO, TransformersModel
from eir_seq.tokenizers import Tokenizer
from eir_seq.tokenizers.targets import target_frame

log = logging.getLogger(__name__)


class FittedTokens(Protocol):
    """A fitted input whose rows are tokens."""

    config: Any
    vocabulary_key: Any
    length_key: Any

    @property
    def name(self) -> str:
        """That of the input."""
        ...

    @property
    def tokenizer(self) -> Any:
        """What knows its tokens."""
        ...

    @property
    def max_length(self) -> int:
        """Of the longest row, in tokens."""
        ...

    @property
    def sources(self) -> Mapping[str, Any]:
        """Further tensors by kind."""
        ...

    @property
    def backbone(self) -> Any:
        """Type and options of a pretrained backbone, of a bundle."""
        ...


class SequenceEncoder(Encoder):
    """Token ids to one vector per row.

    `pool`: ``avg`` and ``max`` over all real tokens (the special ones included, padding not), ``first`` and ``last``
    real token, ``pooler``, the architecture's own, or ``none``, all states side by side.
    What is `frozen`, modules of the backbone or all of it, stays in evaluation mode: no dropout.
    Where a backbone knows global tokens and the input names none (``tensors.global_attention_mask``), the first one is
    global: it sees the whole text, and all see it.
    """

    cut_axes = 0

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden_size: int,
        pool: Pool,
        frozen: tuple[nn.Module, ...] = (),
        num_types: int,
        max_length: int = 1,
    ) -> None:
        super().__init__()
        self.backbone, self.max_length = backbone, max_length
        self.hidden_size = self.state_size = hidden_size
        self.output_size = hidden_size * max_length if pool == "none" else hidden_size
        self.pool, self.frozen, self.num_types = pool, frozen, num_types
        self.marks_first = "global_attention_mask" in getattr(backbone, "features", ())
        for module in frozen:
            module.requires_grad_(False)
        self.train()  # loaded weights come in evaluation mode

    @classmethod
    def build(cls, fitted: Any, data: DataConfig, *, pretrained: bool = True, task: str | None = None) -> Any:
        """See `build_sequence_encoder`."""
        return build_sequence_encoder(fitted, data, pretrained=pretrained, task=task)

    def train(self, mode: bool = True) -> SequenceEncoder:
        """Training mode for all but what is frozen."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def published_models(self) -> dict[str, Any]:
        """Models that others can load, by the folder below that of the input."""
        return {"": self.backbone}

    def read(  # type: ignore[override]  # the tensors by name
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        word_ids: Tensor | None = None,
        word_counts: Tensor | None = None,
        labels: Tensor | None = None,
        offsets: Tensor | None = None,
        window_rows: Tensor | None = None,
        **own: Tensor,
    ) -> TokenStates:
        """What the backbone makes of the tokens, before they are pooled.

        Args:
            input_ids: (batch, length).
            attention_mask: (batch, length), True at real tokens.
            token_type_ids: (batch, length); left out where the backbone has no embedding for them.
            word_ids: (batch, length), the number of each token's word, and
            word_counts: (batch,), the words of each row, and
            labels: (batch, length), tokens to be found, and
            offsets: (batch, length, 2), the characters of each token, and
            window_rows: (batch,), the rows of the data that these are windows of; for outputs, not for the backbone.
            own: transformers' tensors of the architecture.
        """
        mask = attention_mask.bool()
        inputs = self.inputs_of(input_ids, attention_mask, token_type_ids, **own)
        head = getattr(self.backbone, "head", None)
        output: Any = self.backbone.run_body(inputs)  # type: ignore[operator]
        states: Tensor = head.states(output) if isinstance(head, Head) else output.last_hidden_state
        if "pixel_values" in own:  # an image, whose states precede those of the text
            states = states[:, -mask.shape[1] :]
        regions = own.get("visual_attention_mask")  # regions, whose states follow those of the text
        if regions is not None and states.shape[1] > mask.shape[1]:
            mask = torch.cat((mask, regions), dim=1)
        asked = {
            "word_ids": word_ids,
            "word_counts": word_counts,
            "labels": labels,
            "offsets": offsets,
            "window_rows": window_rows,
        }
        for_outputs = {name: x for name, x in asked.items() if x is not None}
        further = head.further_loss(output, inputs) if isinstance(head, Head) else None
        return TokenStates(states, mask, inputs | for_outputs, head, output.get("pooler_output"), further)

    def inputs_of(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None, **own: Tensor
    ) -> dict[str, Tensor]:
        """Of the tensors that `read` takes those of the backbone, by their names in transformers."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, **own}
        if token_type_ids is not None and self.num_types > 1:
            inputs["token_type_ids"] = token_type_ids
        if self.marks_first and "global_attention_mask" not in own:
            mask = attention_mask.bool()
            inputs["global_attention_mask"] = (mask & (mask.cumsum(dim=1) == 1)).long()
        return inputs

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        """One vector per row, ``(batch, output_size)``."""
        if self.pool == "pooler":
            assert tokens.pooler_output is not None
            return tokens.pooler_output
        if self.pool == "none":
            return flat_states(tokens.states, tokens.mask, self.max_length)
        return pool_states(tokens.states, tokens.mask, self.pool)

    @property
    def token_table(self) -> nn.Module | None:
        """The table of token vectors, before positions and norms; None for a backbone without one."""
        try:
            table: nn.Module = self.backbone.get_input_embeddings()  # type: ignore[operator]
        except (AttributeError, NotImplementedError):
            return None
        return table

    def mixed_embeddings(self) -> list[nn.Module]:
        """The table of token vectors: these are mixed (Guo et al. 2019, arXiv:1905.08941).

        Raises:
            UserError: the backbone has no such table.
        """
        if (table := self.token_table) is None:
            message = f"{self.describe_backbone()['model_type']!r} has no table of token vectors that could be mixed"
            raise UserError(Fault("model.model_type", f"{message}; use trainer.mixing.type=manifold"))
        return [table]

    def describe_backbone(self) -> dict[str, Any]:
        """Type and options with which `create_model` builds the same backbone without weights."""
        if isinstance(self.backbone, TransformersModel):
            return {"model_type": AUTO, "options": self.backbone.describe()}
        config: Any = self.backbone.config
        options = {name: getattr(config, name) for name in fields(type(config))}
        pruned = {PRUNED: heads} if (heads := config.published.get(PRUNED)) else {}
        return {"model_type": config.model_type, "options": options, **pruned}


class Seq2SeqEncoder(SequenceEncoder):
    """A source and the target that is written from it to the states of the decoder.

    `given_tokens`: how many tokens of every target the decoder is given, 1 where a target begins with its start
    token. Labels leave that out: where positions are relative, a repeated start token has the state of the first one,
    so that neither what follows the one nor what follows the other could be learned.
    """

    given_tokens: int = 0

    def example(self, end: int) -> dict[str, Tensor]:
        """Arguments of `generate` for a source of one token; `end` ends a text."""
        return {"input_ids": torch.tensor([[end]], device=next(self.parameters()).device)}

    def predicted_labels(self, labels: Tensor) -> Tensor:
        """The labels (batch, target length) without the tokens that the decoder begins with anyway."""
        return (
            labels[:, self.given_tokens :] if labels.shape[1] > self.given_tokens else labels
        )  # else no row has a target

    def read(self, input_ids: Tensor, attention_mask: Tensor, *, labels: Tensor, **tensors: Any) -> TokenStates:  # type: ignore[override]
        """States of the decoder at each token of the target, from the true tokens before it.

        Args:
            input_ids: (batch, length), the source.
            attention_mask: (batch, length), True at real tokens.
            labels: (batch, target length), negative after the end of a target.
            tensors: what else the source has.
        """
        head: Any = self.backbone.head
        labels = self.predicted_labels(labels)
        decoder = head.prepare({}, {"labels": labels})
        # The first state has to see something where a row has no target.
        there = (labels >= 0) | (torch.arange(labels.shape[1], device=labels.device) == 0)
        decoder["decoder_attention_mask"] = there
        found = super().read(input_ids, attention_mask, **tensors, **decoder)
        return replace(found, mask=labels >= 0, inputs={**found.inputs, "labels": labels})


def pool_states(states: Tensor, mask: Tensor, pool: Pool) -> Tensor:
    """States ``(batch, length, hidden)`` of real tokens (mask True) to ``(batch, hidden)``."""
    if pool == "avg":
        if is_eager() and states.device.type == "cpu":
            mean: Tensor = _MeanOfTokens.apply(states, mask)  # type: ignore[no-untyped-call]
            return mean
        weights = mask.unsqueeze(-1).to(states.dtype)
        # Not a product with the mask alone: what is at padding may be anything, infinite too.
        return states.masked_fill(~mask.unsqueeze(-1), 0.0).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    if pool == "max":
        return states.masked_fill(~mask.unsqueeze(-1), torch.finfo(states.dtype).min).amax(dim=1)
    positions = torch.arange(mask.shape[1], device=mask.device)
    if pool == "first":
        index = positions.masked_fill(~mask, mask.shape[1]).amin(dim=1).clamp(max=mask.shape[1] - 1)
    else:
        assert pool == "last"
        index = positions.masked_fill(~mask, 0).amax(dim=1)
    return states[torch.arange(len(states), device=states.device), index]


class _MeanOfTokens(torch.autograd.Function):
    """Means of the states of real tokens, without a pass over memory for padding; see `pool_states`."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, mask: Tensor) -> Tensor:
        places, counts = mask.flatten().nonzero().squeeze(1), mask.sum(dim=1)
        ctx.save_for_backward(mask, counts)
        return nn.functional.embedding_bag(places, states.flatten(0, 1), counts.cumsum(dim=0) - counts, mode="mean")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        mask, counts = ctx.saved_tensors
        shares = gradients[0] / counts.clamp(min=1).unsqueeze(-1)
        return shares.unsqueeze(1) * mask.unsqueeze(-1), None


def model_of(fitted: FittedTokens) -> SequenceModelConfig:
    """The architecture of the catalogue that reads an input of tokens."""
    config: SequenceModelConfig | None = fitted.config.backbone
    assert config is not None, "encoders of other kinds build themselves"
    return config


def flat_states(states: Tensor, mask: Tensor, length: int) -> Tensor:
    """States ``(batch, at most length, hidden)`` to ``(batch, length * hidden)``, zeros where the mask is False."""
    real = states.masked_fill(~mask.unsqueeze(-1), 0.0)
    return nn.functional.pad(real, (0, 0, 0, length - states.shape[1])).flatten(1)


def build_sequence_encoder(
    fitted: FittedTokens, data: DataConfig, *, pretrained: bool, task: str | None = None
) -> SequenceEncoder:
    """The backbone that the input's config names, fitted to its tokenizer; with the head of `task`, if given.

    Raises `UserError` for options that do not exist or do not fit together, texts longer than the positions, ids
    beyond the embeddings, a pooler or a task that the architecture does not have, or a language model that sees what
    it should predict.
    """
    config, tokenizer, place = model_of(fitted), fitted.tokenizer, f"inputs.{fitted.name}"
    backbone = build_backbone(
        config,
        tokenizer,
        place,
        sources=fitted.sources,
        stored=fitted.backbone,
        pretrained=pretrained,
        task=task,
    )
    options: Any = backbone.config.get_text_config() if isinstance(backbone, TransformersModel) else backbone.config
    faults = []
    vocab_size = vocabulary_of(backbone)
    if vocab_size is not None and tokenizer.vocab_size > vocab_size:
        message = f"there are {tokenizer.vocab_size} tokens, the model has embeddings for {vocab_size}"
        if config.pretrained_model:
            message += "; model.resize_token_embeddings: true gives it fresh ones for the others"
        faults.append(Fault(f"{place}.{fitted.vocabulary_key}", message))
    faults += check_sizes(fitted.sources, options, place)
    lengths = {f"{place}.{fitted.length_key}": (fitted.max_length, backbone.max_positions)}
    if task == SEQ2SEQ:
        longest = getattr(fitted, "target_max_length", fitted.max_length)
        lengths["outputs"] = (longest, options.target_positions())
    for here, (length, most) in lengths.items():
        if most is not None and length > most:
            positions = f"the {most} positions of {config.model_type!r}"
            what = "tokens" if here != "outputs" else "tokens of a target (max_length)"
            faults.append(Fault(here, f"{length} {what} are more than {positions}"))
    has_pooler = set_pooler(backbone, config.pool == "pooler")
    if config.pool == "pooler" and not has_pooler:
        message = f"{config.model_type!r} has no pooler; use avg, max, first or last"
        faults.append(Fault(f"{place}.model.pool", message))
    if config.pool == "none" and (task == SEQ2SEQ or "visual_embeds" in fitted.sources):
        message = "'none' needs the states of max_length tokens; where others are written or regions follow, pool them"
        faults.append(Fault(f"{place}.model.pool", message))
    if faults:
        raise UserError(*faults)
    if data.packing == "never":
        backbone.pack = False
    unread = not_given(fitted.sources, getattr(backbone, "features", ())) if pretrained else []
    if unread:
        named = ", ".join(f"tensors.{kind}" for kind in unread)
        log.warning("%s: %r could read %s, which no column gives", place, config.model_type, named)
    compute_as(backbone, config, f"{place}.model", pretrained=pretrained)
    kind = Seq2SeqEncoder if task == SEQ2SEQ else SequenceEncoder
    encoder = kind(
        backbone,
        hidden_size=backbone.hidden_size,
        pool=config.pool,
        frozen=frozen_modules(backbone, config),
        num_types=2
        if "token_type_ids" in getattr(backbone, "features", ())
        else getattr(options, "type_vocab_size", 0),
        max_length=fitted.max_length,
    )
    if isinstance(encoder, Seq2SeqEncoder):
        assert isinstance(tokenizer, Tokenizer), "a target is a text"
        before, _ = target_frame(tokenizer, f"{place}.tokenizer")
        encoder.given_tokens = int(before[:1] == [backbone.head.config.decoder_start_id])
    return encoder
