"""What only a GPU can show: ``make test-gpu``, a few minutes on one device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.config.compose import compose_experiment
from eir_seq.models import create_model
from eir_seq.models.layers.attention import packed_kernels
from eir_seq.models.layers.attention.packed import packed_attention
from eir_seq.models.layers.positions.relative import DistanceBias
from eir_seq.training.run import train
from tests.devices.learning import assert_gradients, learned
from tests.devices.simulated import on_cpu
from tests.models.tiny import OPTIONS, inputs, loss, noisy, tiny

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda", 0)
LENGTHS = (30, 1, 257, 64)
LANGUAGE_MODELS = [("gpt2", "causal-lm"), ("llama", "causal-lm"), ("t5", "seq2seq-lm"), ("mixtral", "causal-lm")]
WIDER: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 64},
    "llama": {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16},
    "t5": {"d_kv": 16},
    "m2m_100": {"d_model": 64},
}
"""Heads of at least 16 numbers, which the kernels of a GPU want."""


@pytest.fixture(autouse=True)
def exact_products() -> None:
    """No TF32: values are compared."""
    torch.set_float32_matmul_precision("highest")


def on_gpu(tree: Any) -> Any:
    return {name: x.to(CUDA) for name, x in tree.items()}


@pytest.mark.parametrize("model_type", list(OPTIONS))
def test_every_architecture(model_type: str) -> None:
    """Values and gradients are those of the CPU."""
    model, given, expected, gradients = learned(model_type)
    output = model.to(CUDA)(**on_gpu(given))
    found = loss(model, on_cpu(output))
    found.backward()
    torch.testing.assert_close(found.detach().cpu(), expected, atol=1e-4, rtol=1e-3)
    assert_gradients(model, gradients, torch.Tensor.cpu, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("shared", [4, 2])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_flash_kernel(causal: bool, window: int | None, shared: int, dtype: torch.dtype) -> None:
    """Values and gradients are those of `packed_attention` in float32 on the CPU."""
    torch.manual_seed(0)
    texts = [torch.randn(sum(LENGTHS), heads, 32) for heads in (4, shared, shared)]
    found = []
    for device, kind in (("cpu", torch.float32), (CUDA, dtype)):
        q, k, v = (x.to(device, dtype).to(kind).requires_grad_() for x in texts)
        if device == "cpu":
            out = packed_attention(q, k, v, LENGTHS, LENGTHS, causal=causal, window=window)
        else:
            how: dict[str, Any] = {"causal": causal, "window": window, "dropout": 0.0, "scale": 32**-0.5}
            made = packed_kernels.flash(q, k, v, LENGTHS, LENGTHS, **how)
            assert made is not None
            out = made
        out.float().square().sum().backward()
        found.append([out.detach().float().cpu(), *(x.grad.float().cpu() for x in (q, k, v) if x.grad is not None)])
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() < 2**-5 * one.abs().max()


@pytest.mark.parametrize("causal", [False, True])
def test_nested_tensors_with_dropout(causal: bool) -> None:
    """The mean of many draws is what there is without dropout."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, sum(LENGTHS), 2, 32, device=CUDA, dtype=torch.bfloat16)
    how: dict[str, Any] = {"causal": causal, "window": None, "scale": 32**-0.5}
    draws = [packed_kernels.flash(q, k, v, LENGTHS, LENGTHS, dropout=0.1, **how) for _ in range(400)]
    expected = packed_attention(*(x.float().cpu() for x in (q, k, v)), LENGTHS, LENGTHS, causal=causal)
    mean = torch.stack([x.float() for x in draws if x is not None]).mean(0).cpu()
    # a weight w of a value v has variance v^2 w^2 / 9, so means stray by |v| / 3 / 20 at most
    assert (mean - expected).abs().max() < 5 * v.float().abs().max().cpu() / 60


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 40])
def test_flex_attention(causal: bool, window: int | None) -> None:
    """Values and gradients, those of a learned bias included."""
    torch.manual_seed(0)
    texts = [torch.randn(sum(LENGTHS), heads, 32) for heads in (4, 2, 2)]
    values, found = torch.randn(4, 1023), []
    for device in ("cpu", CUDA):
        q, k, v, learned = (x.to(device).requires_grad_() for x in (*texts, values))
        bias = DistanceBias(learned, 511)
        if device == "cpu":
            out = packed_attention(q, k, v, LENGTHS, LENGTHS, causal=causal, window=window, bias=bias)
        else:
            how: dict[str, Any] = {"causal": causal, "window": window, "bias": bias, "scale": 32**-0.5}
            made = packed_kernels.flex(q, k, v, LENGTHS, LENGTHS, **how)
            assert made is not None
            out = made
        out.square().sum().backward()
        found.append([out.detach().cpu(), *(x.grad.cpu() for x in (q, k, v, learned) if x.grad is not None)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, atol=2e-3, rtol=2e-2)


@pytest.mark.parametrize("name", ["flash_attention_2", "flex_attention"])
@pytest.mark.parametrize("model_type", ["bert", "llama", "t5", "m2m_100"])
def test_models_with_packed_texts(model_type: str, name: str) -> None:
    if (model_type, name) == ("t5", "flash_attention_2"):
        pytest.skip("its biases are not for the flash kernel")
    dtype = torch.bfloat16 if name == "flash_attention_2" else torch.float32
    torch.manual_seed(0)
    model = noisy(create_model(model_type, {**OPTIONS[model_type], **WIDER[model_type]})).eval().to(CUDA, dtype)
    given = on_gpu(inputs(model))
    real = given["attention_mask"].bool()
    real = real[:, : given["decoder_input_ids"].shape[1]] if "decoder_input_ids" in given else real
    expected = model(**given).last_hidden_state.float()
    model.set_attn_implementation(name)
    found = model(**given).last_hidden_state.float()
    assert (found - expected)[real].abs().max() < (2**-4 if dtype == torch.bfloat16 else 1e-3)


@pytest.mark.parametrize(("model_type", "task"), LANGUAGE_MODELS)
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generation(model_type: str, task: str, beams: int, cache: str) -> None:
    """The tokens are those of the CPU, also where steps are replayed as graphs."""
    model: Any = noisy(tiny(model_type, task))
    given = {name: x for name, x in inputs(model).items() if not name.startswith("decoder")}
    how = {"max_new_tokens": 12, "num_beams": beams}
    expected = model.generate(**given, **how)
    found = model.to(CUDA).generate(**on_gpu(given), **how, cache_implementation=cache)
    assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=imdb_longformer"],
        ["experiment=pretrain_bert", "trainer.precision=bf16-mixed"],
        ["experiment=text_gpt2", "trainer.precision=bf16-mixed", "trainer.compile=true"],
        ["experiment=translate_m2m100", "trainer.precision=16-mixed"],
    ],
    ids=" ".join,
)
def test_runs(tmp_path: Path, words: list[str]) -> None:
    more = ["data.limit=128", "trainer.max_epochs=1", "trainer.accelerator=gpu", f"run.dir={tmp_path / 'run'}"]
    train(compose_experiment([*words, *more]).config)
    assert (tmp_path / "run" / "report.html").exists()


def test_the_same_command_gives_the_same_bits(tmp_path: Path) -> None:
    words = ["experiment=imdb_longformer", "data.limit=64", "trainer.max_epochs=1", "trainer.accelerator=gpu"]
    for name in ("one", "two"):
        train(compose_experiment([*words, "trainer.deterministic=true", f"run.dir={tmp_path / name}"]).config)
    assert (tmp_path / "one" / "metrics.csv").read_bytes() == (tmp_path / "two" / "metrics.csv").read_bytes()
