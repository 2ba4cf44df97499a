"""Each change of scores alone, on random scores, against the reference's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.models.generation.options import build_options
from eir_seq.models.generation.processors import marked, processors_of
from tests.parity.harness import transformers

reference = pytest.importorskip("transformers.generation.logits_process")
VOCABULARY, PROMPT, MAX_LENGTH = 40, 4, 12
ENDS = [7, 9]
SOURCE = torch.randint(0, 4, (3, 6), generator=torch.Generator().manual_seed(1))
SAMPLING: dict[str, Any] = {"do_sample": True, "top_k": 0}

Make = Callable[[], Any]
CASES: dict[str, tuple[dict[str, Any], Make]] = {
    "temperature": ({**SAMPLING, "temperature": 0.7}, lambda: reference.TemperatureLogitsWarper(0.7)),
    "top_k": ({"do_sample": True, "top_k": 5}, lambda: reference.TopKLogitsWarper(5)),
    "top_k for beams": ({"do_sample": True, "top_k": 2, "num_beams": 2, "eos_token_id": ENDS},
                        lambda: reference.TopKLogitsWarper(2, min_tokens_to_keep=3)),
    "top_p": ({**SAMPLING, "top_p": 0.8}, lambda: reference.TopPLogitsWarper(0.8)),
    "top_p of nothing": ({**SAMPLING, "top_p": 0.0}, lambda: reference.TopPLogitsWarper(0.0)),
    "top_p for beams": ({**SAMPLING, "top_p": 0.05, "num_beams": 2},
                        lambda: reference.TopPLogitsWarper(0.05, min_tokens_to_keep=2)),
    "min_p": ({**SAMPLING, "min_p": 0.2}, lambda: reference.MinPLogitsWarper(0.2)),
    "min_p for beams": ({**SAMPLING, "min_p": 0.9, "num_beams": 2},
                        lambda: reference.MinPLogitsWarper(0.9, min_tokens_to_keep=2)),
    "typical_p": ({**SAMPLING, "typical_p": 0.6}, lambda: reference.TypicalLogitsWarper(0.6)),
    "typical_p for beams": ({**SAMPLING, "typical_p": 0.05, "num_beams": 2},
                            lambda: reference.TypicalLogitsWarper(0.05, min_tokens_to_keep=2)),
    "epsilon_cutoff": ({**SAMPLING, "epsilon_cutoff": 0.02}, lambda: reference.EpsilonLogitsWarper(0.02)),
    "eta_cutoff": ({**SAMPLING, "eta_cutoff": 0.3}, lambda: reference.EtaLogitsWarper(0.3)),
    "repetition_penalty": ({"repetition_penalty": 1.7}, lambda: reference.RepetitionPenaltyLogitsProcessor(1.7)),
    "encoder_repetition_penalty": ({"encoder_repetition_penalty": 1.4},
                                   lambda: reference.EncoderRepetitionPenaltyLogitsProcessor(1.4, SOURCE)),
    **{f"no_repeat_ngram_size {n}": ({"no_repeat_ngram_size": n}, lambda n=n: reference.NoRepeatNGramLogitsProcessor(n))
       for n in (1, 2, 3)},
    **{f"encoder_no_repeat_ngram_size {n}": ({"encoder_no_repeat_ngram_size": n},
                                             lambda n=n: reference.EncoderNoRepeatNGramLogitsProcessor(n, SOURCE))
       for n in (1, 2, 3)},
    "bad_words_ids": ({"bad_words_ids": [[3], [5, 6], [1, 2, 3], [7]], "eos_token_id": ENDS},
                      lambda: reference.NoBadWordsLogitsProcessor([[3], [5, 6], [1, 2, 3], [7]], ENDS)),
    "sequence_bias": ({"sequence_bias": [[[3], 2.5], [[5, 6], -1.5]]},
                      lambda: reference.SequenceBiasLogitsProcessor([[[3], 2.5], [[5, 6], -1.5]])),
    "min_length": ({"min_length": 7, "eos_token_id": ENDS}, lambda: reference.MinLengthLogitsProcessor(7, ENDS)),
    "min_new_tokens": ({"min_new_tokens": 2, "eos_token_id": ENDS},
                       lambda: reference.MinNewTokensLengthLogitsProcessor(PROMPT, 2, ENDS)),
    "forced_bos_token_id": ({"forced_bos_token_id": 4}, lambda: reference.ForcedBOSTokenLogitsProcessor(4)),
    "forced_eos_token_id": ({"forced_eos_token_id": ENDS},
                            lambda: reference.ForcedEOSTokenLogitsProcessor(MAX_LENGTH, ENDS)),
    "remove_invalid_values": ({"remove_invalid_values": True}, lambda: reference.InfNanRemoveLogitsProcessor()),
    "exponential_decay_length_penalty": (
        {"exponential_decay_length_penalty": [2, 1.3], "eos_token_id": ENDS},
        lambda: reference.ExponentialDecayLengthPenalty((2, 1.3), ENDS, PROMPT)),
    "suppress_tokens": ({"suppress_tokens": [1, 30]}, lambda: reference.SuppressTokensLogitsProcessor([1, 30])),
    "begin_suppress_tokens": ({"begin_suppress_tokens": [2, 8]},
                              lambda: reference.SuppressTokensAtBeginLogitsProcessor([2, 8], PROMPT)),
    "renormalize_logits": ({"renormalize_logits": True}, lambda: reference.LogitNormalization()),
}  # fmt: skip


def texts(length: int, vocabulary: int, seed: int) -> Tensor:
    return torch.randint(0, vocabulary, (3, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CASES)
def test_alone(name: str) -> None:
    """At every length, on texts of few tokens too, where runs repeat; something changes at one of them."""
    given, make = CASES[name]
    ours = processors_of(build_options(given, {}), source=SOURCE, prompt_length=PROMPT, max_length=MAX_LENGTH)
    assert len(ours) == 1
    theirs, changed = make(), False
    # a run that begins the text is left alone by the reference; see the last test
    for length in range(3 if name in ("bad_words_ids", "sequence_bias") else 1, MAX_LENGTH):
        for vocabulary in (4, VOCABULARY):
            ids = texts(length, vocabulary, length)
            scores = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(length)) * 3
            if name == "remove_invalid_values":
                scores[0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
            before = scores.clone()
            found, expected = ours[0](ids, scores), theirs(ids, scores.clone())
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
            assert torch.equal(scores.nan_to_num(), before.nan_to_num())  # what was given is left alone
            changed |= not torch.equal(found, before)
    assert changed


def test_all_together_in_the_reference_order() -> None:
    """The order matters: cuts behind penalties, and among themselves."""
    ends = [30, 31]  # which no ban can meet: the reference makes a banned end that gets likelier no number
    given = {
        "do_sample": True, "temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.95,
        "epsilon_cutoff": 1e-3, "eta_cutoff": 1e-3, "repetition_penalty": 1.2, "no_repeat_ngram_size": 2,
        "bad_words_ids": [[3], [5, 6]], "min_new_tokens": 2, "suppress_tokens": [1], "renormalize_logits": True,
        "exponential_decay_length_penalty": [3, 1.1], "eos_token_id": ends, "encoder_repetition_penalty": 1.1,
        "encoder_no_repeat_ngram_size": 3,
    }  # fmt: skip
    options = build_options(given, {})
    ours = processors_of(options, source=SOURCE, prompt_length=PROMPT, max_length=MAX_LENGTH)
    config = transformers.GenerationConfig(**given, max_length=MAX_LENGTH)
    config._eos_token_tensor = torch.tensor(ends)
    mixin = transformers.GenerationMixin()
    theirs = mixin._get_logits_processor(config, PROMPT, SOURCE, device="cpu")
    assert len(ours) == len(theirs)
    for length in range(PROMPT, MAX_LENGTH):
        ids = texts(length, 12, length)
        scores = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(length)) * 3
        found = scores
        for process in ours:
            found = process(ids, found)
        torch.testing.assert_close(found, theirs(ids, scores.clone()), atol=1e-5, rtol=1e-5)


def test_padding_is_no_text() -> None:
    """What a penalty or a ban does to a text does not depend on the padding in front of it; the reference counts it."""
    given = {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "encoder_repetition_penalty": 1.3,
             "encoder_no_repeat_ngram_size": 3}  # fmt: skip
    options = build_options(given, {})
    ids, scores = texts(6, 5, 0), torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(3))
    real = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]])
    together = processors_of(options, source=marked(ids[:, :4], real), real=real, prompt_length=4, max_length=9)
    found = scores
    for process in together:
        found = process(ids, found)
    for row, padding in enumerate((2, 1, 0)):
        text = ids[row : row + 1, padding:]
        expected = scores[row : row + 1]
        for process in processors_of(options, source=text[:, : 4 - padding], prompt_length=4 - padding, max_length=9):
            expected = process(text, expected)
        torch.testing.assert_close(found[row : row + 1], expected)


def test_a_bad_word_that_begins_the_text() -> None:
    options = build_options({"bad_words_ids": [[5, 6, 7]]}, {})
    (process,) = processors_of(options, source=None, prompt_length=2, max_length=9)
    found = process(torch.tensor([[5, 6], [5, 5]]), torch.zeros(2, VOCABULARY))
    assert (found == -float("inf")).nonzero().tolist() == [[0, 7]]


def test_a_banned_end_stays_banned() -> None:
    given = {"exponential_decay_length_penalty": [0, 1.5], "min_new_tokens": 5, "eos_token_id": ENDS}
    scores = torch.zeros(1, VOCABULARY)
    for process in processors_of(build_options(given, {}), source=None, prompt_length=1, max_length=9):
        scores = process(torch.tensor([[5, 6]]), scores)
    assert (scores == -float("inf")).nonzero()[:, 1].tolist() == ENDS
