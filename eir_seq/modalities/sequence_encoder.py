"""The module that reads a sequence input: a backbone of the catalogue and a pooling of its token states."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from eir_seq.config.schema import DataConfig, Pool, SequenceModelConfig
from eir_seq.errors import Fault, UserError
from eir_seq.modalities.seq2seq import FittedSeq2Seq, target_frame
from eir_seq.modalities.tensors.declare import check_sizes, not_given
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.beyond import AUTO, BeyondModel, beyond_options, create_beyond, load_beyond, rebuild_beyond
from eir_seq.models.blocks.dot_product import FLASH
from eir_seq.models.catalogue import CATALOGUE, architecture, config_class
from eir_seq.models.checkpoint.folder import locate, read_config
from eir_seq.models.heads.base import Head
from eir_seq.models.lora import add_lora, freeze, load_adapter
from eir_seq.models.options import check_options, default_of, fields, sift
from eir_seq.models.output import TokenStates
from eir_seq.models.pruning import PRUNED
from eir_seq.tokenizers import Tokenizer

if TYPE_CHECKING:
    from eir_seq.modalities.image import ColourTokens, FittedImage
    from eir_seq.modalities.sequence import FittedSequence

log = logging.getLogger(__name__)

CAUSAL, SEQ2SEQ = "causal-lm", "seq2seq-lm"

TOKEN_OPTIONS = {
    "pad_token_id": "pad_id",
    "bos_token_id": "bos_id",
    "eos_token_id": "eos_id",
    "sep_token_id": "sep_id",
    "cls_token_id": "cls_id",
    "mask_token_id": "mask_id",
    "unk_token_id": "unk_id",
    "pad_index": "pad_id",
    "bos_index": "bos_id",
    "eos_index": "eos_id",
    "mask_index": "mask_id",
    "unk_index": "unk_id",
}
"""Options of architectures that name a token, and the tokenizer's attribute that tells its id."""


class SequenceEncoder(nn.Module):
    """Token ids to one vector per row.

    `pool`: ``avg`` and ``max`` over all real tokens (the special ones included, padding not), ``first`` and ``last``
    real token, or ``pooler``, the architecture's own. What is `frozen`, modules of the backbone or all of it, stays in
    evaluation mode: no dropout.
    Where a backbone knows global tokens and the input names none (``tensors.global_attention_mask``), the first one is
    global: it sees the whole text, and all see it.
    """

    def __init__(
        self, backbone: nn.Module, *, hidden_size: int, pool: Pool, frozen: tuple[nn.Module, ...] = (), num_types: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.hidden_size = self.output_size = hidden_size
        self.pool, self.frozen, self.num_types = pool, frozen, num_types
        self.marks_first = "global_attention_mask" in getattr(backbone, "features", ())
        for module in frozen:
            module.requires_grad_(False)
        self.train()  # loaded weights come in evaluation mode

    def train(self, mode: bool = True) -> SequenceEncoder:
        """Training mode for all but what is frozen."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, **tensors: Tensor) -> Tensor:
        """The tensors that `read` takes; gives ``(batch, output_size)``."""
        return self.pool_tokens(self.read(**tensors))

    def read(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        word_ids: Tensor | None = None,
        word_counts: Tensor | None = None,
        labels: Tensor | None = None,
        **own: Tensor,
    ) -> TokenStates:
        """What the backbone makes of the tokens, before they are pooled.

        Args:
            input_ids: (batch, length).
            attention_mask: (batch, length), True at real tokens.
            token_type_ids: (batch, length); left out where the backbone has no embedding for them.
            word_ids: (batch, length), the number of each token's word, and
            word_counts: (batch,), the words of each row, and
            labels: (batch, length), tokens to be found; for outputs, not for the backbone.
            own: documented tensors of the architecture.
        """
        mask = attention_mask.bool()
        inputs = self.inputs_of(input_ids, attention_mask, token_type_ids, **own)
        head = getattr(self.backbone, "head", None)
        output: Any = self.backbone(**inputs) if head is None else self.backbone.run_body(inputs)  # type: ignore[operator]
        states: Tensor = head.states(output) if isinstance(head, Head) else output.last_hidden_state
        if "pixel_values" in own:  # an image, whose states stand in front of those of the text
            states = states[:, -mask.shape[1] :]
        behind = own.get("visual_attention_mask")  # regions, whose states follow those of the text
        if behind is not None and states.shape[1] > mask.shape[1]:
            mask = torch.cat((mask, behind), dim=1)
        asked = {"word_ids": word_ids, "word_counts": word_counts, "labels": labels}
        for_outputs = {name: x for name, x in asked.items() if x is not None}
        further = head.further_loss(output, inputs) if isinstance(head, Head) else None
        return TokenStates(states, mask, inputs | for_outputs, head, output.get("pooler_output"), further)

    def inputs_of(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None, **own: Tensor
    ) -> dict[str, Tensor]:
        """Of the tensors that `read` takes those of the backbone, by their documented names."""
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
        return pool_states(tokens.states, tokens.mask, self.pool)

    def describe_backbone(self) -> dict[str, Any]:
        """Type and options with which `create_model` builds the same backbone without weights."""
        if isinstance(self.backbone, BeyondModel):
            return {"model_type": AUTO, "options": self.backbone.describe()}
        config: Any = self.backbone.config
        options = {name: getattr(config, name) for name in fields(type(config))}
        pruned = {PRUNED: heads} if (heads := config.published.get(PRUNED)) else {}
        return {"model_type": config.model_type, "options": options, **pruned}


class Seq2SeqEncoder(SequenceEncoder):
    """A source and the target that is written from it to the states of the decoder.

    `begun`: how many tokens of every target the decoder begins with anyway, 1 where a target begins with its start
    token. Labels leave that out: where positions are relative, a repeated start token has the state of the first one,
    so that neither what follows the one nor what follows the other could be learnt.
    """

    begun: int = 0

    def read(self, input_ids: Tensor, attention_mask: Tensor, *, labels: Tensor, **tensors: Any) -> TokenStates:  # type: ignore[override]
        """States of the decoder at each token of the target, from the true tokens in front of it.

        Args:
            input_ids: (batch, length), the source.
            attention_mask: (batch, length), True at real tokens.
            labels: (batch, target length), negative behind the end of a target.
            tensors: what else the source has.
        """
        head: Any = self.backbone.head
        if labels.shape[1] > self.begun:  # else no row has a target
            labels = labels[:, self.begun :]
        behind = head.prepare({}, {"labels": labels})
        # The first state has to see something where a row has no target.
        there = (labels >= 0) | (torch.arange(labels.shape[1], device=labels.device) == 0)
        behind["decoder_attention_mask"] = there
        found = super().read(input_ids, attention_mask, **tensors, **behind)
        return replace(found, mask=labels >= 0, inputs={**found.inputs, "labels": labels})


def pool_states(states: Tensor, mask: Tensor, pool: Pool) -> Tensor:
    """States ``(batch, length, hidden)`` of real tokens (mask True) to ``(batch, hidden)``."""
    if pool == "avg":
        weights = mask.unsqueeze(-1).to(states.dtype)
        # Not a product with the mask alone: what stands at padding may be anything, infinite too.
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


def build_sequence_encoder(
    fitted: FittedSequence | FittedImage, data: DataConfig, *, pretrained: bool, task: str | None = None
) -> SequenceEncoder:
    """The backbone that the input's config names, fitted to its tokenizer; with the head of `task`, if given.

    Raises `UserError` for options that do not exist or do not fit together, texts longer than the positions, ids
    beyond the embeddings, a pooler or a task that the architecture does not have, or a language model that sees what
    it should predict.
    """
    config, tokenizer, place = fitted.config.model, fitted.tokenizer, f"inputs.{fitted.name}"
    if not config.pretrained_model:
        backbone = _from_scratch(fitted, task)
    elif pretrained or fitted.backbone is None:
        backbone = _published(config, place, task)
        rows = _vocabulary(backbone)
        if config.resize_token_embeddings and rows is not None and tokenizer.vocab_size > rows:
            backbone.resize_token_embeddings(tokenizer.vocab_size)
    else:
        stored = dict(fitted.backbone)
        if stored["model_type"] == AUTO:
            backbone = rebuild_beyond(stored["options"])
        else:
            backbone = create_model(stored["model_type"], stored["options"], task=task or _task(stored["model_type"]))
            if PRUNED in stored:
                backbone.prune_heads({int(layer): heads for layer, heads in stored[PRUNED].items()})
    if task in (CAUSAL, SEQ2SEQ) and sees_ahead(backbone, task):
        message = f"{config.model_type!r} sees the tokens behind each token, so it cannot learn to predict them"
        message += _hint_against_seeing_ahead(backbone)
        raise UserError(Fault(f"{place}.model.model_type", message))
    options: Any = backbone.config.get_text_config() if isinstance(backbone, BeyondModel) else backbone.config
    faults = []
    vocab_size = _vocabulary(backbone)
    if vocab_size is not None and tokenizer.vocab_size > vocab_size:
        message = f"there are {tokenizer.vocab_size} tokens, the model has embeddings for {vocab_size}"
        if config.pretrained_model:
            message += "; model.resize_token_embeddings: true gives it fresh ones for the others"
        faults.append(Fault(f"{place}.{fitted.vocabulary_key}", message))
    faults += check_sizes(fitted.sources, options, place)
    lengths = {f"{place}.{fitted.length_key}": (fitted.max_length, backbone.max_positions)}
    if task == SEQ2SEQ:
        longest = fitted.target_max_length if isinstance(fitted, FittedSeq2Seq) else fitted.max_length
        lengths["outputs"] = (longest, options.target_positions())
    for here, (length, most) in lengths.items():
        if most is not None and length > most:
            positions = f"the {most} positions of {config.model_type!r}"
            what = "tokens" if here != "outputs" else "tokens of a target (max_length)"
            faults.append(Fault(here, f"{length} {what} are more than {positions}"))
    has_pooler = _set_pooler(backbone, config.pool == "pooler")
    if config.pool == "pooler" and not has_pooler:
        message = f"{config.model_type!r} has no pooler of its own; use avg, max, first or last"
        faults.append(Fault(f"{place}.model.pool", message))
    if faults:
        raise UserError(*faults)
    if data.packing == "never":
        backbone.pack = False
    if (way := config.attn_implementation) is not None and (pretrained or way != FLASH):  # bundles know no device
        _compute_by(backbone, way, f"{place}.model")
    if config.gradient_checkpointing:
        try:
            backbone.gradient_checkpointing_enable()
        except UserError as error:
            raise UserError(*(fault.under(f"{place}.model") for fault in error.faults)) from error
    unread = not_given(fitted.sources, getattr(backbone, "features", ())) if pretrained else []
    if unread:
        named = ", ".join(f"tensors.{kind}" for kind in unread)
        log.warning("%s: %r could read %s, which no column gives", place, config.model_type, named)
    if pretrained:  # what was trained with few parameters is kept in the weights
        _train_few(backbone, config, f"{place}.model")
    kind = Seq2SeqEncoder if task == SEQ2SEQ else SequenceEncoder
    encoder = kind(
        backbone,
        hidden_size=backbone.hidden_size,
        pool=config.pool,
        frozen=_frozen(backbone, config),
        num_types=2
        if "token_type_ids" in getattr(backbone, "features", ())
        else getattr(options, "type_vocab_size", 0),
    )
    if isinstance(encoder, Seq2SeqEncoder):
        assert isinstance(tokenizer, Tokenizer), "a target is a text"
        before, _ = target_frame(tokenizer, f"{place}.tokenizer")
        encoder.begun = int(before[:1] == [backbone.head.config.decoder_start_id])
    return encoder


def _vocabulary(backbone: Any) -> int | None:
    """Rows of the token table, as the options have it."""
    options = backbone.config.get_text_config() if isinstance(backbone, BeyondModel) else backbone.config
    return getattr(options, "vocab_size", None)


def _from_scratch(fitted: FittedSequence | FittedImage, task: str | None) -> Any:
    config, tokenizer, place = fitted.config.model, fitted.tokenizer, f"inputs.{fitted.name}"
    if config.model_type == AUTO:
        _refuse_beyond(task, place)
        return _beyond_from_scratch(config, tokenizer, place)
    if config.model_type not in CATALOGUE:
        create_model(config.model_type)  # raises with the nearest names
    known = fields(config_class(config.model_type))
    aliases = config_class(config.model_type).aliases
    given = {aliases.get(name, name) for name in config.model_init_config}
    options: dict[str, Any] = dict(config.model_init_config)
    if "vocab_size" in known and "vocab_size" not in given:
        options["vocab_size"] = tokenizer.vocab_size
    for option, attribute in TOKEN_OPTIONS.items():
        token_id = getattr(tokenizer, attribute)
        if option in known and option not in given and (token_id is not None or _may_be_none(known[option])):
            options[option] = token_id
    for source in fitted.sources.values():
        options |= {name: value for name, value in source.derived_options().items() if name not in given}
    if task == CAUSAL and "is_decoder" in known:
        options.setdefault("is_decoder", True)
    if task == SEQ2SEQ:
        options |= {name: token for name, token in _writing_options(known, tokenizer).items() if name not in given}
    prefix = f"{place}.model.model_init_config"
    faults = [fault.under(prefix) for fault in check_options(config.model_type, options)]
    if faults:
        raise UserError(*faults)
    try:
        return create_model(config.model_type, options, task=task or _task(config.model_type))
    except UserError as error:
        raise UserError(*(fault.under(f"{place}.model") for fault in error.faults)) from error


def _writing_options(known: Mapping[str, dataclasses.Field[Any]], tokenizer: Any) -> dict[str, int]:
    """Options of the tokens that begin, end and pad what a decoder writes: those that this tokenizer has.

    What a decoder begins with, and is made to end with, is by default one of the published vocabulary's special tokens;
    here it is the one with the same role.
    """
    end = tokenizer.eos_id if tokenizer.eos_id is not None else tokenizer.sep_id
    begin = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.cls_id
    pad = tokenizer.pad_id if tokenizer.pad_id is not None else end
    own = {"pad_token_id": pad, "eos_token_id": end, "bos_token_id": end if begin is None else begin}
    own = {name: token for name, token in own.items() if name in known}
    roles = {default_of(known[name]): token for name, token in own.items()}
    for name in ("decoder_start_token_id", "forced_eos_token_id"):
        if name in known and (default := default_of(known[name])) is not None:
            own[name] = roles.get(default, end)
    return own


def _beyond_from_scratch(config: SequenceModelConfig, tokenizer: Tokenizer | ColourTokens, place: str) -> Any:
    try:
        known = beyond_options(config.model_init_config["model_type"])
        derived = {"vocab_size": tokenizer.vocab_size}
        derived |= {option: getattr(tokenizer, attribute) for option, attribute in TOKEN_OPTIONS.items()}
        return create_beyond({name: x for name, x in derived.items() if name in known} | config.model_init_config)
    except UserError as error:
        raise UserError(*(fault.under(f"{place}.model") for fault in error.faults)) from error


def _compute_by(backbone: Any, attn_implementation: str, place: str) -> None:
    if isinstance(backbone, BeyondModel):
        message = "models beyond the catalogue compute as their own code says"
        raise UserError(Fault(f"{place}.attn_implementation", message))
    try:
        backbone.set_attn_implementation(attn_implementation)
    except UserError as error:
        raise UserError(*(fault.under(place) for fault in error.faults)) from error


def _frozen(backbone: Any, config: SequenceModelConfig) -> tuple[nn.Module, ...]:
    """What stays as it was loaded."""
    if not config.freeze_pretrained_model:
        return ()
    return (backbone,) if config.pretrained_parts == "all" else backbone.side(config.pretrained_parts)


def _train_few(backbone: nn.Module, config: SequenceModelConfig, place: str) -> None:
    lora, part = config.lora, place
    try:
        freeze(backbone, config.freeze)
        if lora is not None and lora.adapter is not None:
            part = f"{place}.lora.adapter"
            load_adapter(backbone, lora.adapter)
        elif lora is not None:
            part = f"{place}.lora"
            add_lora(backbone, **lora.model_dump(exclude={"adapter", "merge"}))
    except UserError as error:
        raise UserError(*(fault.under(part) for fault in error.faults)) from error


def _may_be_none(field: dataclasses.Field[Any]) -> bool:
    return "None" in str(field.type)


def _published(config: SequenceModelConfig, place: str, task: str | None) -> Any:
    overrides = dict(config.model_init_config)
    try:
        folder = locate(config.model_type, revision=config.revision)
        model_type = read_config(folder)["model_type"]
        if model_type not in CATALOGUE:
            _refuse_beyond(task, place)
            if config.pretrained_parts != "all":
                message = "models beyond the catalogue are loaded whole"
                raise UserError(Fault(f"{place}.model.pretrained_parts", message))
            return load_beyond(folder, overrides)
        opened_as = overrides.get("model_type", model_type)  # a bart checkpoint may be opened as mvp
        declared = config_class(opened_as if opened_as in CATALOGUE else model_type)
        _, strangers = sift(declared, {name: x for name, x in overrides.items() if name != "model_type"})
        if strangers:
            faults = check_options(declared.model_type, strangers)
            raise UserError(*(fault.under("model_init_config") for fault in faults))
        if task == CAUSAL and "is_decoder" in fields(declared):
            overrides.setdefault("is_decoder", True)
        task = task or _task(model_type)
        return from_pretrained(folder, task=task, pretrained_parts=config.pretrained_parts, **overrides)
    except UserError as error:
        raise UserError(*(fault.under(f"{place}.model") for fault in error.faults)) from error


def _task(model_type: str) -> str:
    """Of an encoder-decoder only the encoder, which has a task of its own, reads an input."""
    return "encoder" if "encoder" in architecture(model_type).tasks else "base"


def _refuse_beyond(task: str | None, place: str) -> None:
    if task is not None:
        message = f"models beyond the catalogue have no {task} head here; see `eir_seq models list --task {task}`"
        raise UserError(Fault(f"{place}.model.model_type", message))


def _hint_against_seeing_ahead(backbone: Any) -> str:
    """How it is told not to, where it can be."""
    against = {"is_decoder": True, "published_bias_order": False}
    left = [name for name, value in against.items() if getattr(backbone.config, name, value) != value]
    return f"; set model_init_config.{left[0]}={str(against[left[0]]).lower()}" if left else ""


@torch.no_grad()
def sees_ahead(backbone: Any, task: str) -> bool:
    """Whether the state by which a token is predicted changes with those behind it."""
    source = torch.arange(8)[None] % backbone.config.vocab_size
    training, found = backbone.training, []
    backbone.eval()
    for tokens in (source, source[:, [0, *range(7, 0, -1)]]):  # one by one, so that both round alike
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        if task == SEQ2SEQ:
            inputs = {"input_ids": source, **{f"decoder_{name}": x for name, x in inputs.items()}}
        found.append(backbone.head.states(backbone.run_body(inputs))[:, 0])
    backbone.train(training)
    return bool((found[0] - found[1]).abs().max() > 1e-6)


def _set_pooler(backbone: Any, wanted: bool) -> bool:
    """Whether the backbone has a pooler; one that is not wanted is taken off, because nothing would train it."""
    body: Any = getattr(backbone, "body", None)
    if getattr(body, "pooler", None) is None:
        return False
    if isinstance(backbone, BeyondModel):
        body.pooler.requires_grad_(wanted)  # not each of them can do without
    elif not wanted:
        body.pooler = None
    return True
