"""`torch.export` with dynamic batch and length: the same results at other sizes, and the table of the documentation."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram, export

from eir_seq.models import list_models
from eir_seq.models.catalogue import find
from eir_seq.models.model import Model
from tests.models.tiny import EVERY_TASK, Inputs, inputs, noisy, targets, tiny

PLACES = ("mc_token_ids", "entity_start", "entity_end", "region", "cls_index")
FIXED = ("entity", "visual", "pixel", "encoder_hidden", *PLACES)
"""Inputs whose second dimension is no length of a text; those that hold places in it."""
LONGEST = 150
Lengths = tuple[tuple[int, ...], ...]
USUAL: Lengths = ((12, 5, 20, LONGEST),)
RANGES: dict[str, Lengths] = {
    "big_bird": ((12, 5, 18), (40, 20, LONGEST)),
    "bigbird_pegasus": ((12, 5, 18), (40, 20, LONGEST)),
    "longt5": ((12, 8, 20, LONGEST),),
    "mra": ((12, 5, 60), (100, 70, LONGEST)),
    "reformer": ((4, 2, 3), (12, 5, 20, 24)),
}
"""Length of an example, then lengths that its program takes; for each kind of example."""
SHOWN = [("bert", "sequence-classification"), ("gpt2", "causal-lm"), ("bart", "seq2seq-lm"), ("longformer", "base")]
ONE_PER_TASK = list({task: (model_type, task) for model_type, task in reversed(EVERY_TASK)}.values())


def text_axis(name: str, x: Tensor) -> int | None:
    """The dimension of the tokens; None if there is none."""
    if x.dim() < 2 or name.startswith(FIXED):
        return None
    return x.dim() - 1 if name in ("input_ids", "attention_mask", "token_type_ids") else 1  # behind choices


def sized(given: Inputs, batch: int, length: int) -> Inputs:
    """Other batches of the same kind: rows and tokens taken several times or left out."""
    found = {}
    for name, x in given.items():
        x = x[torch.arange(batch) % x.shape[0]]
        if (axis := text_axis(name, x)) is not None:
            x = x.index_select(axis, torch.arange(length) * x.shape[axis] // length)
        found[name] = x.clamp(max=length - 1) if name.startswith(PLACES) else x.contiguous()
    found["attention_mask"] = torch.ones_like(found["attention_mask"])
    found["attention_mask"][-1, ..., length - length // 3 :] = 0
    return found


def exported(model: Model, given: Inputs) -> ExportedProgram:
    def dynamic(name: str, x: Tensor) -> dict[int, Any]:
        return {axis: Dim.DYNAMIC for axis in (0, text_axis(name, x)) if axis is not None}

    with torch.no_grad():
        return export(model, (), given, dynamic_shapes={name: dynamic(name, x) for name, x in given.items()})


def assert_same(model: Model, program: Any, given: Inputs) -> None:
    model.pack = False
    with torch.no_grad():
        expected, found = model(**given), program(**given)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        if isinstance(tensor, Tensor):  # rounding of other kernels and of transforms of other sizes
            torch.testing.assert_close(
                found[name], tensor, atol=2e-5, rtol=1e-4, msg=lambda x, name=name: f"{name}: {x}"
            )


def check(model: Model, lengths: tuple[int, ...]) -> ExportedProgram:
    further = {} if model.head is None else {n: x for n, x in targets(model).items() if n not in model.head.targets}
    given = {name: x for name, x in {**inputs(model), **further}.items() if name != "mc_labels"}
    program = exported(model, sized(given, 3, lengths[0]))
    module = program.module()
    most = min(model.max_positions or LONGEST, model.config.target_positions() or LONGEST, LONGEST)
    for batch, length in zip((1, 5, 2), lengths[1:], strict=False):
        assert_same(model, module, sized(given, batch, min(length, most)))
    return program


@pytest.mark.parametrize(("model_type", "task"), SHOWN)
def test_with_dynamic_batch_and_length(model_type: str, task: str) -> None:
    model = noisy(tiny(model_type, task))
    program = check(model, USUAL[0])
    if model_type == "bert":  # through a file
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        assert_same(model, torch.export.load(file).module(), sized(inputs(model), 4, 9))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", list_models())
def test_every_architecture(model_type: str) -> None:
    """It exports as the table says."""
    row = find(model_type).export
    model = noisy(tiny(model_type))
    if row.refused is not None:
        with pytest.raises(Exception, match=r".+"):  # a reason must not stand for one that exports
            check(model, USUAL[0])
        return
    assert (model_type in RANGES) == (row.lengths is not None)
    for lengths in RANGES.get(model_type, USUAL):
        program = check(model, lengths)
        nodes = {str(node.target).removesuffix(".default").replace(".", "::") for node in program.graph.nodes}
        if lengths == RANGES.get(model_type, USUAL)[-1]:
            assert sorted(name for name in nodes if name.startswith("eir_seq::")) == sorted(row.operations)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "task"), ONE_PER_TASK)
def test_every_task(model_type: str, task: str) -> None:
    check(noisy(tiny(model_type, task)), USUAL[0])
