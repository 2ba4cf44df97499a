"""Generation: texts equal to the reference's, for every architecture that generates.

The reference continues each prompt by itself, without padding; ours continue them together, padded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.models.catalogue import architecture
from eir_seq.models.generation.generate import TASKS
from tests.parity.cases import CASES, Case
from tests.parity.harness import DECODER, Pair, inputs_of, pair, transformers
from tests.sampled import sampled

UNGENERATED = ("reformer", "xlm-prophetnet")
"""Prompts are as long as reformer's positions here (it has a test of its own); the reference's classes of the other
have lost their generation, ours is that of prophetnet."""
CALLS = [
    (case, task)
    for case in CASES
    for task, declared in architecture(case.model_type).tasks.items()
    if (task in TASKS or declared.decoding is not None) and case.model_type not in UNGENERATED
]
ids = {"ids": lambda case: case.name if isinstance(case, Case) else None}

ENDS = [2, *range(30, 38)]
"""Several ends, so that random texts do end, at different lengths."""
BEAMS: dict[str, dict[str, Any]] = {
    "plain": {"num_beams": 3},
    "early": {"num_beams": 4, "early_stopping": True, "length_penalty": 2.0, "num_return_sequences": 3},
    "endless": {"num_beams": 3, "eos_token_id": [2]},
    "never": {"num_beams": 3, "early_stopping": "never", "length_penalty": 0.6},
    "short": {"num_beams": 2, "length_penalty": -1.0, "num_return_sequences": 2},
    "penalties": {"num_beams": 3, "repetition_penalty": 1.7, "no_repeat_ngram_size": 2, "min_new_tokens": 4},
}  # fmt: skip
ALL_BEAMS = ("gpt2", "llama", "t5", "xlnet")
"""Architectures that try all of them."""


pytestmark = pytest.mark.usefixtures("one_thread")


DUMMY = ("bert", "ernie", "megatron-bert", "rembert", "roc_bert", "roformer")
"""The reference puts a padding token behind the text and takes its scores, though these classes learn otherwise."""
OFFSET = ("camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl")
"""The reference counts positions from 0, though these begin behind the padding id."""
UNREAD = {
    "ctrl": ("token_type_ids",),
    "ernie": ("task_type_ids",),
    "roc_bert": ("input_shape_ids", "input_pronunciation_ids"),
    "xlnet": ("token_type_ids",),
    "xlm": ("langs", "token_type_ids"),
    "flaubert": ("langs", "token_type_ids"),
    "mega": ("token_type_ids",),
}
"""Inputs that the reference's texts do not carry on."""


def both_of(case: Case, task: str, folder: Path) -> Pair:
    """The pair, whose reference predicts by the state of the last token, at its own position."""
    both = pair(case, task, folder, **DECODER.get((case.model_type, task), {}))
    if case.model_type in (*DUMMY, *OFFSET):
        generic = transformers.GenerationMixin.prepare_inputs_for_generation

        def prepare(input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
            found: dict[str, Any] = generic(both.reference, input_ids, **kwargs)
            if case.model_type in OFFSET:
                found.pop("position_ids", None)
            return found

        both.reference.prepare_inputs_for_generation = prepare
    if case.model_type == "mega":  # the reference's class has lost its generation
        cls = type(both.reference)
        both.reference.__class__ = type(cls.__name__, (cls, transformers.GenerationMixin), {})
        both.reference.generation_config = transformers.GenerationConfig.from_model_config(both.reference.config)
    return both


def prompts(case: Case, both: Pair) -> dict[str, Tensor]:
    """Texts padded on the left, with what belongs to them; those of an encoder stand as they do in training."""
    pair = both.reference.config.is_encoder_decoder
    given = inputs_of(case, both.reference.config, left=not pair)
    if not pair:
        given["input_ids"][:, -1] = 50  # a text that goes on
    unread = UNREAD.get(case.model_type, ())
    return {name: x for name, x in given.items() if not name.startswith("decoder_") and name not in unread}


def alone(given: dict[str, Any], row: int) -> dict[str, Any]:
    """One row of the inputs without its padding."""
    real = given["attention_mask"][row].bool()
    found = {}
    for name, x in given.items():
        if isinstance(x, Tensor):
            per_token = x.shape[1:2] == real.shape and not x.is_floating_point()
            found[name] = x[row : row + 1, real] if per_token else x[row : row + 1]
        else:
            found[name] = x
    return found


def ended(text: Tensor, prompt: int, ends: list[int]) -> list[int]:
    """The new tokens of a text up to its end."""
    new = text[prompt:].tolist()
    first = next((place for place, token in enumerate(new) if token in ends), len(new))
    return new[: first + 1]


def agree(case: Case, both: Pair, **options: Any) -> None:
    """Ours continue all prompts as the reference continues each."""
    options = {"max_new_tokens": 10, "eos_token_id": ENDS, **options}
    given, texts = prompts(case, both), options.get("num_return_sequences", 1)
    mixes = case.model_type == "prophetnet"  # tokens that are read at once, padding too, mix their biases
    blocks = case.model_type in ("bigbird_pegasus", "reformer")  # which are those of the batch as it is padded
    padded = case.options.get("causal") or (
        mixes and not both.reference.config.is_encoder_decoder
    )  # padding is read here
    if blocks or padded:
        given = alone(given, 0)
    ours = both.ours.generate(**given, **options)
    assert isinstance(ours, Tensor)
    for row in range(len(given["input_ids"])):
        single = alone(given, row)
        theirs = both.reference.generate(**{**single, **options, "use_cache": mixes})
        begins = [1 if both.reference.config.is_encoder_decoder else x["input_ids"].shape[1] for x in (single, given)]
        expected = [ended(text, begins[0], options["eos_token_id"]) for text in theirs]
        found = [ended(text, begins[1], options["eos_token_id"]) for text in ours[row * texts : (row + 1) * texts]]
        assert found == expected, f"row {row}"


@pytest.mark.parametrize(("case", "task"), sampled(CALLS, 1 / 3, always=lambda call: "@" not in call[0].name), **ids)
def test_greedy(case: Case, task: str, tmp_path: Path) -> None:
    both = both_of(case, task, tmp_path)
    agree(case, both)
    if "@" not in case.name:
        agree(case, both, repetition_penalty=1.5)


@pytest.mark.parametrize(
    ("case", "task"),
    sampled([call for call in CALLS if "@" not in call[0].name], 1 / 3, always=lambda call: call[0].name in ALL_BEAMS),
    **ids,
)
def test_beams(case: Case, task: str, tmp_path: Path) -> None:
    both = both_of(case, task, tmp_path)
    for name in BEAMS if case.name in ALL_BEAMS else ("never", "penalties"):
        agree(case, both, **BEAMS[name])


def reference_groups(
    reference: Any,
    given: dict[str, Tensor],
    ends: list[int],
    *,
    beams: int,
    groups: int,
    penalty: float,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Texts and scores by the reference's own parts; its loop over groups is no longer in the release."""
    parts = pytest.importorskip("transformers.generation.beam_search")
    processors = pytest.importorskip("transformers.generation.logits_process")
    size, prompt = beams // groups, given["input_ids"].shape[1]
    scorer = parts.BeamSearchScorer(
        1, beams, torch.device("cpu"), options["length_penalty"], options["early_stopping"], beams, groups, prompt + 10
    )
    diversity = processors.HammingDiversityLogitsProcessor(penalty, beams, groups)
    ids = given["input_ids"].repeat_interleave(beams, 0)
    totals = torch.full((beams,), -1e9)
    totals[::size] = 0
    while ids.shape[1] < prompt + 10 and not scorer.is_done:
        chances = reference(input_ids=ids, use_cache=False).logits[:, -1].log_softmax(-1)
        chosen, order = torch.zeros(beams, dtype=torch.long), torch.zeros(beams, dtype=torch.long)
        for group in range(groups):
            own = slice(group * size, (group + 1) * size)
            scores = diversity(ids[own], chances[own], chosen, group) + totals[own, None]
            best, places = scores.view(1, -1).topk(max(2, 1 + len(ends)) * size)
            vocabulary = scores.shape[-1]
            found = scorer.process(
                ids[own], best, places % vocabulary, places // vocabulary, 0, ends, group_index=group,
                decoder_prompt_len=prompt,
            )  # fmt: skip
            totals[own], chosen[own] = found["next_beam_scores"], found["next_beam_tokens"]
            order[own] = found["next_beam_indices"] + own.start
        ids = torch.cat((ids[order], chosen[:, None]), 1)
    found = scorer.finalize(ids, totals, chosen, order, prompt + 10, 0, ends, decoder_prompt_len=prompt)
    return found["sequences"], found["sequence_scores"]


@pytest.mark.parametrize("early", [True, "never", False], ids=str)
@pytest.mark.parametrize(("groups", "penalty"), [(2, 0.4), (4, 1.5)], ids=str)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_groups_of_beams(name: str, groups: int, penalty: float, early: bool | str, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    both = pair(case, "causal-lm", tmp_path)
    given = prompts(case, both)
    options: dict[str, Any] = {"length_penalty": 0.7, "early_stopping": early}
    output = both.ours.generate(
        **given, **options, max_new_tokens=10, eos_token_id=ENDS, pad_token_id=0, num_beams=4, num_return_sequences=4,
        num_beam_groups=groups, diversity_penalty=penalty, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    for row in range(3):
        single = alone(given, row)
        texts, scores = reference_groups(
            both.reference, single, ENDS, beams=4, groups=groups, penalty=penalty, **options
        )
        ours = slice(4 * row, 4 * row + 4)
        expected = [ended(text, single["input_ids"].shape[1], ENDS) for text in texts]
        found = [ended(text, given["input_ids"].shape[1], ENDS) for text in output.sequences[ours]]
        for text in found:
            text[-1] = ENDS[0] if text[-1] in ENDS else text[-1]  # the reference writes the first end for each of them
        assert found == expected
        torch.testing.assert_close(output.sequences_scores[ours], scores, atol=1e-5, rtol=1e-5)


OPTIONS: dict[str, dict[str, Any]] = {
    "max_length": {"max_length": 29, "max_new_tokens": None},
    "min_length": {"min_length": 28},
    "min_new_tokens": {"min_new_tokens": 7},
    "forced_bos_token_id": {"forced_bos_token_id": 77},
    "forced_eos_token_id": {"forced_eos_token_id": 78},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 1},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 3.0},
    "bad_words_ids": {"bad_words_ids": [[118], [109, 4], [45]]},
    "sequence_bias": {"sequence_bias": [[[20], 6.0], [[20, 21], 9.0]]},
    "suppress_tokens": {"suppress_tokens": [118, 109, 4, 45]},
    "begin_suppress_tokens": {"begin_suppress_tokens": [118, 109, 4, 45, 24, 70]},
    "exponential_decay_length_penalty": {"exponential_decay_length_penalty": (2, 1.6)},
    "renormalize_logits": {"renormalize_logits": True, "repetition_penalty": 2.0},
    "decoder_start_token_id": {"decoder_start_token_id": 55},
}


@pytest.mark.parametrize(
    ("name", "option", "beams"),
    sampled(
        [(name, option, beams) for name in ("gpt2", "t5") for option in OPTIONS for beams in (1, 3)],
        1 / 3,
        always=lambda case: case[0] == "gpt2" and case[2] == 1,
    ),
)
def test_option(name: str, option: str, beams: int, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    both = pair(case, "seq2seq-lm" if name == "t5" else "causal-lm", tmp_path)
    if beams > 1 and option == "encoder_repetition_penalty":
        pytest.skip("the reference penalizes in the first beam only")
    options = {**OPTIONS[option], "num_beams": beams}
    if option == "max_length":  # counted with the prompt, so each prompt has its own
        for row in range(3):
            single = alone(prompts(case, both), row)
            given = {**single, **options, "eos_token_id": ENDS}
            ours, theirs = both.ours.generate(**given), both.reference.generate(**given, use_cache=False)
            assert isinstance(ours, Tensor)
            begin = 1 if name == "t5" else single["input_ids"].shape[1]
            assert [ended(x, begin, ENDS) for x in ours] == [ended(x, begin, ENDS) for x in theirs]
            assert ours.shape[1] <= 29
    elif option == "min_length":
        agree(case, both, min_length=5 if name == "t5" else 0, min_new_tokens=None, num_beams=beams)
    else:
        agree(case, both, **options)


def test_vectors_as_a_prompt(tmp_path: Path) -> None:
    """Only the new tokens come back, with a cache and without."""
    case = next(case for case in CASES if case.name == "llama")
    both = pair(case, "causal-lm", tmp_path)
    given = prompts(case, both)
    vectors = both.reference.get_input_embeddings()(given.pop("input_ids"))
    expected = both.reference.generate(inputs_embeds=vectors, **given, max_new_tokens=9)
    for cache in (True, False):
        found = both.ours.generate(inputs_embeds=vectors, **given, max_new_tokens=9, use_cache=cache)
        assert torch.equal(found, expected)


def test_a_decoder_prompt(tmp_path: Path) -> None:
    """Behind the start token, unless it is there already; and the encoder's states, if they are given."""
    case = next(case for case in CASES if case.name == "t5")
    both = pair(case, "seq2seq-lm", tmp_path)
    given = prompts(case, both)
    for decoder in (torch.tensor([[40, 41]] * 3), torch.tensor([[0, 41]] * 3)):
        expected = both.reference.generate(**given, decoder_input_ids=decoder, max_new_tokens=6, use_cache=False)
        assert torch.equal(both.ours.generate(**given, decoder_input_ids=decoder, max_new_tokens=6), expected)
    encoder = both.ours.body.encoder(given["input_ids"], given["attention_mask"])
    states = both.ours.generate(
        encoder_outputs=(encoder.last_hidden_state,),
        attention_mask=given["attention_mask"],
        max_new_tokens=6,
        num_beams=2,
    )
    assert torch.equal(states, both.ours.generate(**given, max_new_tokens=6, num_beams=2))


@pytest.mark.parametrize("beams", [1, 3], ids=["greedy", "beams"])
def test_scores_of_every_step(beams: int, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "gpt2")
    both = pair(case, "causal-lm", tmp_path)
    given = prompts(case, both)
    wanted = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
    options = {**wanted, "num_beams": beams, "max_new_tokens": 6, "eos_token_id": [119], "suppress_tokens": [118]}
    theirs, ours = both.reference.generate(**given, **options), both.ours.generate(**given, **options)
    assert torch.equal(ours.sequences, theirs.sequences)
    for name in ("scores", "logits"):
        assert len(getattr(ours, name)) == 6
        torch.testing.assert_close(torch.stack(getattr(ours, name)), torch.stack(theirs[name]), atol=1e-4, rtol=1e-4)
    if beams > 1:
        torch.testing.assert_close(ours.sequences_scores, theirs.sequences_scores, atol=1e-5, rtol=1e-5)
        assert torch.equal(ours.beam_indices, theirs.beam_indices)


def test_xlnet_reads_the_whole_text_at_each_step(tmp_path: Path) -> None:
    """Without a cache there are no kept states, whose use changes what is written."""
    case = next(case for case in CASES if case.name == "xlnet")
    both = pair(case, "causal-lm", tmp_path)
    given = prompts(case, both)
    ours = both.ours.generate(**given, max_new_tokens=8, use_cache=False)
    assert isinstance(ours, Tensor)
    for row in range(3):
        theirs = both.reference.generate(**alone(given, row), max_new_tokens=8, use_mems=False)
        assert torch.equal(ours[row, -8:], theirs[0, -8:])
