"""Steps of decoding by the kernels, against plain operations in double precision, and texts against those of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.commands.bench.models import Setting, pair
from eir_seq.commands.bench.subjects import Size, Texts
from eir_seq.models.generation import GenerationOutput
from eir_seq.models.generation.decode.program import Program, Segment
from eir_seq.models.model import Model
from eir_seq.native import decoding, library
from eir_seq.native.activations import PLAIN
from tests.models.tiny import noisy

pytestmark = pytest.mark.usefixtures("kernels")
# 4 own heads; heads that share keys, RoPE in two variants, a bias by distance, one by ALiBi, two sides, experts
MODELS = ("gpt2", "llama", "gptj", "bloom", "mixtral", "bart", "t5")
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"do_sample": True, "num_return_sequences": 3, "seed": 5},
    "beams": {"num_beams": 4},
    "many rows": {"do_sample": True, "num_return_sequences": 6, "seed": 5},
}
PROMPT = torch.tensor([[0, 0, 15, 22, 31], [44, 17, 85, 60, 12]])


def run(fill: Callable[[Any], None], *inputs: Tensor, first: int = 0, columns: int = 0) -> None:
    program = decoding.program()
    fill(program)
    program.run(list(inputs), first, columns)


def close(found: Tensor, exact: Tensor, tolerance: float = 1e-5) -> None:
    """Float32 sums of up to some hundred terms."""
    assert found.dtype is torch.float32
    assert float((found.double() - exact).abs().max()) <= tolerance * max(1.0, float(exact.abs().max()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("columns", [1, 37, 96])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 9, 20])
def test_product(rows: int, columns: int, bias: bool) -> None:
    """Results go to some columns of a buffer; nothing else is written."""
    x, weight, shift = torch.randn(rows, 48), torch.randn(columns, 48), torch.randn(columns)
    buffer = torch.full((rows, columns + 5), torch.nan)
    y = buffer[:, 2 : 2 + columns]
    run(lambda program: program.product(x, weight, shift if bias else None, y))
    close(y, F.linear(x.double(), weight.double(), shift.double() if bias else None))
    assert int(buffer.isnan().sum()) == rows * 5


def test_a_row_has_the_same_bits_in_every_batch_and_with_every_number_of_threads() -> None:
    x, weight = torch.randn(8, 512), torch.randn(1000, 512)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for rows in (1, 2, 4, 7, 8):
            y = torch.empty(rows, 1000)
            program = decoding.program()
            program.product(x[:rows], weight, None, y)
            program.run([], 0, 0)
            results.append(y)
    torch.set_num_threads(1)
    assert all(torch.equal(y, results[-1][: len(y)]) for y in results)


@pytest.mark.parametrize("rows", [1, 3])
def test_norms_and_sums(rows: int) -> None:
    x, other, weight, bias = torch.randn(rows, 48), torch.randn(rows, 48), torch.randn(48), torch.randn(48)
    out = torch.empty(5, rows, 48)

    def fill(program: Any) -> None:
        program.norm(x, weight, bias, 1e-5, True, out[0])
        program.norm(x, weight, None, 1e-3, False, out[1])
        program.sum_of(x, other, out[2])
        program.sum_of(out[2], bias[None], out[3])
        program.scaled(x, 0.25, out[4])

    run(fill)
    wide = x.double()
    close(out[0], F.layer_norm(wide, (48,), weight.double(), bias.double(), 1e-5))
    close(out[1], F.rms_norm(wide, (48,), weight.double(), 1e-3))
    assert torch.equal(out[2], x + other)
    assert torch.equal(out[3], x + other + bias)
    assert torch.equal(out[4], x * 0.25)


@pytest.mark.parametrize("name", decoding.ACTIVATIONS)
def test_activations(name: str) -> None:
    both, out = torch.randn(3, 64) * 3, torch.empty(2, 3, 32)
    x, factor = both.chunk(2, -1)

    def fill(program: Any) -> None:
        program.activated(x, None, name, out[0])
        program.activated(x, factor, name, out[1])

    run(fill)
    exact = PLAIN[name](x.double())
    close(out[0], exact)
    close(out[1], exact * factor.double())


@pytest.mark.parametrize("rotation", [None, 2, 3], ids=["no rotation", "one rotation", "one per row"])
@pytest.mark.parametrize("added", ["nothing", "mask", "bias"])
@pytest.mark.parametrize(("own", "shared", "size"), [(4, 4, 16), (4, 2, 48), (6, 1, 128)], ids=str)
@pytest.mark.parametrize("beams", [1, 3])
def test_attention(beams: int, own: int, shared: int, size: int, added: str, rotation: int | None) -> None:
    texts, first, room, scale = 2, 21, 40, 0.3
    rows, columns, groups = texts * beams, first + beams, own // shared
    x = torch.randn(rows, (own + 2 * shared) * size)
    kept = torch.randn(2, texts, shared, room, size)
    more = {
        "nothing": torch.empty(0),
        "mask": torch.zeros(texts, 1, beams * groups, columns).masked_fill_(
            torch.rand(texts, 1, beams * groups, columns) < 0.3, -torch.inf
        ),
        "bias": torch.randn(1, shared, beams * groups, columns),
    }[added]
    shape = {None: (0,), 2: (size, size), 3: (rows, size, size)}[rotation]
    turns, y = torch.randn(shape), torch.empty(rows, own * size)

    heads = x.double().view(texts, beams, own + 2 * shared, size)
    if rotation is not None:
        matrix = turns.double().expand(rows, size, size).view(texts, beams, size, size)
        heads = torch.cat((heads[:, :, : own + shared] @ matrix, heads[:, :, own + shared :]), 2)
    expected = kept.double()
    expected[0, :, :, first:columns] = heads[:, :, own : own + shared].transpose(1, 2)
    expected[1, :, :, first:columns] = heads[:, :, own + shared :].transpose(1, 2)
    query = heads[:, :, :own].reshape(texts, beams, shared, groups, size).transpose(1, 2).flatten(2, 3)
    scores = query @ expected[0, :, :, :columns].mT * scale
    scores = scores if added == "nothing" else scores + more.double()
    mixed = scores.softmax(-1) @ expected[1, :, :, :columns]
    mixed = mixed.reshape(texts, shared, beams, groups, size).transpose(1, 2)

    run(
        lambda program: program.attend(x, y, 0, 1, 2, own, shared, size, scale, True),
        kept, more, turns, first=first, columns=columns,
    )  # fmt: skip
    close(y, mixed.reshape(rows, -1), 1e-4)  # scores of this size lose a digit in the exponential function
    close(kept, expected, 1e-4)


def test_attention_to_a_memory() -> None:
    texts, own, size = 2, 4, 16
    x, kept, y = torch.randn(texts * 3, own * size), torch.randn(2, texts, own, 19, size), torch.empty(6, own * size)
    hidden = torch.zeros(texts, 1, 1, 19)
    hidden[0, ..., 12:] = -torch.inf
    before = kept.clone()
    run(lambda program: program.attend(x, y, 0, 1, -1, own, own, size, 0.25, False), kept, hidden, columns=99)
    query = x.double().view(texts, 3, own, size).transpose(1, 2)
    weights = (query @ kept[0].double().mT * 0.25 + hidden.double()).softmax(-1)
    close(y, (weights @ kept[1].double()).transpose(1, 2).reshape(6, -1), 1e-4)
    assert torch.equal(kept, before)


def model_of(model_type: str) -> Model:
    """With heads of 16 channels."""
    task = "seq2seq-lm" if model_type in ("bart", "t5") else "causal-lm"
    setting = Setting(Size(width=64, layers=2, heads=4, length=64), Texts((8,), 1), {}, task=task)
    return noisy(pair(model_type, setting)[0].eval())


def written(model: Model, **options: Any) -> GenerationOutput:
    start: dict[str, Any] = {"decoder_start_token_id": 0} if model.task == "seq2seq-lm" else {}
    found = model.generate(
        PROMPT, (PROMPT != 0).long(), max_new_tokens=8, min_new_tokens=8, eos_token_id=2, pad_token_id=0,
        output_scores=True, return_dict_in_generate=True, **start, **options,
    )  # fmt: skip
    assert isinstance(found, GenerationOutput)
    return found


@pytest.mark.parametrize("model_type", MODELS)
def test_texts_are_those_of_torch(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ran = model_of(model_type), []
    run_segment = Segment.__call__
    monkeypatch.setattr(Segment, "__call__", lambda *given: ran.append(1) or run_segment(*given))  # type: ignore[func-returns-value]
    for kind, options in KINDS.items():
        ran.clear()
        found = written(model, **options)
        assert ran, kind
        assert torch.equal(found.sequences, written(model, **options).sequences), f"{kind}: bits repeat"
        ran.clear()
        with library.without():
            expected = written(model, **options)
        assert not ran
        assert torch.equal(found.sequences, expected.sequences), kind
        for ours, theirs in zip(found.scores or (), expected.scores or (), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)  # float32 sums in another order


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "bart", "t5"])
def test_a_step_is_one_call(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers and scores."""
    made: list[Segment] = []
    init, compiled = Segment.__init__, []
    compile_step = Program.compile
    monkeypatch.setattr(Segment, "__init__", lambda self: made.append(self) or init(self))  # type: ignore[func-returns-value]
    monkeypatch.setattr(Program, "compile", lambda *given: compiled.append(1) or compile_step(*given))  # type: ignore[func-returns-value]
    written(model_of(model_type))
    assert (len(made), len(compiled)) == (1, 1)


def test_lower_precision_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "program", lambda: pytest.fail("kernels are for float32"))
    model = model_of("gpt2")
    with torch.autocast("cpu", torch.bfloat16):
        written(model)
    written(model.to(torch.bfloat16))
