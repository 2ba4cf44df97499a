"""Language models: what the head sums up, the metrics, and texts behind prompts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from eir_seq.errors import UserError
from eir_seq.modalities.encoders.backbone import SequenceEncoder
from eir_seq.models import create_model
from eir_seq.models.model import Model
from eir_seq.models.output import TokenStates
from eir_seq.outputs import build_output, load_output
from eir_seq.outputs.causal_lm.config import CausalLmOutputConfig
from eir_seq.outputs.causal_lm.output import FittedCausalLm
from eir_seq.outputs.generation.completion import Completer, check_generation, left_padded
from eir_seq.tokenizers import train_tokenizer

TOKENIZER = train_tokenizer("byte", [])
END = TOKENIZER.sep_id
OPTIONS = {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 32, "vocab_size": TOKENIZER.vocab_size}


def fitted(**options: Any) -> FittedCausalLm:
    output = build_output("text", CausalLmOutputConfig(input="text", **options)).fit({})
    assert isinstance(output, FittedCausalLm)
    return output


def model(**options: Any) -> Model:
    torch.manual_seed(0)
    built = create_model("gpt2", {**OPTIONS, **options}, task="causal-lm").eval()
    torch.nn.init.normal_(built.body.embeddings.tokens.weight, std=0.5)  # so that scores differ
    return built


def test_the_head_sums_the_loss_of_all_tokens_but_the_first() -> None:
    backbone = model()
    ids = torch.randint(5, 200, (3, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] + [0] * 6]).bool()
    output = backbone(input_ids=ids, attention_mask=mask)
    states = backbone.run_body({"input_ids": ids, "attention_mask": mask}).last_hidden_state
    raw = fitted().build_head(8)(TokenStates(states, mask, {"input_ids": ids}, backbone.head))
    assert raw[:, 1].tolist() == [6, 3, 0]
    for row, tokens in ((0, 7), (1, 4)):
        expected = F.cross_entropy(output.logits[row, : tokens - 1], ids[row, 1:tokens], reduction="sum")
        torch.testing.assert_close(raw[row, 0], expected)
    assert fitted().loss_counts({"text": {"attention_mask": mask}}, torch.zeros(3)).tolist() == [[6], [3], [0]]
    loss = fitted().loss_terms(raw, torch.zeros(3)).sum() / 9
    torch.testing.assert_close(loss, raw[:, 0].sum() / 9, msg="a batch's loss is the mean over its tokens")


def test_the_loss_of_routers_is_learnt_from_but_no_metric() -> None:
    """In training a batch's loss is that of the published class, routers included; in evaluation that of tokens."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    experts = {
        "intermediate_size": 6,
        "num_local_experts": 4,
        "output_router_logits": True,
        "router_aux_loss_coef": 0.5,
    }
    options = {**sizes, **experts, "vocab_size": TOKENIZER.vocab_size}
    backbone = create_model("mixtral", options, task="causal-lm")
    encoder = SequenceEncoder(backbone, hidden_size=8, pool="avg", num_types=1)
    ids = torch.randint(5, 200, (3, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 2 + [0] * 5]).bool()
    expected = backbone(ids, mask, labels=ids.masked_fill(~mask, -100))
    assert expected.aux_loss > 1
    head = fitted().build_head(8)
    for training in (True, False):
        head.train(training)
        raw = head(encoder.read(ids, mask))
        loss = fitted().loss_terms(raw, torch.zeros(3)).sum() / raw[:, 1].sum()
        torch.testing.assert_close(loss, expected.loss - (0 if training else 0.5 * expected.aux_loss))
    backbone.zero_grad()
    (fitted().loss_terms(head.train()(encoder.read(ids, mask)), torch.zeros(3)).sum() / 10).backward()
    found = [parameter.grad.clone() for parameter in backbone.parameters()]
    backbone.zero_grad()
    expected.loss.backward()
    for gradient, parameter in zip(found, backbone.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_metrics_are_those_of_all_tokens() -> None:
    raw = torch.tensor([[6.0, 4.0], [2.0, 4.0]])
    values = fitted().evaluate(raw, torch.tensor([10.0, 6.0], dtype=torch.float64))
    assert values == pytest.approx({"loss": 1.0, "perplexity": math.e, "bits_per_byte": 8 / math.log(2) / 16})
    assert "bits_per_byte" not in fitted().evaluate(raw, torch.zeros(2)), "the bytes are not known"
    assert math.isfinite(fitted().evaluate(torch.tensor([[1e6, 1.0]]), torch.ones(1))["perplexity"])
    assert fitted().decode(raw) == {"text": [1.5, 0.5]}


def test_saved_and_loaded(tmp_path: Path) -> None:
    output = fitted(prompts=["a"], generation={"max_new_tokens": 3})
    output.save(tmp_path / "text.json")
    loaded = load_output(tmp_path / "text.json")
    assert isinstance(loaded, FittedCausalLm)
    assert loaded.state == output.state


def completer(**changes: Any) -> Completer:
    given: dict[str, Any] = {
        "model": model(),
        "tokenizer": TOKENIZER,
        "begin": (END,),
        "end": END,
        "generation": {"max_new_tokens": 6, "do_sample": True},
        "longest": 32,
    }
    return Completer(**{**given, **changes})


def test_a_prompt_is_completed_as_generate_would() -> None:
    ids = torch.tensor([[END, *TOKENIZER.encode_batch(["Once"])[0].ids]])
    written = completer(generation={"max_new_tokens": 6})(["Once"], seed=0)
    tokens = model().generate(ids, max_new_tokens=6, eos_token_id=END, pad_token_id=END)[0, ids.shape[1] :].tolist()
    tokens = tokens[: tokens.index(END)] if END in tokens else tokens
    assert TOKENIZER.decode(tokens, skip_special_tokens=True)
    assert written == [TOKENIZER.decode(tokens, skip_special_tokens=True)]


def test_spare_ids_of_the_model_are_left_out() -> None:
    """Published models may have more embeddings than their tokenizer has tokens."""
    written = completer()._continuation([END], [*TOKENIZER.encode_batch(["Once"])[0].ids, TOKENIZER.vocab_size + 3])
    assert written == "Once"


def test_prompts_of_other_lengths_do_not_change_a_completion() -> None:
    complete = completer(generation={"max_new_tokens": 6})
    prompts = ["a", "", "a longer prompt"]
    assert complete(prompts, seed=0) == [complete([prompt], seed=0)[0] for prompt in prompts]


def test_drawn_texts_depend_on_the_seed() -> None:
    complete = completer()
    assert complete(["a"], seed=1) == complete(["a"], seed=1)
    assert len({complete(["a"], seed=seed)[0] for seed in range(5)}) > 1


def test_a_long_prompt_leaves_room_for_half_a_text() -> None:
    complete = completer(generation={"max_new_tokens": 100})
    assert complete(["x" * 500 + "tail of the prompt"], seed=0) == complete(["il of the prompt"], seed=0), (
        "the last 16 tokens are read"
    )


def test_left_padding() -> None:
    ids, mask = left_padded([[1, 2], [3]], 9)
    assert ids.tolist() == [[1, 2], [9, 3]]
    assert mask.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"temprature": 1.0}, "place.temprature: not an option of generate; did you mean 'temperature'"),
        ({"do_sample": True, "temperature": -1.0}, "place.temperature"),
        ({"num_return_sequences": 3, "do_sample": True}, "one text is written per prompt"),
    ],
)
def test_options_that_generate_does_not_have_are_refused(generation: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_generation(generation, "place")
