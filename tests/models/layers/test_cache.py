"""Slots of keys and values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eir_seq.models.layers.cache import LEAST_ROOM, Cache
from eir_seq.models.layers.context import look_mask


@pytest.mark.parametrize("grad", [False, True], ids=["writes behind", "concatenates"])
def test_grows_token_by_token(grad: bool) -> None:
    """Far beyond the first room; what was returned earlier stays what it was."""
    mixer, cache, count = nn.Identity(), Cache(), 3 * LEAST_ROOM
    keys, values = torch.randn(2, 2, 3, count, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    with torch.set_grad_enabled(grad):
        earlier = None
        for place in range(count):
            new = slice(place, place + 1)
            found = cache.extend(mixer, keys[:, :, new], values[:, :, new])
            assert torch.equal(found[0], keys[:, :, : place + 1])
            assert torch.equal(found[1], values[:, :, : place + 1])
            if place == 10:
                earlier = found
    assert earlier is not None
    assert torch.equal(earlier[0], keys[:, :, :11])


def test_memory_is_kept_while_there_is_room() -> None:
    mixer, cache = nn.Identity(), Cache()
    new = torch.zeros(1, 1, 1, 4)
    with torch.no_grad():
        cache.extend(mixer, new, new)
        places = {cache.extend(mixer, new, new)[0].data_ptr() for _ in range(LEAST_ROOM)}
    assert len(places) == 1


@pytest.mark.parametrize("grad", [False, True], ids=["writes behind", "concatenates"])
@pytest.mark.parametrize("window", [1, 5, 100])
def test_a_window_forgets(window: int, grad: bool) -> None:
    """New tokens find those that they can see; memory stays bounded, and most steps copy nothing."""
    mixer, cache, count = nn.Identity(), Cache(), 8 * LEAST_ROOM
    keys = torch.randn(1, 2, count, 4, generator=torch.Generator().manual_seed(0))
    places = set()
    with torch.set_grad_enabled(grad):
        for place in range(count):
            new = keys[:, :, place : place + 1].clone()
            found, _ = cache.extend(mixer, new, -new, window)
            assert torch.equal(found, keys[:, :, max(0, place - window + 1) : place + 1])
            kept = cache.read(mixer)
            assert kept is not None
            assert torch.equal(kept[1], -keys[:, :, max(0, place - window + 2) : place + 1])
            assert kept[0].untyped_storage().nbytes() <= 2 * (2 * window + LEAST_ROOM * 2) * 4 * 4
            places.add(found.untyped_storage().data_ptr())
    assert grad or len(places) < count / 10


def test_a_long_text_does_not_stay_behind_a_window() -> None:
    cache, mixer, text = Cache(), nn.Identity(), torch.zeros(1, 1, 10_000, 1)
    cache.extend(mixer, text, text, 8)
    kept = cache.read(mixer)
    assert kept is not None
    assert kept[0].untyped_storage().nbytes() == 7 * 4


def test_gradients_pass_through_cached_keys() -> None:
    mixer, cache = nn.Identity(), Cache()
    first, second = (torch.randn(1, 1, 2, 4, requires_grad=True) for _ in range(2))
    cache.extend(mixer, first, first)
    keys, _ = cache.extend(mixer, second, second)
    keys.square().sum().backward()
    assert first.grad is not None
    assert torch.equal(first.grad, 2 * first)


def test_rows_in_another_order() -> None:
    mixer, cache = nn.Identity(), Cache()
    keys = torch.arange(6.0).view(3, 1, 2, 1)
    with torch.no_grad():
        cache.extend(mixer, keys[:, :, :1], -keys[:, :, :1])
        cache.extend(mixer, keys[:, :, 1:], -keys[:, :, 1:])
        cache.reorder(torch.tensor([2, 0, 0]))
        found = cache.read(mixer)
        assert found is not None
        assert torch.equal(found[0], keys[[2, 0, 0]])
        longer, _ = cache.extend(mixer, keys[:, :, :1], keys[:, :, :1])
    assert torch.equal(longer[:, :, :2], keys[[2, 0, 0]])


def test_who_looks_at_whom() -> None:
    real = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]).bool()
    look = look_mask(real, 2, 4, causal=True)
    assert look is not None
    assert look[0, 0].tolist() == [[False, False, True, False], [False, False, True, True]]
    assert look[1, 0].tolist() == [[True, True, True, False], [True] * 4]
    square = look_mask(real, 4, 4, causal=True)
    assert square is not None
    assert square[0, 0, :2].tolist() == [[True, False, False, False], [False, True, False, False]]


def test_states_are_replaced_and_reordered() -> None:
    mixer, cache = nn.Identity(), Cache()
    assert cache.state(mixer) is None
    cache.keep_state(mixer, torch.zeros(3))
    cache.keep_state(mixer, torch.arange(3), torch.arange(6).view(3, 2))
    cache.reorder(torch.tensor([2, 0, 0]))
    state = cache.state(mixer)
    assert state is not None
    assert [x.tolist() for x in state] == [[2, 0, 0], [[4, 5], [0, 1], [0, 1]]]


def test_the_memory_stays_where_rows_share_it() -> None:
    mixer, cache = nn.Identity(), Cache()
    keys = torch.arange(4.0).view(4, 1)
    cache.keep_memory(mixer, keys, -keys)
    cache.reorder(torch.tensor([1, 1, 2, 2]), same_memory=True)
    kept = cache.memory(mixer)
    assert kept is not None
    assert kept[0] is keys
    cache.reorder(torch.tensor([1, 1, 2, 2]))
    kept = cache.memory(mixer)
    assert kept is not None
    assert kept[1].flatten().tolist() == [-1, -1, -2, -2]
