"""Steps by light copies of a model: what they compute, and that the model stays as it is."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.generation import GenerationOutput
from eir_seq.models.generation.beams import highest
from eir_seq.models.generation.decode import past, products, step
from eir_seq.models.generation.decode.copies import Copies
from eir_seq.models.generation.decode.instructions import Call, Norm, Product
from eir_seq.models.generation.decode.products import Few, joined
from eir_seq.models.generation.decode.program import Program
from eir_seq.models.generation.search import most_likely
from eir_seq.models.generation.steps import Steps
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.residual import PreNorm
from eir_seq.models.lora import add_lora
from eir_seq.models.model import Model
from eir_seq.native import library
from tests.models.tiny import noisy, tiny
from tests.sampled import sampled

PROMPT = torch.tensor([[0, 0, 15, 22, 31], [44, 17, 85, 60, 12]])
REAL = (PROMPT != 0).long()
NEW = 24
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"do_sample": True, "num_return_sequences": 3, "seed": 5},
    "beams": {"num_beams": 4, "num_return_sequences": 2},
    "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    "static": {"num_beams": 3, "cache_implementation": "static", "use_cache": True},
}
# heads that share keys, RoPE in its variants, biases by distance, windows, norms of heads, two sides, recurrences
MODELS = (
    ("gpt2", "causal-lm"), ("llama", "causal-lm"), ("starcoder2", "causal-lm"), ("qwen2", "causal-lm"),
    ("gptj", "causal-lm"), ("phi", "causal-lm"), ("bloom", "causal-lm"), ("mpt", "causal-lm"), ("falcon", "causal-lm"),
    ("gemma", "causal-lm"), ("stablelm", "causal-lm"), ("opt", "causal-lm"), ("mixtral", "causal-lm"),
    ("mamba", "causal-lm"), ("rwkv", "causal-lm"), ("bart", "causal-lm"), ("bart", "seq2seq-lm"), ("t5", "seq2seq-lm"),
    ("t5gemma", "seq2seq-lm"), ("switch_transformers", "seq2seq-lm"), ("prophetnet", "seq2seq-lm"),
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def gpt2() -> Model:
    return noisy(tiny("gpt2", "causal-lm"))


def texts(model: Model, **options: Any) -> GenerationOutput:
    given: dict[str, Any] = {"max_new_tokens": NEW, "output_scores": True, "return_dict_in_generate": True}
    given |= options
    given["min_new_tokens"] = min(12, given["max_new_tokens"])
    found = model.generate(PROMPT, REAL, **given)
    assert isinstance(found, GenerationOutput)
    return found


def plainly(model: Model, monkeypatch: pytest.MonkeyPatch, **options: Any) -> GenerationOutput:
    with monkeypatch.context() as patch:
        patch.setattr(Steps, "lighten", lambda *_, **__: None)
        return texts(model, **options)


@pytest.mark.parametrize(
    ("model_type", "task", "kind"),
    sampled([(*model, kind) for model in MODELS for kind in KINDS], 1 / 3, always=lambda case: case[2] == "beams"),
    ids=str,
)
def test_steps_are_passes(model_type: str, task: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens and scores are those of calls of the model, also with padding before a prompt."""
    model = noisy(tiny(model_type, task))
    monkeypatch.setattr(past, "PRUNED", 4)
    found, expected = texts(model, **KINDS[kind]), plainly(model, monkeypatch, **KINDS[kind])
    assert torch.equal(found.sequences, expected.sequences)
    for ours, theirs in zip(found.scores or (), expected.scores or (), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)  # float32 sums in another order


def test_most_architectures_need_no_passes(gpt2: Model) -> None:
    """Those with one linear stack of layers and plain attention, recurrences or experts."""
    able = {
        (model_type, task)
        for model_type, task in MODELS
        if step.TokenSteps(noisy(tiny(model_type, task)), longest=8, new=4).able
    }
    assert able == set(MODELS) - {("prophetnet", "seq2seq-lm")}  # it reads several streams


@pytest.mark.parametrize(("model_type", "task"), MODELS, ids=str)
def test_layers_are_recorded(model_type: str, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is called at every step are recurrences, experts, and what no other architecture has."""
    called: set[str] = set()
    compile_step = Program.compile

    def noted(self: Program, rows: int) -> Any:
        called.update(type(made.part).__name__ for made in self._instructions if isinstance(made, Call))
        return compile_step(self, rows)

    monkeypatch.setattr(Program, "compile", noted)
    texts(noisy(tiny(model_type, task)), max_new_tokens=2)
    expected = {
        "mamba": {"MixerLayer"},
        "rwkv": {"TimeMixing", "ChannelMixing"},
        "mixtral": {"TopKExperts"},
        "switch_transformers": {"SwitchExperts"},
        "t5gemma": {"Attention"},  # its scores are bounded
        "prophetnet": set[str](),  # see above
    }
    assert called == expected.get(model_type, set())


def test_values_take_the_places_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """More layers need no more memory."""
    counts: list[int] = []
    place = Program._in_few_places

    def noted(self: Program) -> Any:
        found = place(self)
        counts.append(len(found[1]))
        return found

    monkeypatch.setattr(Program, "_in_few_places", noted)
    for layers in (2, 4):
        texts(noisy(tiny("gpt2", "causal-lm", n_layer=layers)), max_new_tokens=2)
    assert counts[0] == counts[1] < 10


class Doubled(PreNorm):
    """Multiplies states by a tensor, which is not recorded."""

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        return super().forward(x, ctx) * torch.full((), 2.0)


def test_what_cannot_be_recorded_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a whole, with the same results: nothing of it stays among the instructions."""
    model = noisy(tiny("gpt2", "causal-lm"))
    for layer in model.body.layers:
        layer.__class__ = Doubled
    made: list[Any] = []
    compile_step = Program.compile

    def noted(self: Program, rows: int) -> Any:
        made.extend(self._instructions)
        return compile_step(self, rows)

    monkeypatch.setattr(Program, "compile", noted)
    found = texts(model, num_beams=2)
    assert [type(one) for one in made] == [Call] * len(model.body.layers) + [Norm, Product]
    assert torch.equal(found.sequences, plainly(model, monkeypatch, num_beams=2).sequences)


def test_pruned_columns(gpt2: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that no beam descends from are dropped, which changes nothing."""
    kept: list[int] = []
    prune = past.Past._prune

    def counted(self: past.Past) -> None:
        before = self.columns
        prune(self)
        kept.append(before - self.columns)

    monkeypatch.setattr(past, "PRUNED", 4)
    monkeypatch.setattr(past.Past, "_prune", counted)
    found = texts(gpt2, num_beams=4)
    assert sum(kept) > 0
    monkeypatch.setattr(past, "PRUNED", 10**9)
    whole = texts(gpt2, num_beams=4)
    assert torch.equal(found.sequences, whole.sequences)


@pytest.mark.parametrize("copied", [2**30, 0], ids=["copies", "no memory"])
@pytest.mark.parametrize("bias", [True, False])
def test_joined_products(bias: bool, copied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "COPIED", copied)
    few = Few(transposes=True)
    few.began = True
    parts = [Linear(8, 5, bias=bias), Linear(8, 3, bias=False), Linear(8, 4, bias=bias)]
    copies = Copies({Linear: lambda layer, copies: products.light_linear(layer, copies, few)}, {})
    light: Any = [copies.of(part) for part in parts]
    together = joined(light, few)
    for rows in (1, 3, 4, 64, 200, 4):
        x = torch.randn(rows, 1, 8)
        expected = torch.cat([F.linear(x, part.weight, part.bias) for part in parts], -1)
        torch.testing.assert_close(together(x), expected)
        torch.testing.assert_close(light[0](x), F.linear(x, parts[0].weight, parts[0].bias))


def test_the_model_is_left_alone(gpt2: Model) -> None:
    states = {name: dict(vars(module)) for name, module in gpt2.named_modules()}
    texts(gpt2, num_beams=3)
    assert states == {name: dict(vars(module)) for name, module in gpt2.named_modules()}
    gpt2.train()
    try:
        first = texts(gpt2).sequences
        assert all(module.training for module in gpt2.modules())
    finally:
        gpt2.eval()
    assert torch.equal(first, texts(gpt2).sequences)


def test_copies_live_no_longer_than_the_call(gpt2: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the garbage collector, as copies of weights are large."""
    made: list[weakref.ref[Any]] = []
    prepare = products.Joined._prepare

    def noted(self: products.Joined, rows: int) -> None:
        made.append(weakref.ref(self))
        prepare(self, rows)

    monkeypatch.setattr(products.Joined, "_prepare", noted)
    gc.collect()
    gc.disable()
    try:
        with library.without():  # kernels read weights as they are
            texts(gpt2, num_beams=4)
        assert made
        assert all(reference() is None for reference in made)
    finally:
        gc.enable()


def test_new_weights_are_seen(gpt2: Model) -> None:
    model = noisy(tiny("gpt2", "causal-lm"))
    texts(model, num_beams=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data.mul_(1.3)
    other = noisy(tiny("gpt2", "causal-lm"))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.data.mul_(1.3)
    found = texts(model, num_beams=4)
    assert torch.equal(found.sequences, texts(other, num_beams=4).sequences)
    assert not torch.equal(found.sequences, texts(gpt2, num_beams=4).sequences)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_adapters(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are part of what is copied, in float32; in lower precision they are computed apart, as in a pass."""
    model = noisy(tiny("llama", "causal-lm"))
    without = texts(model).sequences
    add_lora(model, rank=2, alpha=8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora.b" in name:
                parameter.normal_(std=0.5)
    model.to(dtype)
    found, expected = texts(model, max_new_tokens=2), plainly(model, monkeypatch, max_new_tokens=2)
    assert found.scores is not None
    assert expected.scores is not None
    exact: dict[str, Any] = {"rtol": 0, "atol": 0} if dtype is torch.bfloat16 else {}
    torch.testing.assert_close(found.scores[0], expected.scores[0], **exact)
    rounding: dict[str, Any] = {"atol": 0.15, "rtol": 0.05} if dtype is torch.bfloat16 else {"atol": 2e-4, "rtol": 1e-4}
    torch.testing.assert_close(found.scores[1], expected.scores[1], **rounding)  # see below and above
    if dtype is torch.float32:
        found, expected = texts(model), plainly(model, monkeypatch)
        assert torch.equal(found.sequences, expected.sequences)
        assert not torch.equal(found.sequences, without)


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "mamba", "rwkv"])
def test_bfloat16(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = noisy(tiny(model_type, "causal-lm")).to(torch.bfloat16)
    found, expected = texts(model, max_new_tokens=2), plainly(model, monkeypatch, max_new_tokens=2)
    for ours, theirs in zip(found.scores or (), expected.scores or (), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.15, rtol=0.05)  # 8 bits, a few layers
    with torch.autocast("cpu", torch.bfloat16):
        assert texts(model, num_beams=4).sequences.shape == (2, PROMPT.shape[1] + NEW)


def test_hooked_modules_are_called(gpt2: Model) -> None:
    """A module with a hook is called as torch calls it, everything around it is not."""
    calls: list[Tensor] = []
    expected = texts(gpt2).sequences
    with gpt2.body.layers[0].mlp.register_forward_hook(lambda _m, _x, output: calls.append(output)):
        assert torch.equal(texts(gpt2).sequences, expected)
    assert len(calls) == NEW
    with gpt2.body.layers[0].mixer.query.register_forward_hook(lambda _m, _x, output: output * 0):
        assert not torch.equal(texts(gpt2).sequences, expected)


def test_shared_and_parametrized_parts() -> None:
    part = nn.Linear(4, 4)
    copies = Copies({}, {})
    both = copies.of(nn.ModuleList([part, part]))
    assert both[0] is both[1]  # type: ignore[index]
    torch.nn.utils.parametrizations.weight_norm(part)
    x = torch.randn(2, 4)
    assert torch.equal(Copies({}, {}).of(part)(x), part(x))


def test_scores_may_be_changed_in_place(gpt2: Model) -> None:
    def ban(_: Tensor, scores: Tensor) -> Tensor:
        scores[:, ::2] = -torch.inf
        return scores

    assert bool((texts(gpt2, logits_processor=[ban]).sequences[:, PROMPT.shape[1] :] % 2 == 1).all())


def test_threads_share_a_model(gpt2: Model) -> None:
    wanted = [{"num_beams": 4}, {}, {"do_sample": True, "seed": 3}, {"num_beams": 2}]
    expected = [texts(gpt2, **options).sequences for options in wanted]
    found: list[Tensor | None] = [None] * len(wanted)

    def run(number: int) -> None:
        found[number] = texts(gpt2, **wanted[number]).sequences

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(wanted))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one is not None and torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("size", [1024, 1030, 2000])
def test_highest_sums(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, before = torch.randn(3, 4, size), torch.randn(3, 4)
    expected = (scores + before[..., None]).flatten(1).topk(8)
    monkeypatch.setattr("eir_seq.models.generation.beams.MANY", 0)
    sums, places = highest(scores, before, 8)
    assert torch.equal(sums, expected.values)
    assert torch.equal(places, expected.indices)


def test_equal_sums_come_in_the_order_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, before = torch.randint(0, 9, (2, 4, 2000)).float(), torch.zeros(2, 4)
    monkeypatch.setattr("eir_seq.models.generation.beams.MANY", 0)
    assert torch.equal(highest(scores, before, 8)[1], scores.flatten(1).topk(8).indices)


def test_most_likely() -> None:
    scores = torch.tensor([[1.0, 3.0, 3.0], [-torch.inf, -torch.inf, -torch.inf], [0.0, torch.nan, 5.0]])
    assert most_likely(scores).tolist() == scores.argmax(-1, keepdim=True).tolist() == [[1], [0], [1]]
