"""Options of text generation: transformers' names, defaults and meanings, and what cannot be combined."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.options import Options, default_of, option, problem_of

NEW_TOKENS = 20
"""Length of a continuation where neither the caller nor the model gives one."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(Options):
    """How text is generated, by transformers' names."""

    model_type: ClassVar[str] = "generate"

    max_new_tokens: int | None = option(
        None, f"tokens to generate at most; {NEW_TOKENS} if max_length is absent too", minimum=1
    )
    max_length: int | None = option(
        None,
        "tokens at most, those of the prompt (of a decoder's prompt where there is an encoder) counted in",
        minimum=1,
    )
    min_new_tokens: int | None = option(None, "tokens to generate before a text may end", minimum=0)
    min_length: int = option(0, "the same, those of the prompt counted in", minimum=0)
    max_time: float | None = option(None, "seconds after which generation stops", minimum=0)
    stop_strings: list[str] | str | None = option(None, "texts that stop generation (needs tokenizer)")
    num_return_sequences: int = option(1, "texts per prompt: samples, or the best beams", minimum=1)

    do_sample: bool = option(False, "sample tokens by their probabilities instead of taking the most likely")
    temperature: float = option(1.0, "divides the logits; below 1 the distribution is sharper (sampling)")
    top_k: int | None = option(50, "sample only from this many most likely tokens; 0: all (sampling)", minimum=0)
    top_p: float | None = option(
        1.0, "nucleus sampling: only the most likely tokens with this total probability", minimum=0.0, maximum=1.0
    )
    min_p: float | None = option(
        None, "only tokens with this share of the highest probability (sampling)", minimum=0.0, maximum=1.0
    )
    typical_p: float | None = option(
        1.0,
        "locally typical sampling: tokens nearest to the expected information content, with this total probability",
        minimum=0.0,
        maximum=1.0,
    )
    epsilon_cutoff: float = option(0.0, "only tokens of at least this probability (sampling)", minimum=0.0, maximum=1.0)
    eta_cutoff: float = option(
        0.0, "the same, with a bound that falls where the scores are undecided (sampling)", minimum=0.0, maximum=1.0
    )
    seed: int | None = option(None, "random seed: the same seed gives the same texts (sampling)")

    num_beams: int = option(1, "number of beams; 1 for no beam search", minimum=1)
    length_penalty: float = option(
        1.0, "power of the length that a beam's score is divided by: above zero favours long texts (beams)"
    )
    early_stopping: bool | Literal["never"] = option(
        False,
        "end as soon as there are num_beams finished texts (true), when a better one is unlikely (false), or when a "
        "better one is impossible (never) (beams)",
    )
    num_beam_groups: int = option(1, "groups of beams, for diverse beam search (beams)", minimum=1)
    diversity_penalty: float = option(
        0.0, "taken off a token's score for each time that an earlier group chose it at this place (beam groups)"
    )

    repetition_penalty: float = option(1.0, "above one: tokens that the text has already become less likely")
    encoder_repetition_penalty: float = option(1.0, "above one: tokens of the source (or the prompt) become likelier")
    no_repeat_ngram_size: int = option(0, "no run of this many tokens occurs twice; 0: any may", minimum=0)
    encoder_no_repeat_ngram_size: int = option(
        0, "no run of this many tokens of the source (or the prompt) occurs; 0: any may", minimum=0
    )
    bad_words_ids: list[list[int]] | None = option(None, "runs of tokens that never occur")
    sequence_bias: list[list[Any]] | None = option(
        None, "pairs of a token sequence and the bias on the score of its last token after the others"
    )
    suppress_tokens: list[int] | None = option(None, "tokens that never occur")
    begin_suppress_tokens: list[int] | None = option(None, "tokens that do not occur at the first place")
    forced_bos_token_id: int | None = option(None, "first generated token (for example the target language)")
    forced_eos_token_id: int | list[int] | None = option(None, "token at the last place that max_length leaves")
    exponential_decay_length_penalty: list[float] | None = option(
        None, "from this many new tokens on, the end becomes likelier by this factor for every further one: [40, 1.05]"
    )
    renormalize_logits: bool = option(False, "renormalize scores to log-probabilities after all changes")
    remove_invalid_values: bool = option(False, "scores that are not finite are replaced by finite ones")

    bos_token_id: int | None = option(None, "token that an absent prompt is replaced by")
    pad_token_id: int | None = option(None, "token that pads finished texts; by default the (first) end-of-text token")
    eos_token_id: int | list[int] | None = option(None, "token (or several) that ends a text")
    decoder_start_token_id: int | list[int] | None = option(
        None, "first token of a decoder (one for each text if a list); by default that of its training"
    )

    use_cache: bool = option(True, "cache earlier tokens instead of computing them again")
    cache_implementation: str | None = option(
        None,
        "dynamic (the default): keys and values of earlier tokens are in buffers that grow; static: they have room for "
        "all tokens from the start, and a GPU replays steps as CUDA graphs",
        choices=("dynamic", "static"),
    )
    return_dict_in_generate: bool = option(False, "return a GenerationOutput instead of sequences")
    output_scores: bool = option(False, "the output holds the changed scores of every step, and those of beams")
    output_logits: bool = option(False, "the output holds the scores of every step as the model gave them")

    @property
    def ends(self) -> list[int]:
        """The end-of-text tokens."""
        return _listed(self.eos_token_id)

    @property
    def padding(self) -> int:
        """What fills up ended texts."""
        return next(iter((*_listed(self.pad_token_id), *self.ends)), 0)

    @property
    def strings(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop_strings,) if isinstance(self.stop_strings, str) else tuple(self.stop_strings or ())

    def problems_of(self, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Pairs (option, what is wrong), also for options that were `given` but that nothing would read."""
        if self.temperature == 0:
            yield "temperature", "0 would always take the most likely token: set do_sample=False"
        elif self.temperature < 0:
            yield "temperature", f"{self.temperature} must be above zero"
        for name in ("repetition_penalty", "encoder_repetition_penalty"):
            if getattr(self, name) <= 0:
                yield name, f"{getattr(self, name)} must be above zero"
        if self.num_beams % self.num_beam_groups:
            yield "num_beam_groups", f"{self.num_beam_groups} does not divide num_beams {self.num_beams}"
        if self.num_beam_groups > 1 and self.do_sample:
            yield "num_beam_groups", "groups of beams are kept apart by their scores, not by sampling: do_sample=False"
        if self.num_beams > 1 and self.num_return_sequences > self.num_beams:
            yield "num_return_sequences", f"{self.num_return_sequences} is more than num_beams {self.num_beams}"
        if self.num_beams == 1 and not self.do_sample and self.num_return_sequences > 1:
            yield "num_return_sequences", "without do_sample=True or num_beams all of the texts would be the same"
        if {"max_length", "max_new_tokens"} <= given.keys() and None not in (self.max_length, self.max_new_tokens):
            yield "max_length", "give max_length or max_new_tokens, not both"
        if len(self.exponential_decay_length_penalty or (0, 0)) != 2:
            yield "exponential_decay_length_penalty", "must be two numbers: where it begins, and the factor"
        if self.exponential_decay_length_penalty and not self.ends:
            yield "exponential_decay_length_penalty", "needs eos_token_id, which it makes likelier"
        if not all(self.bad_words_ids or [True]):
            yield "bad_words_ids", "holds a run without tokens"
        if not all(map(_is_biased_run, self.sequence_bias or [])):
            yield "sequence_bias", "must hold pairs of a list of tokens and a number: [[[5, 6], -2.0]]"
        if self.cache_implementation is not None and not self.use_cache:
            yield "cache_implementation", f"{self.cache_implementation!r} needs a cache: add use_cache=True"
        if "" in self.strings:
            yield "stop_strings", "an empty text would end every continuation at once"
        yield from self._unread(given)

    def _unread(self, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        conditions = (
            (SAMPLING, self.do_sample, "only sampling reads it: add do_sample=True"),
            (BEAMS, self.num_beams > 1, "only beam search reads it: add num_beams"),
            (("diversity_penalty",), self.num_beam_groups > 1, "only groups of beams read it: add num_beam_groups"),
            (("output_scores", "output_logits"), self.return_dict_in_generate, "needs return_dict_in_generate=True"),
        )
        for names, read, reason in conditions:
            for name in names:
                if not read and name in given and given[name] not in (DEFAULTS[name], None):
                    yield name, reason


FIELDS = {field.name: field for field in dataclasses.fields(GenerationOptions)}
DEFAULTS: dict[str, Any] = {name: default_of(field) for name, field in FIELDS.items()}
HINTS = typing.get_type_hints(GenerationOptions)
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "seed")
BEAMS = ("length_penalty", "early_stopping")
TOKEN_OPTIONS = (
    "bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens", "bad_words_ids",
)  # fmt: skip
OTHER_METHODS = (
    "penalty_alpha", "assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit", "constraints",
    "force_words_ids", "dola_layers", "guidance_scale", "watermarking_config", "token_healing",
)  # fmt: skip
"""Documented options of ways to generate that there are none of here."""


def build_options(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> GenerationOptions:
    """The options of a call, over those of its model, over transformers' defaults.

    Raises:
        UserError: unknown options (the nearest is named), values out of range, combinations that cannot work.
    """
    faults = []
    for name, value in given.items():
        if name in OTHER_METHODS:
            faults.append(Fault(name, "this way of generating is not supported"))
        elif name not in FIELDS:
            faults.append(Fault(name, f"not an option of generate{nearest(name, FIELDS)}"))
        elif (problem := problem_of(value, HINTS[name], FIELDS[name].metadata)) is not None:
            faults.append(Fault(name, problem))
    if faults:
        raise UserError(*faults)
    resolved = {name: value for name, value in defaults.items() if name in FIELDS and value is not None}
    for name in list(resolved):
        if (problem := problem_of(resolved[name], HINTS[name], FIELDS[name].metadata)) is not None:
            raise UserError(Fault(name, problem, "the model's own generation options"))
    if given.get("max_new_tokens") is not None:
        resolved.pop("max_length", None)
    elif given.get("max_length") is not None:
        resolved.pop("max_new_tokens", None)
    options = GenerationOptions(**{**resolved, **given})
    if found := [Fault(*problem) for problem in options.problems_of(given)]:
        raise UserError(*found)
    return options


def _listed(ids: int | list[int] | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


def _is_biased_run(pair: Any) -> bool:
    return (
        len(pair) == 2
        and isinstance(pair[0], (list, tuple))
        and bool(pair[0])
        and all(isinstance(token, int) for token in pair[0])
        and isinstance(pair[1], (int, float))
    )
