"""What `generate` promises, whatever the architecture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.errors import UserError
from eir_seq.models import create_model
from eir_seq.models.generation import GenerationOutput, pieces
from eir_seq.models.model import Model
from tests.models.tiny import noisy, tiny


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def gpt2() -> Model:
    return noisy(tiny("gpt2", "causal-lm"))


PROMPT = torch.tensor([[0, 0, 15, 22, 31], [44, 17, 85, 60, 12]])
ALONE = PROMPT[1:]


def generated(model: Model, ids: Tensor = PROMPT, **options: Any) -> Tensor:
    found = model.generate(ids, **{"max_new_tokens": 8, **options})
    assert isinstance(found, Tensor)
    return found


def test_padding_on_the_left_does_not_matter(gpt2: Model) -> None:
    """The mask is guessed from the padding token, and positions count from the first real one."""
    whole = generated(gpt2)
    assert torch.equal(whole[:1, 2:], generated(gpt2, PROMPT[:1, 2:]))
    assert torch.equal(whole[1:], generated(gpt2, ALONE))


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 3}], ids=str)
def test_cache_changes_nothing_but_the_time(gpt2: Model, options: dict[str, Any]) -> None:
    assert torch.equal(generated(gpt2, **options), generated(gpt2, use_cache=False, **options))


def test_parts_are_in_evaluation_and_then_as_before() -> None:
    model = noisy(tiny("gpt2", "causal-lm", resid_pdrop=0.5, embd_pdrop=0.5)).train()
    model.body.layers[0].eval()  # type: ignore[union-attr,index,operator]
    before = [part.training for part in model.modules()]
    assert torch.equal(generated(model), generated(model))
    assert [part.training for part in model.modules()] == before
    stream = model.stream(ALONE, max_new_tokens=5)
    next(stream)
    assert not model.training
    del stream
    assert [part.training for part in model.modules()] == before


def test_nothing_of_it_has_a_gradient(gpt2: Model) -> None:
    output = gpt2.generate(PROMPT, max_new_tokens=3, output_scores=True, return_dict_in_generate=True)
    assert isinstance(output, GenerationOutput)
    assert output.scores is not None
    assert not any(x.requires_grad for x in output.scores)
    embedded = torch.nn.Embedding(120, 4)(output.sequences)  # tokens can be learnt from afterwards
    embedded.sum().backward()
