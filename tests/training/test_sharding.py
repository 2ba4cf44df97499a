"""Every architecture learns in shards (FSDP) as it does as a whole."""

from __future__ import annotations

import pytest
from torch import nn

from eir_seq.models import list_models
from eir_seq.training.sharding import units
from tests.models.tiny import tiny
from tests.training.driver import driven


@pytest.mark.slow
def test_gradients_are_those_of_the_whole_model() -> None:
    found = driven("shards_driver")
    assert found.keys() == set(list_models())
    # Weights lie elsewhere in memory, so that products sum in another order (float32); the largest was 3.5e-4.
    assert {name: value for name, value in found.items() if isinstance(value, str) or value > 1e-3} == {}


def test_each_layer_is_a_unit_once() -> None:
    model = tiny("bert")
    assert list(units(model)) == list(reversed(list(model.body.layers)))  # type: ignore[call-overload]
    shared = tiny("albert")
    assert len(set(units(shared))) == len(list(units(shared)))
    assert list(units(tiny("reformer"))) == [], "its layers are not called, their parts are"
    assert list(units(nn.Linear(2, 2))) == []
