"""Mamba and rwkv: states that are handed on, by their documented names, and what only they have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.model import Model
from eir_seq.models.option_checks import build_config
from tests.parity.cases import CASES, VOCABULARY, Case
from tests.parity.harness import difference, pair

ROWS = [case for case in CASES if case.model_type in ("mamba", "rwkv")]
ROW = {case.name: case for case in ROWS}
IDS = torch.randint(11, VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(1))
every_row = pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)


def noisy(model_type: str, task: str = "base", **options: Any) -> Model:
    torch.manual_seed(0)
    model = create_model(model_type, {**ROW[model_type].options, **options}, task=task).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("pieces", [(2, 18), (7, 1, 12), (19, 1)], ids=str)
@every_row
def test_pieces_are_the_whole(case: Case, pieces: tuple[int, ...], tmp_path: Path) -> None:
    ours = pair(case, "base", tmp_path).ours
    whole, found, cache = ours(IDS).last_hidden_state, [], None
    for piece in IDS.split(pieces, 1):
        output = ours(piece, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        found.append(output.last_hidden_state)
    assert difference(torch.cat(found, 1), whole) < case.tolerance


def test_rows_of_a_cache_change_places() -> None:
    """As in beam search: each row goes on from the text of another."""
    for name in ("mamba", "rwkv"):
        model, rows = noisy(name), torch.tensor([2, 0, 0])
        cache = model(IDS[:, :12], use_cache=True).past_key_values
        cache.reorder(rows)
        found = model(IDS[:, 12:], past_key_values=cache).last_hidden_state
        expected = model(torch.cat((IDS[rows, :12], IDS[:, 12:]), 1)).last_hidden_state[:, 12:]
        assert difference(found, expected) < 1e-5


@pytest.mark.parametrize("name", ["rwkv", "rwkv@rescaled"])
def test_state_of_rwkv(name: str, tmp_path: Path) -> None:
    """The reference's five tensors, without being asked for, and ours go on from them."""
    both = pair(ROW[name], "base", tmp_path)
    with torch.no_grad():
        theirs, ours = both.reference(IDS[:, :2]), both.ours(IDS[:, :2])
        assert set(ours) == {"last_hidden_state", "state"}
        for our_tensor, their_tensor in zip(ours.state, theirs.state, strict=True):
            assert difference(our_tensor, their_tensor) < 1e-5
        whole = both.ours(IDS).last_hidden_state[:, 2:]
        mask = torch.ones_like(IDS[:, 2:])
        for state in (ours.state, theirs.state):
            assert difference(both.ours(IDS[:, 2:], mask, state=state).last_hidden_state, whole) < 1e-5


def test_when_rwkv_returns_a_state() -> None:
    model = noisy("rwkv", task="causal-lm")
    assert set(model(IDS)) == {"logits", "state"}
    assert set(model(IDS, use_cache=True)) == {"logits", "state", "past_key_values"}
    assert set(model(IDS, use_cache=False)) == {"logits"}
    assert set(model.train()(IDS)) == {"logits"}
    assert set(noisy("rwkv", use_cache=False)(IDS)) == {"last_hidden_state"}


def test_states_that_cannot_be() -> None:
    model = noisy("rwkv")
    state = model(IDS).state
    with pytest.raises(ValueError, match=r"five tensors \(batch, channels, 2 layers\), but \[\(3, 32, 2\)"):
        model(IDS, state=state[:4])
    with pytest.raises(ValueError, match="five tensors"):
        model(IDS, state=[x[..., :1] for x in state])
    with pytest.raises(ValueError, match="one of state and past_key_values"):
        model(IDS, state=state, past_key_values=model(IDS, use_cache=True).past_key_values)
    mamba = noisy("mamba")
    cache = mamba(IDS, use_cache=True).cache_params
    with pytest.raises(ValueError, match="one of cache_params and past_key_values"):
        mamba(IDS, cache_params=cache, past_key_values=cache)


def test_cache_of_mamba(tmp_path: Path) -> None:
    """By its documented name, with the numbers of the reference's."""
    both = pair(ROW["mamba"], "base", tmp_path)
    with torch.no_grad():
        theirs = both.reference(IDS[:, :9]).cache_params
        ours = both.ours(IDS[:, :9], use_cache=True).cache_params
        for number, layer in enumerate(both.ours.body.layers):
            window, state = ours.state(layer.mixer)
            # theirs is (batch, channels, kernel), of which the first token is forgotten with the next
            assert difference(window.mT, theirs.conv_states[number][..., 1:]) < 1e-5
            assert difference(state.mT, theirs.ssm_states[number]) < 1e-5
        found = both.ours(IDS[:, 9:], cache_params=ours).last_hidden_state
        assert difference(found, both.ours(IDS).last_hidden_state[:, 9:]) < 1e-5


@pytest.mark.parametrize("name", ["mamba", "rwkv"])
def test_padding_in_front_does_not_matter(name: str) -> None:
    """Without a mask it is text; the reference's rwkv reads it either way."""
    model = noisy(name)
    padded, mask = torch.nn.functional.pad(IDS, (5, 0), value=7), torch.ones(3, 25).long()
    mask[:, :5] = 0
    alone = model(IDS).last_hidden_state
    assert difference(model(padded).last_hidden_state[:, 5:], alone) > 1e-2
    whole = model(torch.cat((IDS, IDS), 1)).last_hidden_state[:, 20:]
    longer = torch.cat((mask, torch.ones_like(IDS)), 1)
    for model.pack in (True, False):
        assert difference(model(padded, mask).last_hidden_state[:, 5:], alone) < 1e-5
        cache = model(padded, mask, use_cache=True).past_key_values
        assert difference(model(IDS, longer, past_key_values=cache).last_hidden_state, whole) < 1e-5


def test_rescaling_leaves_the_weights_alone() -> None:
    """Evaluation and training hold the same weights; all but the scale of the states is the same.

    Unless norms see the scale by their epsilon, as the last one does, whose epsilon is no option.
    """
    model = noisy("rwkv", num_hidden_layers=4, rescale_every=1, layer_norm_epsilon=0.0)
    before = {name: x.clone() for name, x in model.named_parameters()}
    in_evaluation = model(IDS, output_hidden_states=True)
    assert all(torch.equal(x, before[name]) for name, x in model.named_parameters())
    in_training = model.train()(IDS, output_hidden_states=True)
    for number in range(4):
        halved = in_training.hidden_states[number] / 2 ** (number + 1)
        assert difference(in_evaluation.hidden_states[number], halved) < 1e-5


def test_output_attentions_of_rwkv_are_those_of_the_reference(tmp_path: Path) -> None:
    """There are no weights: documented under that name is what each time mixing adds."""
    both = pair(ROW["rwkv@rescaled"], "base", tmp_path)
    theirs = both.reference(IDS, output_attentions=True).attentions
    ours = both.ours(IDS, output_attentions=True).attentions
    assert len(ours) == len(theirs) == 4
    assert all(difference(a, b) < 1e-5 for a, b in zip(ours, theirs, strict=True))


def test_widths_of_their_own() -> None:
    """Time mixing wider than the states; the reference cannot keep its state then."""
    model = noisy("rwkv", attention_hidden_size=48)
    first = model(IDS[:, :7])
    assert [x.shape[1] for x in first.state] == [32, 32, 48, 48, 48]
    found = model(IDS[:, 7:], state=first.state).last_hidden_state
    assert difference(found, model(IDS).last_hidden_state[:, 7:]) < 1e-5


def test_one_layer_is_initialised() -> None:
    """The published scheme divides by the layers less one."""
    model = create_model("rwkv", {**ROW["rwkv"].options, "num_hidden_layers": 1})
    assert all(bool(torch.isfinite(x).all()) for x in model.parameters())


@pytest.mark.parametrize("scheme", ["random", "uniform", "constant"])
def test_fresh_time_steps_of_mamba(scheme: str) -> None:
    """Biases stand for steps between the bounds; weights follow the scheme."""
    options = {"time_step_init_scheme": scheme, "time_step_min": 0.01, "time_step_max": 0.2, "time_step_floor": 0.05}
    model = create_model("mamba", {**ROW["mamba"].options, "hidden_size": 256, **options, "time_step_scale": 0.5})
    for layer in model.body.layers:
        steps = torch.nn.functional.softplus(layer.mixer.step.bias.detach())
        assert float(steps.min()) == pytest.approx(0.05, rel=1e-4)  # half of the draws lie below the floor
        assert 0.15 < float(steps.max()) < 0.2001
        weight, bound = layer.mixer.step.weight, 0.5 * 3**-0.5
        assert bool((weight.abs() <= bound + 1e-6).all())
        deviation = 0.0 if scheme == "constant" else bound / 3**0.5
        assert float(weight.detach().std()) == pytest.approx(deviation, abs=0.05 * bound)


def test_residuals_in_float32() -> None:
    """With narrow weights the sum over layers stays wide, unless the option says otherwise."""
    for wide, dtype in ((True, torch.float32), (False, torch.bfloat16)):
        model = noisy("mamba", residual_in_fp32=wide).to(torch.bfloat16)
        states = model(IDS, output_hidden_states=True).hidden_states
        assert [x.dtype for x in states] == [dtype, dtype, torch.bfloat16]


def test_old_name_of_the_token_table(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = noisy("mamba")
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["embedding.weight"] = tensors.pop("embeddings.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    again = from_pretrained(tmp_path)
    assert torch.equal(again(IDS).last_hidden_state, model(IDS).last_hidden_state)
    again.save_pretrained(tmp_path / "again")
    assert "embeddings.weight" in load_file(tmp_path / "again" / "model.safetensors")


def test_options_that_cannot_be() -> None:
    with pytest.raises(UserError) as caught:
        build_config("mamba", {"time_step_rank": "many", "time_step_min": 0.2, "time_step_floor": 0.0})
    assert [fault.place for fault in caught.value.faults] == ["time_step_rank", "time_step_min", "time_step_floor"]
    with pytest.raises(UserError, match="below the least value 1"):
        build_config("mamba", {"time_step_rank": 0})


@pytest.mark.parametrize("name", ["mamba", "rwkv"])
def test_exported(name: str) -> None:
    """One graph for texts of that shape, padded."""
    model = noisy(name)
    model.pack = False

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            states: Tensor = self.model(ids, mask).last_hidden_state
            return states

    mask = torch.ones_like(IDS)
    mask[1, 15:] = 0
    exported = torch.export.export(States().eval(), (IDS, mask)).module()
    assert difference(exported(IDS, mask), model(IDS, mask).last_hidden_state) < 1e-5
