"""Files that hold a tied tensor under one of its names only, or under several with different values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eir_seq.models import from_pretrained
from eir_seq.models.catalogue import architecture
from eir_seq.models.checkpoint.folder import options_of
from eir_seq.models.checkpoint.matching import Match, match
from eir_seq.models.model import Model
from eir_seq.models.option_checks import build_config
from tests.parity.cases import CASES, Case
from tests.parity.harness import DECODER, difference, inputs_of, pair, reference_model

PLAIN = [case for case in CASES if "@" not in case.name]
BY_NAME = {case.name: case for case in CASES}


def tied(model: nn.Module) -> list[list[str]]:
    """The names of each tensor that has more than one."""
    groups: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def assert_accounted(found: Match, held: dict[str, Tensor]) -> None:
    read = {name for names in found.names.values() for name in names}
    assert {*read, *found.unused, *found.ignored} == set(held)


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_any_name_of_a_tied_tensor_is_enough(case: Case) -> None:
    """In every class; with different values, one of them is read and the others are reported."""
    for task, entry in architecture(case.model_type).tasks.items():
        reference = reference_model(case, task, **DECODER.get((case.model_type, task), {}))
        if not (groups := tied(reference)):
            continue
        held = {name: x.clone() for name, x in reference.state_dict().items()}
        model = from_options(case, task, reference)
        whole = match(model, held)
        assert_accounted(whole, held)
        assert not whole.differing
        wanted = set(dict(model.named_parameters())) - set(model.computed_tensors())
        assert wanted <= set(whole.tensors), entry.published
        for names in groups:
            for kept in names:
                part = {name: x for name, x in held.items() if name == kept or name not in names}
                found = match(model, part)
                assert_accounted(found, part)
                assert found.unused == whole.unused, (task, kept)
                assert found.tensors.keys() == whole.tensors.keys(), (task, kept)
                assert all(torch.equal(found.tensors[name], x) for name, x in whole.tensors.items()), (task, kept)
            found = match(model, held | {name: held[name] + place for place, name in enumerate(names)})
            assert_accounted(found, held)
            (first,) = {first for first, _ in found.differing}
            assert {first, *found.unused} == {*names, *whole.unused}


def from_options(case: Case, task: str, reference: Any) -> Model:
    """Our model of the same options, without values."""
    content = {**reference.config.to_diff_dict(), "model_type": case.model_type}
    options = options_of(content, Path("config.json"))
    options.pop("published")
    with torch.device("meta"):
        return Model(architecture(case.model_type), build_config(case.model_type, options), task)


@pytest.mark.parametrize(
    ("name", "bias", "other"),
    [
        ("bert", "cls.predictions.bias", "cls.predictions.decoder.bias"),
        ("roberta", "lm_head.bias", "lm_head.decoder.bias"),
        ("albert", "predictions.bias", "predictions.decoder.bias"),
    ],
)
def test_the_bias_of_the_tokens_under_its_other_name(name: str, bias: str, other: str, tmp_path: Path) -> None:
    both = pair(BY_NAME[name], "masked-lm", tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    held[other] = held.pop(bias, held.get(other))
    save_file(held, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ours = from_pretrained(tmp_path)
    assert ours.load_report.initialised == ()
    assert ours.load_report.unused == ()
    inputs = inputs_of(BY_NAME[name], both.reference.config)
    assert difference(ours(**inputs).logits, both.reference(**inputs).logits, inputs["attention_mask"].bool()) < 1e-5


@pytest.mark.parametrize("name", ["bert", "roberta", "albert", "fnet", "reformer", "bert-generation", "t5", "bart"])
def test_different_values_of_one_tensor(name: str, tmp_path: Path) -> None:
    """The reference implementation reads the same of them."""
    task = {"bert-generation": "causal-lm", "t5": "seq2seq-lm", "bart": "seq2seq-lm"}.get(name, "masked-lm")
    reference = reference_model(BY_NAME[name], task, **DECODER.get((name, task), {}))
    groups = tied(reference)
    reference.save_pretrained(tmp_path)
    held = {name: x.clone() for name, x in reference.state_dict().items()}
    for names in groups:
        held |= {name: held[name] + place for place, name in enumerate(names)}
    save_file(held, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = from_pretrained(tmp_path, task=task).load_report
    theirs = type(reference).from_pretrained(tmp_path).state_dict()
    assert {first for first, _ in found.differing} == {
        next(name for name in names if torch.equal(held[name], theirs[name])) for names in groups
    }
    assert {other for _, other in found.differing} <= set(found.unused)
