"""Where ours differ from the reference on purpose: what docs/decisions/departures.md says of both holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.cases import CASES
from tests.parity.harness import Pair, pair

BY_NAME = {case.name: case for case in CASES}
FAR, CLOSE = 1e-4, 1e-5
"""Differences far beyond rounding, and within it."""


def made(name: str, task: str, folder: Path, **options: Any) -> Pair:
    case = BY_NAME[name]
    return pair(replace(case, options={**case.options, **options}), task, folder)


def texts(rows: int = 3, length: int = 8, seed: int = 3) -> Tensor:
    return torch.randint(11, 90, (rows, length), generator=torch.Generator().manual_seed(seed))


def largest(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max())


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.no_grad():
        yield


def test_imagegpt_divides_by_the_root_itself(tmp_path: Path) -> None:
    both = made("imagegpt", "base", tmp_path, n_embd=48, n_head=2)
    ids = texts()
    assert largest(both.ours(ids).last_hidden_state, both.reference(ids).last_hidden_state) > FAR
    for block in both.reference.h:  # queries that make up for it
        weights = block.attn.c_attn
        weights.weight[:, :48] *= 4 / 24**0.5
        weights.bias[:48] *= 4 / 24**0.5
    assert largest(both.ours(ids).last_hidden_state, both.reference(ids).last_hidden_state) < CLOSE


@pytest.mark.parametrize("name", ["mamba", "rwkv"])
def test_states_follow_their_beams(name: str, tmp_path: Path) -> None:
    both = made(name, "causal-lm", tmp_path)
    asked = {"max_new_tokens": 10, "num_beams": 4, "num_return_sequences": 4, "eos_token_id": [2], "pad_token_id": 0}
    asked |= {"return_dict_in_generate": True, "output_scores": True}
    found = [
        model.generate(texts(rows=1), **asked, use_cache=use_cache).sequences_scores
        for model in (both.reference, both.ours)
        for use_cache in (False, True)
    ]
    assert largest(found[1], found[0]) > FAR
    assert largest(found[2], found[0]) < CLOSE
    assert largest(found[3], found[0]) < CLOSE


def test_a_cached_step_of_rwkv_keeps_its_texts_apart(tmp_path: Path) -> None:
    both, ids = made("rwkv", "causal-lm", tmp_path), texts()
    step = both.reference(ids[:, -1:], state=both.reference(ids[:, :-1], use_cache=True).state, use_cache=True).logits
    assert step.shape[:2] == (3, 3)
    whole = both.reference(ids).logits[:, -1]
    ours = both.ours(ids[:, -1:], state=both.ours(ids[:, :-1]).state).logits[:, -1]
    assert largest(ours, whole) < CLOSE


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
@pytest.mark.parametrize("name", ["bert", "roberta", "megatron-bert", "electra", "bert-generation"])
def test_a_cached_step_with_relative_positions_equals_one_pass(name: str, kind: str, tmp_path: Path) -> None:
    both = made(name, "causal-lm", tmp_path, position_embedding_type=kind, is_decoder=True)
    ids = texts()
    mask = torch.ones_like(ids)
    whole = both.reference(ids, attention_mask=mask, use_cache=False).logits[:, -1]
    first = both.reference(ids[:, :-1], attention_mask=mask[:, :-1], use_cache=True).past_key_values
    step = both.reference(ids[:, -1:], attention_mask=mask, past_key_values=first, use_cache=True).logits[:, -1]
    assert largest(step, whole) > FAR
    assert largest(both.ours(ids).logits[:, -1], whole) < CLOSE
    asked: dict[str, Any] = {"max_new_tokens": 5, "eos_token_id": [2], "return_dict_in_generate": True}
    cached, anew = (both.ours.generate(ids, **asked, output_logits=True, use_cache=use) for use in (True, False))
    for ours, expected in zip(cached.logits, anew.logits, strict=True):
        assert largest(ours, expected) < CLOSE


def test_without_a_mask_all_tokens_of_t5gemma_are_text(tmp_path: Path) -> None:
    both, ids = made("t5gemma", "seq2seq-lm", tmp_path), texts()
    ids[1, -3:] = both.reference.config.pad_token_id
    given = {"input_ids": ids, "decoder_input_ids": texts(seed=4)[:, :5]}
    marked = {"attention_mask": torch.ones_like(ids), "decoder_attention_mask": torch.ones(3, 5, dtype=torch.long)}
    whole = both.reference(**given, **marked).logits
    assert largest(both.reference(**given).logits, whole) > FAR
    assert largest(both.ours(**given).logits, whole) < CLOSE


@pytest.mark.parametrize("name", ["nystromformer", "yoso"])
def test_ids_of_padding_change_nothing(name: str, tmp_path: Path) -> None:
    both, ids = made(name, "base", tmp_path), texts(rows=1, length=24)
    mask = torch.ones_like(ids)
    mask[:, -8:] = 0
    others = torch.where(mask.bool(), ids, 7)
    theirs, ours = (
        [model(x, attention_mask=mask).last_hidden_state[:, :-8] for x in (ids, others)]
        for model in (both.reference, both.ours)
    )
    assert largest(*theirs) > FAR
    assert largest(*ours) == 0.0
    assert largest(ours[0], both.ours(ids[:, :-8]).last_hidden_state) < CLOSE


@pytest.mark.parametrize("padding", [0, 5])
def test_padding_follows_the_end_of_a_beam(padding: int, tmp_path: Path) -> None:
    both = made("gpt2", "causal-lm", tmp_path)
    ends = [2, *range(30, 60)]
    asked = {"max_new_tokens": 10, "num_beams": 3, "eos_token_id": ends, "pad_token_id": padding}
    theirs, ours = (model.generate(texts(), **asked)[0, 8:].tolist() for model in (both.reference, both.ours))
    length = 1 + next(place for place, token in enumerate(ours) if token in ends)
    assert length < 10
    assert ours[:length] == theirs[:length]
    assert ours[length:] == [padding] * (10 - length)
    assert theirs[length:] == [padding or ends[0]] * (10 - length)
