"""What `generate` promises, whatever the architecture."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.errors import UserError
from eir_seq.models import from_pretrained
from eir_seq.models.generation import GenerationOutput, pieces
from eir_seq.models.model import Model
from tests.models.tiny import noisy, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def gpt2() -> Model:
    return noisy(tiny("gpt2", "causal-lm"))


PROMPT = torch.tensor([[0, 0, 15, 22, 31], [44, 17, 85, 60, 12]])
ALONE = PROMPT[1:]
SAMPLED: dict[str, Any] = {"do_sample": True, "seed": 3}
WHOLE: dict[str, Any] = {"return_dict_in_generate": True, "output_scores": True}


def generated(model: Model, ids: Tensor = PROMPT, **options: Any) -> Tensor:
    found = model.generate(ids, **{"max_new_tokens": 8, **options})
    assert isinstance(found, Tensor)
    return found


def output_of(model: Model, ids: Tensor = PROMPT, **options: Any) -> GenerationOutput:
    found = model.generate(ids, **{"max_new_tokens": 8, **WHOLE, **options})
    assert isinstance(found, GenerationOutput)
    return found


def test_padding_on_the_left_does_not_matter(gpt2: Model) -> None:
    """The mask is guessed from the padding token, and positions count from the first real one."""
    for options in ({}, {"repetition_penalty": 1.6, "no_repeat_ngram_size": 2}, {"num_beams": 3}):
        together = generated(gpt2, **options)
        assert torch.equal(together[:1, 2:], generated(gpt2, PROMPT[:1, 2:], **options))
        assert torch.equal(together[1:], generated(gpt2, ALONE, **options))


def test_the_prompt_under_its_other_name(gpt2: Model) -> None:
    assert torch.equal(gpt2.generate(inputs=PROMPT, max_new_tokens=8), generated(gpt2))
    assert len(list(gpt2.stream(inputs=ALONE, max_new_tokens=3))) == 3
    bart = noisy(tiny("bart", "seq2seq-lm"))
    assert torch.equal(bart.generate(inputs=PROMPT, max_new_tokens=8), generated(bart))
    for call in (gpt2.generate, gpt2.stream):
        with pytest.raises(UserError, match="inputs: given twice: 'inputs' and 'input_ids' are one argument"):
            call(PROMPT, inputs=PROMPT)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, SAMPLED, {**SAMPLED, "num_return_sequences": 3}], ids=str)
def test_cache_changes_nothing_but_the_time(gpt2: Model, options: dict[str, Any]) -> None:
    assert torch.equal(generated(gpt2, **options), generated(gpt2, use_cache=False, **options))


def test_parts_are_in_evaluation_and_then_as_before() -> None:
    model = noisy(tiny("gpt2", "causal-lm", resid_pdrop=0.5, embd_pdrop=0.5)).train()
    model.body.layers[0].eval()  # type: ignore[union-attr,index]
    before = [part.training for part in model.modules()]
    assert torch.equal(generated(model), generated(model))
    assert [part.training for part in model.modules()] == before
    stream = model.stream(ALONE, max_new_tokens=5)
    next(stream)
    assert not model.training
    del stream
    assert [part.training for part in model.modules()] == before


def test_nothing_of_it_has_a_gradient(gpt2: Model) -> None:
    output = output_of(gpt2)
    assert output.scores is not None
    assert not any(x.requires_grad for x in output.scores)
    torch.nn.Embedding(120, 4)(output.sequences).sum().backward()  # tokens can be learnt from afterwards
    next(model_stream := gpt2.stream(ALONE))
    assert torch.is_grad_enabled()
    model_stream.close()  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------- by chance


def test_the_same_seed_gives_the_same_texts(gpt2: Model) -> None:
    options: dict[str, Any] = {"do_sample": True, "num_return_sequences": 4}
    before = torch.random.get_rng_state()
    first = generated(gpt2, seed=3, **options)
    assert torch.equal(torch.random.get_rng_state(), before)  # others' random numbers stay what they were
    assert torch.equal(generated(gpt2, seed=3, **options), first)
    assert torch.equal(generated(gpt2, generator=torch.Generator().manual_seed(3), **options), first)
    assert not torch.equal(generated(gpt2, seed=4, **options), first)
    assert len({tuple(text) for text in first[:4].tolist()}) > 1
    torch.manual_seed(9)
    without = generated(gpt2, **options)
    torch.manual_seed(9)
    assert torch.equal(generated(gpt2, **options), without)


def test_beams_by_chance(gpt2: Model) -> None:
    options: dict[str, Any] = {"do_sample": True, "num_beams": 3, "num_return_sequences": 2}
    first = generated(gpt2, seed=1, **options)
    assert torch.equal(generated(gpt2, seed=1, **options), first)
    assert any(not torch.equal(generated(gpt2, seed=seed, **options), first) for seed in (2, 3, 4))


# ------------------------------------------------------------------------------------------------------ the end


def test_several_ends_and_padding_behind_them(gpt2: Model) -> None:
    plain = generated(gpt2, max_new_tokens=8, eos_token_id=[119])[:, 5:]
    first, second = int(plain[0, 2]), int(plain[1, 4])
    texts = generated(gpt2, eos_token_id=[first, second], pad_token_id=99, attention_mask=(PROMPT != 0).long())[:, 5:]
    for text, whole in zip(texts.tolist(), plain.tolist(), strict=True):
        end = min(place for place, token in enumerate(whole) if token in (first, second))
        assert text == (whole[: end + 1] + [99] * 8)[: len(text)]
    assert texts.shape[1] < 8 or int((texts == 99).sum()) > 0


def test_without_a_padding_token_the_first_end_pads(gpt2: Model) -> None:
    plain = generated(gpt2, ALONE, eos_token_id=[119])[0, 5:]
    both = torch.cat((ALONE, ALONE.flip(1)))
    gpt2.generation_config = {"eos_token_id": [int(plain[0]), 119]}
    try:
        texts = generated(gpt2, both)
    finally:
        gpt2.generation_config = {}
    if texts.shape[1] > 6:
        assert set(texts[0, 6:].tolist()) == {int(plain[0])}


class Letters:
    """Two letters per token: a, b, c ... by the digits of the id."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str:
        return "".join(f"{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in ids)


def test_a_stop_string_across_tokens(gpt2: Model) -> None:
    """It may begin within one token and end within another; the tokens that complete it stay."""
    whole = generated(gpt2, ALONE, eos_token_id=[119])
    text = Letters().decode(whole[0, 5:].tolist())
    stop = text[3:6]  # the end of the second token and the whole third
    options: dict[str, Any] = {"eos_token_id": [119], "tokenizer": Letters()}
    found = generated(gpt2, ALONE, stop_strings=stop, **options)
    assert stop in Letters().decode(found[0, 5:].tolist())
    assert stop not in Letters().decode(found[0, 5:-1].tolist())
    assert torch.equal(found, whole[:, : found.shape[1]])
    inside = generated(gpt2, ALONE, stop_strings=["never so", text[2]], **options)  # ends before its token does
    assert text[2] in Letters().decode(inside[0, -1:].tolist())
    beams = generated(gpt2, ALONE, stop_strings=[text[2]], num_beams=2, **options)
    assert beams.shape[1] <= 13


def test_a_stop_string_that_stands_in_the_prompt_ends_nothing(gpt2: Model) -> None:
    prompt = Letters().decode(ALONE[0].tolist())
    options: dict[str, Any] = {"eos_token_id": [119], "tokenizer": Letters()}
    text = Letters().decode(generated(gpt2, ALONE, **options)[0, 4:].tolist())
    assert prompt[2:6] not in text
    assert generated(gpt2, ALONE, stop_strings=[prompt[2:6]], **options).shape[1] == 13


def test_time_is_up(gpt2: Model) -> None:
    def slow(_: Tensor, scores: Tensor) -> Tensor:
        time.sleep(0.02)
        return scores

    found = generated(gpt2, max_time=0.05, max_new_tokens=50, logits_processor=[slow], eos_token_id=[119])
    assert 6 <= found.shape[1] <= 9


# ---------------------------------------------------------------------------------------------------- streaming


class Told:
    """A streamer that remembers."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.ended = False

    def put(self, value: Tensor) -> None:
        assert not self.ended
        self.values.append(value)

    def end(self) -> None:
        self.ended = True


@pytest.mark.parametrize("options", [{}, {**SAMPLED, "num_return_sequences": 2}], ids=str)
def test_streamed_tokens_are_the_whole(gpt2: Model, options: dict[str, Any]) -> None:
    whole = generated(gpt2, **options)
    told = Told()
    assert torch.equal(generated(gpt2, streamer=told, **options), whole)
    assert told.ended
    assert torch.equal(told.values[0], PROMPT)
    assert torch.equal(torch.stack(told.values[1:], 1), whole[:, 5:])
    assert torch.equal(torch.stack(list(gpt2.stream(PROMPT, max_new_tokens=8, **options)), 1), whole[:, 5:])


def test_faults_are_told_before_the_first_token(gpt2: Model) -> None:
    with pytest.raises(UserError, match="num_beams"):
        gpt2.stream(ALONE, num_beams=2)
    with pytest.raises(UserError, match="beams decide at their end"):
        generated(gpt2, num_beams=2, streamer=Told())


class Bytes:
    """A token per byte."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str:
        return bytes(ids).decode(errors="replace")


def test_pieces_of_text_are_whole_characters() -> None:
    text = "naïve – 東京!"
    found = list(pieces(text.encode(), Bytes()))
    assert found == list(text)
    assert "".join(pieces("é".encode()[:1], Bytes())) == "\N{REPLACEMENT CHARACTER}"  # never finished


# ------------------------------------------------------------------------------------------- inputs and outputs


def test_scores_of_beams_are_those_of_their_tokens(gpt2: Model) -> None:
    output = output_of(gpt2, num_beams=3, num_return_sequences=2, length_penalty=0.5, eos_token_id=[119])
    assert output.scores is not None
    assert output.beam_indices is not None
    assert output.sequences_scores is not None
    steps = torch.stack(output.scores)  # (step, row, vocabulary)
    for row, (text, beams) in enumerate(zip(output.sequences[:, 5:], output.beam_indices, strict=True)):
        real = beams >= 0
        total = sum(steps[step, beams[step], text[step]] for step in range(int(real.sum())))
        assert abs(float(total) / int(real.sum()) ** 0.5 - float(output.sequences_scores[row])) < 1e-4


def test_texts_per_prompt_stand_side_by_side(gpt2: Model) -> None:
    texts = generated(gpt2, num_return_sequences=3, **SAMPLED)
    assert torch.equal(texts[:, :5], PROMPT.repeat_interleave(3, 0))


def test_segments_and_memory_are_carried_on() -> None:
    """Tensors per token go on with their last column, those of the other side as they are."""
    model = noisy(tiny("gpt2", "causal-lm", add_cross_attention=True))
    memory = torch.randn(2, 4, model.hidden_size, generator=torch.Generator().manual_seed(0))
    inputs = {"token_type_ids": PROMPT % 7, "encoder_hidden_states": memory}
    mask = (PROMPT != 0).long()
    ids, types, positions = PROMPT, PROMPT % 7, (mask.cumsum(1) - 1).clamp(min=0)
    for _ in range(4):
        given = {"token_type_ids": types, "position_ids": positions, "encoder_hidden_states": memory}
        new = model(ids, mask, **given).logits[:, -1].argmax(-1, keepdim=True)
        ids, types = torch.cat((ids, new), 1), torch.cat((types, types[:, -1:]), 1)
        mask = torch.cat((mask, torch.ones_like(new)), 1)
        positions = torch.cat((positions, positions[:, -1:] + 1), 1)
    for options in ({}, {"use_cache": False}):
        assert torch.equal(generated(model, max_new_tokens=4, eos_token_id=[119], **inputs, **options), ids)
    beams = generated(model, num_beams=2, max_new_tokens=4, **inputs)
    assert torch.equal(beams[1:], generated(model, ALONE, num_beams=2, max_new_tokens=4, **{
        name: x[1:] for name, x in inputs.items()
    }))  # fmt: skip


def test_heads_that_are_switched_off_are_no_texts(gpt2: Model) -> None:
    mask = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0]])
    plain, masked = (output_of(gpt2, num_beams=2, **given).scores for given in ({}, {"head_mask": mask}))
    assert plain is not None
    assert masked is not None
    assert not torch.allclose(plain[-1], masked[-1], atol=1e-3)
    beams = generated(gpt2, head_mask=mask, num_beams=2)
    assert torch.equal(beams[1:], generated(gpt2, ALONE, head_mask=mask, num_beams=2))


def test_without_a_prompt_a_text_begins_with_its_token(gpt2: Model) -> None:
    found = gpt2.generate(max_new_tokens=3)
    assert isinstance(found, Tensor)
    assert torch.equal(found, generated(gpt2, torch.tensor([[1]]), max_new_tokens=3))


def test_a_decoder_begins_as_in_its_training() -> None:
    model = noisy(tiny("t5", "seq2seq-lm", decoder_start_token_id=None, pad_token_id=3))
    assert generated(model)[:, 0].tolist() == [3, 3]
    assert generated(model, decoder_start_token_id=7)[:, 0].tolist() == [7, 7]
    assert generated(model, decoder_start_token_id=[7, 9])[:, 0].tolist() == [7, 9]
    with pytest.raises(UserError, match="decoder_start_token_id: 3 tokens for 2 texts"):
        generated(model, decoder_start_token_id=[7, 9, 7])


def test_a_processor_of_the_caller(gpt2: Model) -> None:
    def only_even(_: Tensor, scores: Tensor) -> Tensor:
        return scores.masked_fill(torch.arange(scores.shape[1]) % 2 == 1, -float("inf"))

    for options in ({}, {"num_beams": 3}, SAMPLED):
        assert not (generated(gpt2, logits_processor=[only_even], **options)[:, 5:] % 2).any()


def test_twenty_tokens_unless_there_are_fewer_positions() -> None:
    model = noisy(tiny("gpt2", "causal-lm", n_positions=12))
    found = model.generate(ALONE, eos_token_id=[119])
    assert isinstance(found, Tensor)
    assert found.shape[1] == 12
    assert gpt2_length(noisy(tiny("gpt2", "causal-lm"))) == 25


def gpt2_length(model: Model) -> int:
    found = model.generate(ALONE, eos_token_id=[119])
    assert isinstance(found, Tensor)
    return found.shape[1]


# ----------------------------------------------------------------------------------------- options of the model


def test_options_of_the_model(gpt2: Model, tmp_path: Path) -> None:
    """They are saved beside the weights, read again, and yield to the call."""
    gpt2.generation_config = {"max_new_tokens": 3, "num_beams": 2, "suppress_tokens": [5], "later_option": 1}
    gpt2.generation_config["cache_implementation"] = "hybrid"  # a cache that there is none of here
    try:
        gpt2.save_pretrained(tmp_path)
    finally:
        gpt2.generation_config = {}
    assert json.loads((tmp_path / "generation_config.json").read_text())["num_beams"] == 2
    again = from_pretrained(tmp_path)
    found = again.generate(ALONE)
    assert torch.equal(found, generated(gpt2, ALONE, max_new_tokens=3, num_beams=2, suppress_tokens=[5]))  # type: ignore[arg-type]
    longer = again.generate(ALONE, max_length=12, num_beams=1, eos_token_id=119)
    assert longer.shape[1] == 12  # type: ignore[union-attr]
    (tmp_path / "generation_config.json").write_text('{"num_beams": "two"}')
    with pytest.raises(UserError, match=r"num_beams: 'two' is not an integer \(the model's own"):
        from_pretrained(tmp_path).generate(ALONE)


def test_old_files_keep_them_among_the_options(gpt2: Model, tmp_path: Path) -> None:
    gpt2.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_length": 9, "no_repeat_ngram_size": 1}))
    found = from_pretrained(tmp_path).generate(ALONE, eos_token_id=119)
    assert isinstance(found, Tensor)
    assert found.shape[1] == 9
    assert len(set(found[0].tolist())) == 9


# -------------------------------------------------------------------------------------------------------- faults

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"max_new_token": 3}, "max_new_token: not an option of generate; did you mean 'max_new_tokens'?"),
    "another way": ({"penalty_alpha": 0.6}, "penalty_alpha: this way of generating is not supported"),
    "type": ({"num_beams": 1.5}, "num_beams: 1.5 is not an integer"),
    "range": ({"top_p": 1.5, "do_sample": True}, "top_p: 1.5 is above the greatest value 1.0"),
    "groups": ({"num_beams": 4, "num_beam_groups": 3}, "num_beam_groups: 3 does not divide num_beams 4"),
    "zero temperature": ({"temperature": 0.0, "do_sample": True}, "set do_sample=False"),
    "more texts than beams": ({"num_beams": 2, "num_return_sequences": 3}, "3 is more than num_beams 2"),
    "texts without chance": ({"num_return_sequences": 2}, "all of the texts would be the same"),
    "unread by greedy": ({"temperature": 0.5}, "temperature: only sampling reads it: add do_sample=True"),
    "seed of nothing": ({"seed": 3}, "seed: only sampling reads it"),
    "unread without beams": ({"length_penalty": 2.0}, "length_penalty: only beam search reads it: add num_beams"),
    "unread without groups": ({"num_beams": 2, "diversity_penalty": 1.0}, "diversity_penalty: only groups"),
    "scores nowhere": ({"output_scores": True}, "output_scores: needs return_dict_in_generate=True"),
    "two lengths": ({"max_length": 9}, "give max_length or max_new_tokens, not both"),
    "too long": ({"max_new_tokens": 60}, r"a text of 65 tokens \(prompt: 5\) is longer than the model's 64 positions"),
    "no room": ({"max_new_tokens": None, "max_length": 5}, "5 leaves no room after a prompt of 5 tokens"),
    "least above most": ({"min_new_tokens": 9}, "min_new_tokens: 9 is more than the text may have"),
    "no tokenizer": ({"stop_strings": "a"}, "stop_strings: need tokenizer="),
    "two seeds": ({**SAMPLED, "generator": torch.Generator()}, "give seed or generator, not both"),
    "strange token": ({"suppress_tokens": [500]}, "suppress_tokens: 500 is outside the vocabulary of 120"),
    "mask": ({"attention_mask": torch.ones(2, 4)}, r"attention_mask: has shape \(2, 4\), the prompt \(2, 5\)"),
    "padded right": ({"attention_mask": torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])},
                     "row 1 ends with padding: .* pad left"),
    "no input of the model": ({"pixel_values": torch.zeros(2, 3)}, "'pixel_values'"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults(gpt2: Model, name: str) -> None:
    options, message = FAULTS[name]
    with pytest.raises(ValueError, match=message):
        generated(gpt2, **options)


def test_all_faults_at_once(gpt2: Model) -> None:
    with pytest.raises(UserError) as error:
        generated(gpt2, temperature=0.0, do_sample=True, num_beams=4, num_beam_groups=3, num_return_sequences=5)
    assert [fault.place for fault in error.value.faults] == [
        "temperature", "num_beam_groups", "num_beam_groups", "num_return_sequences",
    ]  # fmt: skip


def test_padding_that_is_guessed_is_named_so(gpt2: Model) -> None:
    with pytest.raises(UserError, match="if that is no padding, say so by an attention_mask of ones"):
        generated(gpt2, PROMPT.flip(1))
    assert generated(gpt2, PROMPT.flip(1), attention_mask=torch.ones(2, 5)).shape[1] == 13


def test_an_id_beyond_the_vocabulary() -> None:
    """One line says which id of which row; of the decoder's prompt as well."""
    prompt = PROMPT.clone()
    prompt[1, 3], prompt[1, 4] = 500, -1
    with pytest.raises(UserError) as error:
        generated(noisy(tiny("gpt2", "causal-lm")), prompt)
    wanted = "input_ids: row 1 has id 500 at place 3, outside the vocabulary of 120 (2 such ids)"
    assert str(error.value) == wanted
    model = noisy(tiny("bart", "seq2seq-lm"))
    with pytest.raises(UserError) as error:
        generated(model, prompt, decoder_input_ids=torch.tensor([[2, 7], [2, 120]]))
    assert [str(fault) for fault in error.value.faults] == [
        wanted, "decoder_input_ids: row 1 has id 120 at place 1, outside the vocabulary of 120"
    ]  # fmt: skip


def test_a_model_that_predicts_no_token() -> None:
    with pytest.raises(UserError, match="a model for task 'base' predicts no next token"):
        tiny("gpt2").generate(ALONE)


@pytest.mark.parametrize("shape", [(5,), (2, 0), (1, 2, 3)], ids=str)
def test_prompts_of_another_shape(gpt2: Model, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"input_ids: has shape .* must be \(batch, length\)"):
        generated(gpt2, torch.ones(shape, dtype=torch.long))
