"""`generate`: from a prompt to its continuations."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eir_seq.errors import Fault, UserError
from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.generation.base import GeneratingModel
from eir_seq.models.generation.beams import beam_search
from eir_seq.models.generation.options import (
    DEFAULTS,
    NEW_TOKENS,
    OTHER_METHODS,
    TOKEN_OPTIONS,
    GenerationOptions,
    build_options,
)
from eir_seq.models.generation.processors import Processor, marked, processors_of
from eir_seq.models.generation.search import GenerationOutput, Trace, search
from eir_seq.models.generation.steps import Inputs, Steps
from eir_seq.models.generation.stopping import Decodes, Stopping
from eir_seq.models.generation.streaming import Streamer

logger = logging.getLogger(__name__)

TASKS = ("causal-lm", "seq2seq-lm")
"""Tasks whose models generate; others do if they declare how (`decoding`)."""


@torch.no_grad()
def generate(
    model: GeneratingModel,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    *,
    tokenizer: Decodes | None = None,
    streamer: Streamer | None = None,
    logits_processor: Sequence[Processor] = (),
    generator: torch.Generator | None = None,
    **options: Any,
) -> Tensor | GenerationOutput:
    """See `Model.generate`."""
    work = _prepare(model, input_ids, attention_mask, tokenizer, logits_processor, generator, options)
    if streamer is not None and work.options.num_beams > 1:
        raise UserError(Fault("streamer", "beams decide at their end: without num_beams, tokens can be streamed"))
    with evaluation(model):
        if work.options.num_beams > 1:
            output = beam_search(**vars(work))
        else:
            ids = work.ids
            if streamer is not None:
                streamer.put(ids.cpu())
            for ids in search(**vars(work)):
                if streamer is not None:
                    streamer.put(ids[:, -1].cpu())
            if streamer is not None:
                streamer.end()
            output = GenerationOutput(ids.clone(), *work.trace.fields())  # without the room to grow
    return output if work.options.return_dict_in_generate else output.sequences


def check_call(
    model: GeneratingModel,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    *,
    tokenizer: Decodes | None = None,
    **options: Any,
) -> None:
    """Raise what `generate` would raise of these options and prompts (batch, length), and generate nothing."""
    if input_ids is not None and attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    _prepare(model, input_ids, attention_mask, tokenizer, (), None, options)


def stream(
    model: GeneratingModel,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    *,
    tokenizer: Decodes | None = None,
    logits_processor: Sequence[Processor] = (),
    generator: torch.Generator | None = None,
    **options: Any,
) -> Iterator[Tensor]:
    """See `Model.stream`."""
    work = _prepare(model, input_ids, attention_mask, tokenizer, logits_processor, generator, options)
    if work.options.num_beams > 1 or work.options.return_dict_in_generate:
        raise UserError(Fault("stream", "gives tokens as they come: no num_beams, no return_dict_in_generate"))

    @torch.no_grad()
    def tokens() -> Iterator[Tensor]:
        with evaluation(model):
            for ids in search(**vars(work)):
                yield ids[:, -1]

    return tokens()


@contextmanager
def evaluation(model: torch.nn.Module) -> Iterator[None]:
    """All parts in evaluation, and back to what each was."""
    training = [part for part in model.modules() if part.training]
    if training:  # a model that is served by several threads is left alone
        model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@dataclass
class _Work:
    """What the searches are called with."""

    steps: Steps
    ids: Tensor
    processors: list[Processor]
    stopping: Stopping
    options: GenerationOptions
    generator: torch.Generator | None
    trace: Trace


def _prepare(
    model: GeneratingModel,
    ids: Tensor | None,
    mask: Tensor | None,
    tokenizer: Decodes | None,
    own: Sequence[Processor],
    generator: torch.Generator | None,
    given: Mapping[str, Any],
) -> _Work:
    if model.task not in TASKS and model.declared.decoding is None:
        raise UserError(Fault("generate", f"a model for task {model.task!r} predicts no next token"))
    of_model = (*model.features, "encoder_outputs")
    inputs: Inputs = {name: x for name, x in given.items() if isinstance(x, Tensor) or name in of_model}
    options = build_options({name: x for name, x in given.items() if name not in inputs}, defaults_of(model))
    if ids is not None and (ids.dim() != 2 or not ids.numel()):
        raise UserError(
            Fault("input_ids", f"has shape {tuple(ids.shape)}, must be (batch, length) of one token at least")
        )
    device = model.device
    pair = isinstance(model.body, EncoderDecoder)
    if ids is None and "inputs_embeds" not in inputs and "encoder_outputs" not in inputs:
        ids = _empty_prompt(options, inputs, device)
    inputs |= {"attention_mask": _mask(ids, mask, inputs, options, pair=pair)}
    prompt = _decoder_prompt(inputs, ids, options) if pair else ids
    if pair:
        inputs["input_ids"] = ids
    elif prompt is None:
        prompt = torch.zeros(len(inputs["inputs_embeds"]), 0, dtype=torch.long, device=device)
    assert prompt is not None
    steps = Steps(model, prompt, inputs, pair=pair, use_cache=options.use_cache)
    max_length = _max_length(model, options, prompt.shape[1], steps.offset)
    faults = [*_outside(model, given), *_unknown_ids(model, ids, given.get("decoder_input_ids"), pair=pair)]
    if options.strings and tokenizer is None:
        faults.append(Fault("stop_strings", "need tokenizer=, which spells the tokens"))
    if generator is not None and options.seed is not None:
        faults.append(Fault("seed", "give seed or generator, not both"))
    least = {"min_length": options.min_length, "min_new_tokens": prompt.shape[1] + (options.min_new_tokens or 0)}
    for name in least.keys() & given.keys():
        if given[name] and least[name] > max_length:
            faults.append(Fault(name, f"{given[name]} is more than the text may have"))
    if faults:
        raise UserError(*faults)
    if options.seed is not None:
        generator = torch.Generator(device).manual_seed(options.seed)
    shown = bool(own) or options.output_scores or options.output_logits
    static = options.cache_implementation == "static"
    steps.lighten(longest=max_length, shown=shown, static=static, beams=options.num_beams)
    processors = processors_of(
        options,
        source=None if ids is None else marked(ids, inputs["attention_mask"]),
        real=None if pair or ids is None else inputs["attention_mask"],
        prompt_length=prompt.shape[1],
        max_length=max_length,
        own=own,
    )
    stopping = Stopping(max_length, options.ends, options.strings, tokenizer, options.max_time)
    return _Work(steps, prompt, processors, stopping, options, generator, Trace(options))


def defaults_of(model: GeneratingModel) -> dict[str, Any]:
    """Generation options that come with a model: its `generation_config`, or else what its own options say."""
    if model.generation_config:
        found = dict(model.generation_config)
    else:
        known = vars(model.config) | model.config.published
        found = {name: known[name] for name in DEFAULTS if known.get(name) is not None}
        if known.get("force_bos_token_to_be_generated"):  # how config files of old say it
            found.setdefault("forced_bos_token_id", known.get("bos_token_id"))
    size = model.config.target_vocabulary()
    for name in TOKEN_OPTIONS:  # transformers' default of an option may lie outside a smaller vocabulary
        if size is not None and any(token >= size for token in _flat(found.get(name))):
            del found[name]
    found.pop("cache_implementation", None)  # it does not change texts, and names caches that there are none of here
    start = getattr(getattr(model.head, "config", None), "decoder_start_id", None)
    if start is not None:  # what the decoder began with in training
        found.setdefault("decoder_start_token_id", start)
    if unread := [name for name in OTHER_METHODS if found.get(name)]:
        logger.warning("the model's config requests an unsupported generation method: %s", ", ".join(unread))
    return found


def _empty_prompt(options: GenerationOptions, inputs: Inputs, device: torch.device) -> Tensor:
    if options.bos_token_id is None:
        raise UserError(Fault("input_ids", "without a prompt there must be a bos_token_id"))
    batch = next((len(x) for x in inputs.values() if isinstance(x, Tensor)), 1)
    return torch.full((batch, 1), options.bos_token_id, device=device)


def _mask(
    ids: Tensor | None, mask: Tensor | None, inputs: Inputs, options: GenerationOptions, *, pair: bool
) -> Tensor | None:
    """The mask of the prompt; where it is not given, padding tokens are masked if they cannot be ends of texts.

    Raises:
        UserError: a decoder's prompt is padded on the right, so that its continuation would not touch it.
    """
    guessed = mask is None
    given = ids if ids is not None else inputs.get("inputs_embeds")
    if mask is None:
        if given is None:
            return None
        mask = torch.ones(given.shape[:2], dtype=torch.long, device=given.device)
        padding = options.pad_token_id
        if ids is not None and padding is not None and padding not in options.ends:
            mask = (ids != padding).long()
    elif given is not None and mask.shape != given.shape[:2]:
        raise UserError(Fault("attention_mask", f"has shape {tuple(mask.shape)}, the prompt {tuple(given.shape[:2])}"))
    if not pair and mask.shape[1] and not bool(mask[:, -1].all()):
        row = int((mask[:, -1] == 0).nonzero()[0, 0])
        hint = "; if that is no padding, say so by an attention_mask of ones" if guessed else ""
        raise UserError(
            Fault("input_ids", f"row {row} ends with padding: a decoder continues from the last token, pad left{hint}")
        )
    return mask


def _decoder_prompt(inputs: Inputs, ids: Tensor | None, options: GenerationOptions) -> Tensor:
    """The decoder's first tokens: those given, after its start token."""
    source = next(
        x for x in (ids, inputs.get("inputs_embeds"), (inputs.get("encoder_outputs") or (None,))[0]) if x is not None
    )
    start = options.decoder_start_token_id if options.decoder_start_token_id is not None else options.bos_token_id
    given: Tensor | None = inputs.pop("decoder_input_ids", None)
    if start is None:
        if given is None:
            raise UserError(Fault("decoder_start_token_id", "a decoder must begin with some token"))
        return given
    if isinstance(start, list) and len(start) != len(source):
        raise UserError(Fault("decoder_start_token_id", f"{len(start)} tokens for {len(source)} texts"))
    first = torch.tensor(start, device=source.device).view(-1, 1).expand(len(source), 1)
    if given is None:
        return first
    if not bool((given[:, :1] != first).all()):
        return given
    if (mask := inputs.get("decoder_attention_mask")) is not None:
        inputs["decoder_attention_mask"] = torch.cat((torch.ones_like(mask[:, :1]), mask), 1)
    return torch.cat((first, given), 1)


def _max_length(model: GeneratingModel, options: GenerationOptions, prompt: int, offset: int) -> int:
    """The length of a text in ids at most. Vectors before it (`offset`) count for `max_length` too."""
    most, before = model.config.target_positions(), prompt + offset
    if options.max_new_tokens is not None:
        length = before + options.max_new_tokens
    elif options.max_length is not None:
        length = options.max_length
        if length <= before:
            raise UserError(Fault("max_length", f"{length} leaves no room after a prompt of {before} tokens"))
    else:
        length = min(before + NEW_TOKENS, max(most or 0, before + 1) if most else before + NEW_TOKENS)
    if most is not None and length > most:
        name = "max_length" if options.max_new_tokens is None and options.max_length else "max_new_tokens"
        raise UserError(
            Fault(name, f"a text of {length} tokens (prompt: {before}) is longer than the model's {most} positions")
        )
    return length - offset


def _outside(model: GeneratingModel, given: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of the call's tokens that are not in the vocabulary."""
    size = model.config.target_vocabulary()
    for name in TOKEN_OPTIONS:
        for token in _flat(given.get(name)):
            if size is not None and not 0 <= token < size:
                yield Fault(name, f"{token} is outside the vocabulary of {size}")


def _unknown_ids(model: GeneratingModel, ids: Tensor | None, target: Tensor | None, *, pair: bool) -> Iterator[Fault]:
    """Faults of prompts (batch, length) with ids that have no embedding, the first such id of each."""
    reader: Any = model.body.encoder if pair else model.body
    for name, given, part in (("input_ids", ids, reader), ("decoder_input_ids", target, model.body)):
        if given is None:
            continue
        size = part.embeddings.tokens.weight.shape[0]
        unknown = ((given < 0) | (given >= size)).nonzero()
        if len(unknown):
            row, place = unknown[0].tolist()
            more = f" ({len(unknown)} such ids)" if len(unknown) > 1 else ""
            message = f"row {row} has id {int(given[row, place])} at place {place}, outside the vocabulary of {size}"
            yield Fault(name, f"{message}{more}")


def _flat(ids: Any) -> list[int]:
    if isinstance(ids, list):
        return [token for part in ids for token in _flat(part)]
    return [] if ids is None else [ids]
