"""The model that reads an input or writes an output: from scratch, from published weights, or as a bundle holds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import nn

from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.errors import Fault, UserError
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.catalogue import CATALOGUE, CROSS, architecture, config_class, decoder_task, list_decoders
from eir_seq.models.checkpoint.folder import locate, read_config
from eir_seq.models.layers.attention.dot_product import ON_GPU
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.lora import add_lora, freeze, load_adapter
from eir_seq.models.option_checks import check_options, decoder_options
from eir_seq.models.options import default_of, fields, split_known
from eir_seq.models.pruning import PRUNED
from eir_seq.models.transformers_backend import (
    AUTO,
    TransformersModel,
    create_transformers,
    load_transformers,
    rebuild_transformers,
    transformers_options,
)

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
"""Options of architectures that name a token, and the attribute of the tokenizer that holds its id."""


class Tokens(Protocol):
    """What a model has to know of its tokens: their number, and ids of special ones, see `TOKEN_OPTIONS`."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""


class Derives(Protocol):
    """Tensors other than the tokens that decide options of the model."""

    def derived_options(self) -> dict[str, Any]:
        """Those options by name."""


def build_backbone(
    config: SequenceModelConfig,
    tokenizer: Tokens,
    place: str,
    *,
    sources: Mapping[str, Derives] = MappingProxyType({}),
    stored: Mapping[str, Any] | None = None,
    pretrained: bool,
    task: str | None,
    encoder: bool = True,
) -> Any:
    """The model that a config names, fitted to the tokenizer, with the head of `task`.

    Args:
        config: the section `model`.
        tokenizer: of what the model reads, or writes.
        place: config path of what the section belongs to, such as ``inputs.text``.
        sources: further tensors that the model reads.
        stored: type and options of the model, as the bundle has them.
        pretrained: whether published weights are read; without them the model is built as the bundle says.
        task: of the catalogue; by default what reads an input.
        encoder: False leaves out the encoder of an encoder-decoder, where nothing published is read into it.

    Raises:
        UserError: options that do not exist or do not fit together, a task that the architecture does not have, or a
            language model that sees what it should predict.
    """
    if not config.pretrained_model:
        backbone = _from_scratch(config, tokenizer, place, sources, task, encoder=encoder)
    elif pretrained or stored is None:
        backbone = _published(config, place, task)
        rows = vocabulary_of(backbone)
        if config.resize_token_embeddings and rows is not None and tokenizer.vocab_size > rows:
            backbone.resize_token_embeddings(tokenizer.vocab_size)
    else:
        if stored["model_type"] == AUTO:
            backbone = rebuild_transformers(stored["options"])
        else:
            task = task or _task(stored["model_type"])
            backbone = create_model(stored["model_type"], stored["options"], task=task, encoder=encoder)
            if PRUNED in stored:
                backbone.prune_heads({int(layer): heads for layer, heads in stored[PRUNED].items()})
    if task in (CAUSAL, SEQ2SEQ) and sees_ahead(backbone, task):
        message = f"{config.model_type!r} attends to later tokens, so it cannot learn to predict them"
        message += _hint_against_seeing_ahead(backbone)
        raise UserError(Fault(f"{place}.model.model_type", message))
    return backbone


def build_decoder(
    config: SequenceModelConfig, tokenizer: Tokens, place: str, *, stored: Mapping[str, Any] | None, pretrained: bool
) -> Any:
    """The model whose decoder attends to states of something else: an encoder-decoder, or a causal one that gets
    cross-attention; arguments as of `build_backbone`.

    Raises:
        UserError: as there; an architecture without such a decoder, or a smaller vocabulary than the tokenizer's.
    """
    model_type = config.model_type
    if config.pretrained_model:
        model_type = stored["model_type"] if stored is not None else _published_type(config, place)
    task = decoder_task(model_type) if model_type in CATALOGUE else None
    if task is None:
        message = f"{model_type!r} has no decoder with cross-attention; these have one: {', '.join(list_decoders())}"
        raise UserError(Fault(f"{place}.model.model_type", message))
    if task == CAUSAL:
        options = {CROSS: True, **config.model_init_config}
        if not options[CROSS]:
            message = "must be true: what is written depends on the inputs by cross-attention"
            raise UserError(Fault(f"{place}.model.model_init_config.{CROSS}", message))
        config = config.model_copy(update={"model_init_config": options})
    elif not config.pretrained_model:
        options = decoder_options(model_type, config.model_init_config)
        config = config.model_copy(update={"model_init_config": options})
    backbone = build_backbone(
        config, tokenizer, place, stored=stored, pretrained=pretrained, task=task, encoder=task != SEQ2SEQ
    )
    scored: int = backbone.head.config.vocab_size
    if tokenizer.vocab_size > scored:
        message = f"there are {tokenizer.vocab_size} tokens, {config.model_type!r} writes {scored}"
        hint = "; model.resize_token_embeddings: true extends it" if config.pretrained_model else ""
        raise UserError(Fault(f"{place}.tokenizer", message + hint))
    return backbone


def memory_size(backbone: Any) -> int:
    """Width of the states that the cross-attention of a model reads."""
    crossing = (part for part in backbone.body.modules() if isinstance(part, Attention) and part.crosses)
    size = next(crossing).config.memory_size
    assert size is not None
    return size


def _published_type(config: SequenceModelConfig, place: str) -> str:
    try:
        model_type: str = read_config(locate(config.model_type, revision=config.revision))["model_type"]
    except UserError as error:
        raise UserError(*(fault.under(f"{place}.model") for fault in error.faults)) from error
    return model_type


def compute_as(backbone: Any, config: SequenceModelConfig, place: str, *, pretrained: bool) -> None:
    """Set how a backbone computes, and which of its parameters are trained.

    Args:
        backbone: in place.
        config: the section `model`.
        place: its config path.
        pretrained: False for a backbone of a bundle, whose weights hold what was trained and which knows no device.

    Raises:
        UserError: what this backbone cannot do, or names that it does not have.
    """
    if (way := config.attn_implementation) is not None and (pretrained or way not in ON_GPU):
        if isinstance(backbone, TransformersModel):
            message = "models outside the catalogue compute as their own code says"
            raise UserError(Fault(f"{place}.attn_implementation", message))
        with _under(place):
            backbone.set_attn_implementation(way)
    if config.gradient_checkpointing:
        with _under(place):
            backbone.gradient_checkpointing_enable()
    if not pretrained:
        return
    with _under(place):
        freeze(backbone, config.freeze)
    if (lora := config.lora) is None:
        return
    if lora.adapter is not None:
        with _under(f"{place}.lora.adapter"):
            load_adapter(backbone, lora.adapter)
    else:
        with _under(f"{place}.lora"):
            add_lora(backbone, **lora.model_dump(exclude={"adapter", "merge"}))


def frozen_modules(backbone: Any, config: SequenceModelConfig) -> tuple[nn.Module, ...]:
    """What stays as it was loaded."""
    if not config.freeze_pretrained_model:
        return ()
    return (backbone,) if config.pretrained_parts == "all" else backbone.side(config.pretrained_parts)


@contextmanager
def _under(place: str) -> Iterator[None]:
    """Faults of the block at places below `place`."""
    try:
        yield
    except UserError as error:
        raise UserError(*(fault.under(place) for fault in error.faults)) from error


def vocabulary_of(backbone: Any) -> int | None:
    """Rows of the token table, as the options have it."""
    options = backbone.config.get_text_config() if isinstance(backbone, TransformersModel) else backbone.config
    return getattr(options, "vocab_size", None)


def _from_scratch(
    config: SequenceModelConfig,
    tokenizer: Tokens,
    place: str,
    sources: Mapping[str, Derives],
    task: str | None,
    *,
    encoder: bool,
) -> Any:
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
    for source in sources.values():
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
        return create_model(config.model_type, options, task=task or _task(config.model_type), encoder=encoder)
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


def _beyond_from_scratch(config: SequenceModelConfig, tokenizer: Tokens, place: str) -> Any:
    try:
        known = transformers_options(config.model_init_config["model_type"])
        derived = {"vocab_size": tokenizer.vocab_size}
        derived |= {option: getattr(tokenizer, attribute) for option, attribute in TOKEN_OPTIONS.items()}
        return create_transformers({name: x for name, x in derived.items() if name in known} | config.model_init_config)
    except UserError as error:
        raise UserError(*(fault.under(f"{place}.model") for fault in error.faults)) from error


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
                message = "models outside the catalogue are loaded whole"
                raise UserError(Fault(f"{place}.model.pretrained_parts", message))
            return load_transformers(folder, overrides)
        opened_as = overrides.get("model_type", model_type)  # a bart checkpoint may be opened as mvp
        declared = config_class(opened_as if opened_as in CATALOGUE else model_type)
        _, unknown = split_known(declared, {name: x for name, x in overrides.items() if name != "model_type"})
        if unknown:
            faults = check_options(declared.model_type, unknown)
            raise UserError(*(fault.under("model_init_config") for fault in faults))
        if task == CAUSAL and "is_decoder" in fields(declared):
            overrides.setdefault("is_decoder", True)
        task = task or _task(model_type)
        return from_pretrained(folder, task=task, pretrained_parts=config.pretrained_parts, **overrides)
    except UserError as error:
        raise UserError(*(fault.under(f"{place}.model") for fault in error.faults)) from error


def _task(model_type: str) -> str:
    """Of an encoder-decoder only the encoder, which has its own task, reads an input."""
    return "encoder" if "encoder" in architecture(model_type).tasks else "base"


def _refuse_beyond(task: str | None, place: str) -> None:
    if task is not None:
        message = f"models outside the catalogue have no {task} head here; see `eir_seq models list --task {task}`"
        raise UserError(Fault(f"{place}.model.model_type", message))


def _hint_against_seeing_ahead(backbone: Any) -> str:
    """The option that makes attention causal, if there is one."""
    against = {"is_decoder": True, "published_bias_order": False}
    left = [name for name, value in against.items() if getattr(backbone.config, name, value) != value]
    return f"; set model_init_config.{left[0]}={str(against[left[0]]).lower()}" if left else ""


@torch.no_grad()
def sees_ahead(backbone: Any, task: str) -> bool:
    """Whether the state by which a token is predicted changes with later tokens."""
    source = torch.arange(8)[None] % backbone.config.vocab_size
    read: dict[str, Any] = {"input_ids": source}
    if task == SEQ2SEQ and backbone.body.encoder is None:
        read = {"encoder_outputs": (torch.randn(1, 8, memory_size(backbone)),)}
    training, found = backbone.training, []
    backbone.eval()
    for tokens in (source, source[:, [0, *range(7, 0, -1)]]):  # one by one, so that both round alike
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        if task == SEQ2SEQ:
            inputs = {**read, **{f"decoder_{name}": x for name, x in inputs.items()}}
        found.append(backbone.head.states(backbone.run_body(inputs))[:, 0])
    backbone.train(training)
    return bool((found[0] - found[1]).abs().max() > 1e-6)


def set_pooler(backbone: Any, wanted: bool) -> bool:
    """Whether the backbone has a pooler; one that is not wanted is taken off, because nothing would train it."""
    body: Any = getattr(backbone, "body", None)
    if getattr(body, "pooler", None) is None:
        return False
    if isinstance(backbone, TransformersModel):
        body.pooler.requires_grad_(wanted)  # not each of them can do without
    elif not wanted:
        body.pooler = None
    return True
