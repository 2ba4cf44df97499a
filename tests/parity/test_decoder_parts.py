"""Parts of decoders beyond the common table: windows and their caches, experts and their routers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from eir_seq.models import create_model
from eir_seq.models.layers.attention.multi_head import Attention
from tests.parity.cases import CASES, Case
from tests.parity.harness import difference, inputs_of, pair, real_places

WINDOW = 8
WINDOWED = ("mixtral", "qwen2", "qwen2@layer_types", "starcoder2")


pytestmark = pytest.mark.usefixtures("one_thread")


def case_of(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@pytest.mark.parametrize("name", WINDOWED)
def test_what_a_window_sees(name: str, tmp_path: Path) -> None:
    """A token moves the states of those within its window, layer upon layer, and of no others.

    Experts get other rows, whose products may round differently.
    """
    model = pair(case_of(name), "base", tmp_path).ours
    windows = [layer.mixer.config.window for layer in model.body.layers]  # type: ignore[union-attr]
    ids = inputs_of(case_of(name), model.config)["input_ids"][:1]
    other = ids.clone()
    other[0, 2] = 3 + int(ids[0, 2]) % 7
    moved = (model(ids).last_hidden_state - model(other).last_hidden_state).abs().amax((0, 2)) > 1e-5
    reach = 2 + sum(WINDOW - 1 if window else ids.shape[1] for window in windows)
    assert moved.tolist() == [2 <= place <= reach for place in range(ids.shape[1])]
    assert WINDOW in windows


@pytest.mark.parametrize("name", WINDOWED)
def test_windows_bound_the_cache(name: str, tmp_path: Path) -> None:
    """Far beyond the window a slot keeps no more than the next token can see, in pieces of any size."""
    model = pair(case_of(name), "base", tmp_path).ours
    ids = inputs_of(case_of(name), model.config)["input_ids"].repeat(1, 2)
    cache: Any = None
    with torch.no_grad():
        whole, found = model(ids).last_hidden_state, []
        for piece in ids.split([3, 1, 17, 1, 1, 8, 7, *[1] * 10], 1):
            step = model(piece, past_key_values=cache, use_cache=True)
            cache = step.past_key_values
            found.append(step.last_hidden_state)
    assert difference(torch.cat(found, 1), whole) < 1e-5
    for mixer in (part for part in model.modules() if isinstance(part, Attention)):
        slot = cache.read(mixer)
        assert slot is not None
        bound = mixer.config.window
        assert slot[0].shape[2] == (ids.shape[1] if bound is None else bound - 1)
        rows = 4 * bound + 100 if bound else 2 * ids.shape[1] + 100
        assert slot[0].untyped_storage().nbytes() <= ids.shape[0] * 2 * rows * mixer.head_size * 4


@pytest.mark.parametrize("name", WINDOWED)
def test_blocks_of_queries(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts are computed in blocks as wide as the window: equal to the reference, on both paddings, and cached."""
    monkeypatch.setattr("eir_seq.models.layers.attention.multi_head.LEAST_BLOCK", 1)
    case = case_of(name)
    both = pair(case, "base", tmp_path)
    for left in (False, True):
        inputs = inputs_of(case, both.reference.config, left=left)
        places = real_places(inputs)
        theirs = both.reference(**inputs).last_hidden_state
        for both.ours.pack in (True, False):
            assert difference(both.ours(**inputs).last_hidden_state, theirs, places) < case.tolerance
        start, mask = both.ours(inputs["input_ids"][:, :5], places[:, :5], use_cache=True), inputs["attention_mask"]
        rest = both.ours(inputs["input_ids"][:, 5:], mask, past_key_values=start.past_key_values).last_hidden_state
        assert difference(rest, theirs[:, 5:], places[:, 5:]) < case.tolerance
    whole = inputs["input_ids"][:1]
    assert difference(both.ours(whole).last_hidden_state, both.reference(whole).last_hidden_state) < case.tolerance


def test_a_window_costs_the_length_times_the_window() -> None:
    """No mask, and no product, is as large as the square of the length."""
    options = {**case_of("starcoder2").options, "max_position_embeddings": 4096}
    model, ids = create_model("starcoder2", options), torch.zeros(1, 4096, dtype=torch.long)
    sizes = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            sizes.extend(x.numel() for x in (made if isinstance(made, tuple) else (made,)) if isinstance(x, Tensor))
            return made

    with torch.no_grad(), Sizes():
        model(ids)
    assert max(sizes) < 4096 * 512


ROUTED: dict[str, Any] = {"output_router_logits": True, "router_aux_loss_coef": 0.5}


@pytest.mark.parametrize("masked", [True, False], ids=["padded", "whole"])
@pytest.mark.parametrize("pack", [True, False])
def test_routers(pack: bool, masked: bool, tmp_path: Path) -> None:
    """Scores of every layer, the loss of the routers, and the whole loss with its gradients."""
    case = case_of("mixtral")
    both = pair(case, "causal-lm", tmp_path, **ROUTED)
    both.ours.pack = pack
    inputs = inputs_of(case, both.reference.config)
    places = real_places(inputs)
    labels = inputs["input_ids"].masked_fill(~places, -100)
    if not masked:
        inputs["attention_mask"] = None  # type: ignore[assignment]
        places = torch.ones_like(places)
    theirs, ours = both.reference(**inputs, labels=labels), both.ours(**inputs, labels=labels)
    assert len(ours.router_logits) == len(theirs.router_logits) == 2
    for found, expected in zip(ours.router_logits, theirs.router_logits, strict=True):
        assert difference(found, expected.view(found.shape), places) < case.tolerance
    assert difference(ours.aux_loss, theirs.aux_loss) < case.tolerance
    assert difference(ours.loss, theirs.loss) < case.tolerance
    theirs.loss.backward()
    ours.loss.backward()
    router = both.ours.body.layers[0].mlp.router  # type: ignore[union-attr,index]
    expected_gradient: Tensor = both.reference.model.layers[0].block_sparse_moe.gate.weight.grad
    assert difference(router.weight.grad, expected_gradient) < case.tolerance


def test_router_logits_only_on_request(tmp_path: Path) -> None:
    case = case_of("mixtral")
    ours = pair(case, "causal-lm", tmp_path).ours
    ids = inputs_of(case, ours.config)["input_ids"]
    plain = ours(ids, labels=ids)
    assert plain.router_logits is None
    assert plain.aux_loss is None
    asked = ours(ids, labels=ids, output_router_logits=True)
    assert float(asked.loss - plain.loss) == pytest.approx(0.001 * float(asked.aux_loss), abs=1e-6)
    with pytest.raises(ValueError, match="has no routers"):
        create_model("llama", case_of("llama").options)(ids, output_router_logits=True)


def test_jitter_is_for_training(tmp_path: Path) -> None:
    """Inputs of experts vary by up to the noise, drawn anew at each pass; evaluation is exact."""
    case = case_of("mixtral")
    plain = pair(case, "base", tmp_path).ours
    noisy = pair(case, "base", tmp_path, router_jitter_noise=0.1).ours
    ids = inputs_of(case, plain.config)["input_ids"]
    assert torch.equal(noisy(ids).last_hidden_state, plain(ids).last_hidden_state)
    noisy.train()
    first, second = noisy(ids).last_hidden_state, noisy(ids).last_hidden_state
    assert not torch.equal(first, second)
    mlp, seen = noisy.body.layers[0].mlp, []  # type: ignore[union-attr,index]
    hooks = [
        mlp.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(0, -2))),
        mlp.experts.register_forward_pre_hook(lambda _, given: seen.append(given[0])),
    ]
    noisy(ids)
    for hook in hooks:
        hook.remove()
    factors = seen[1] / seen[0]
    assert 0.9 <= float(factors.min()) < 0.92
    assert 1.08 < float(factors.max()) <= 1.1
