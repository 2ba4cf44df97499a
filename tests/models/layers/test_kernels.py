"""Which kernel multiplies: measured once for a machine, kept in the cache folder, the same ever after."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models.layers import kernels as module
from eir_seq.models.layers.kernels import (
    LAYOUTS,
    NEVER,
    RULE,
    SIZES,
    Kernels,
    factors,
    kernels,
    least_of,
    machine_name,
    may_gain,
    measure,
    stored,
    used,
)
from eir_seq.models.layers.linear import product

pytestmark = pytest.mark.skipif(not module.onednn_is_available(), reason="this torch has no oneDNN")
ALWAYS = {(layout, narrow): [2.0] * len(SIZES) for layout in LAYOUTS for narrow in (False, True)}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("EIR_SEQ_ONEDNN", raising=False)
    module._chosen.cache_clear()
    yield
    module._chosen.cache_clear()


def test_the_least_size_from_which_on_onednn_gains() -> None:
    measured = {
        ("output", False): [0.5, 1.2, 1.05, 1.1, 1.3],  # it wins by chance at 2^20
        ("output", True): [1.3, 1.2, 1.2, 1.2, 0.9],  # not at large sizes
        ("input gradient", False): [1.1] * 5,
        ("input gradient", True): [0.9, 0.9, 0.9, 0.9, 1.09],
        ("weight gradient", False): [0.2] * 5,
        ("weight gradient", True): [1.04] * 5,
    }
    choice = Kernels(least_of(measured))
    assert choice.least == {"output": (24, None), "input gradient": (18, 26), "weight gradient": (None, None)}
    assert choice.smallest == 18
    assert choice.takes_onednn("output", 2**24, 256)
    assert not choice.takes_onednn("output", 2**24 - 1, 256)
    assert not choice.takes_onednn("output", 2**30, 32)
    assert not NEVER.takes_onednn("output", 2**40, 256)


def test_factors_lie_in_memory_as_those_of_a_linear_layer() -> None:
    for layout in LAYOUTS:
        for narrow in (False, True):
            x, weight = factors(layout, 20, narrow=narrow)
            assert x.shape[0] * x.shape[1] * weight.shape[0] == 2**20
            assert (weight.shape[0] < module.NARROW) == narrow
            assert weight.is_contiguous() == (layout == "output")
            assert x.is_contiguous() == (layout != "weight gradient")
            with used(Kernels({layout: (10, 10)})):
                assert torch.allclose(product(x, weight), x @ weight.t(), rtol=1e-4, atol=1e-3)


def test_a_measurement_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure", lambda: ALWAYS)
    first = stored(tmp_path)
    assert first.least == dict.fromkeys(LAYOUTS, (18, 18))
    assert first.machine == machine_name()
    monkeypatch.setattr(module, "measure", lambda: pytest.fail("measured again"))
    assert stored(tmp_path) == first

    never = {key: [0.5] * len(SIZES) for key in ALWAYS}
    assert stored(tmp_path, never).least == dict.fromkeys(LAYOUTS, (None, None))
    assert stored(tmp_path).smallest == float("inf")


def test_processors_threads_and_versions_have_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure", lambda: ALWAYS)
    names = {stored(tmp_path).machine}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    names.add(stored(tmp_path).machine)
    monkeypatch.setattr(torch, "__version__", "9.9")
    names.add(stored(tmp_path).machine)
    assert len(names) == len([entry for entry in tmp_path.iterdir() if entry.name.startswith("kernels-")]) == 3


def test_a_damaged_entry_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure", lambda: ALWAYS)
    first = stored(tmp_path)
    (file,) = tmp_path.glob("kernels-*/kernels.json")
    file.write_text("{}")
    assert stored(tmp_path) == first
    assert json.loads(next(tmp_path.glob("kernels-*/kernels.json")).read_text()) == first.state()


def test_where_nothing_can_be_kept_a_rule_decides(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert stored(tmp_path / "file") is RULE


def _choose(folder: str, ratio: float) -> dict[str, object]:
    module.measure = lambda: {key: [ratio] * len(SIZES) for key in ALWAYS}
    return stored(Path(folder)).state()


def test_processes_that_begin_at_once_take_the_same(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=context) as pool:
        found = list(pool.map(_choose, [str(tmp_path)] * 3, (0.5, 2.0, 0.7)))
    assert found[0] == found[1] == found[2]


def test_a_measurement_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves random numbers alone, and no graph."""
    monkeypatch.setattr(module, "SIZES", (17, 18))
    monkeypatch.setattr(module, "SECONDS", 1e-5)
    monkeypatch.setattr(module, "ROUNDS", 1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    measured = measure()
    assert torch.equal(torch.get_rng_state(), before)
    assert {*measured} == {*ALWAYS}
    assert all(ratio >= 0 for ratios in measured.values() for ratio in ratios)


def test_only_where_onednn_may_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "stored", lambda: RULE)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    for maker, capability, expected in (
        ("AuthenticAMD", "AVX512", True),
        ("AuthenticAMD", "AVX2", True),
        ("GenuineIntel", "AVX512", False),
        ("AuthenticAMD", "DEFAULT", False),
    ):
        monkeypatch.setattr(module, "_processor", lambda maker=maker: f"vendor_id\t: {maker}\n")
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        module._chosen.cache_clear()
        assert may_gain() is expected
        assert kernels() is (RULE if expected else NEVER)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert not may_gain()


@pytest.mark.parametrize(("value", "expected"), [("0", NEVER), ("1", RULE)])
def test_the_switch(value: str, expected: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIR_SEQ_ONEDNN", value)
    assert kernels() is expected


def test_a_bad_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIR_SEQ_ONEDNN", "yes")
    with pytest.raises(UserError, match=r"EIR_SEQ_ONEDNN: 'yes' is not 0 .* or 1"):
        kernels()


def test_for_json() -> None:
    assert Kernels.of(json.loads(json.dumps(RULE.state()))) == RULE
    with pytest.raises(ValueError, match="not a choice of kernels"):
        Kernels.of(None)
    wrong: list[Any] = [[], {"output": [1]}, {"output": ["a", None]}, {"other": [1, 2]}]
    for least in wrong:
        with pytest.raises(ValueError, match="not a choice of kernels"):
            Kernels.of({"least": least, "machine": ""})
