"""How attention is computed: spelt out or by torch's kernels, with the same results; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import sdpa_kernel

from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained, list_models
from eir_seq.models.layers.attention import dot_product
from eir_seq.models.layers.attention.dot_product import DotProduct
from eir_seq.models.model import Model
from tests.models.tiny import OPTIONS, inputs, noisy, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per call of torch's kernels."""
    seen: list[int] = []
    kernel = F.scaled_dot_product_attention

    def counted(*args: Any, **options: Any) -> torch.Tensor:
        seen.append(1)
        return kernel(*args, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    return seen


@pytest.mark.parametrize("model_type", list_models())
@torch.no_grad()
def test_eager_and_sdpa_agree_and_are_what_they_say(model_type: str, calls: list[int]) -> None:
    """Without gradients: those of learned biases are not what torch's kernels have."""
    model = noisy(tiny(model_type))
    given = inputs(model)
    for pack in (True, False):
        model.pack = pack
        model.set_attn_implementation("eager")
        calls.clear()
        eager = model(**given)
        assert not calls, "weights are spelt out"
        try:
            model.set_attn_implementation("sdpa")
        except UserError:
            assert model(**given).last_hidden_state.equal(eager.last_hidden_state)
            assert not calls, "what is refused is not done"
            continue
        calls.clear()
        kernels = model(**given)
        assert calls, "torch's kernels compute"
        torch.testing.assert_close(kernels.last_hidden_state, eager.last_hidden_state, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", ["bert", "llama", "m2m_100", "mvp", "t5"])
def test_gradients_agree(model_type: str) -> None:
    gradients = []
    for name in ("eager", "sdpa"):
        model = noisy(tiny(model_type))
        model.set_attn_implementation(name)
        model(**inputs(model)).last_hidden_state.square().mean().backward()
        gradients.append({name: x.grad for name, x in model.named_parameters() if x.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, grad in gradients[0].items():
        torch.testing.assert_close(grad, gradients[1][name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_the_factory_takes_it(tmp_path: Path, name: str) -> None:
    assert how(create_model("bert", OPTIONS["bert"], attn_implementation=name)) == {name}
    before = noisy(tiny("m2m_100", "seq2seq-lm"))
    before.save_pretrained(tmp_path)
    after = from_pretrained(tmp_path, attn_implementation=name)
    assert how(after) == {name}
    given = {name: x for name, x in inputs(before).items() if not name.startswith("decoder")}
    one, other = (cast(Any, model).generate(**given, max_new_tokens=5, num_beams=2) for model in (before, after))
    assert torch.equal(one, other)
    assert "attn_implementation" not in (tmp_path / "config.json").read_text()


def how(model: Model) -> set[str]:
    return {module.attn_implementation for module in model.modules() if isinstance(module, DotProduct)}


@pytest.mark.parametrize(
    ("model_type", "name", "message"),
    [
        ("bert", "spda", "'spda' is not one of 'eager', 'sdpa', 'flash_attention_2', 'flex_attention'; did you mean"),
        ("nezha", "sdpa", "'sdpa' cannot be: the attention of 'nezha' has biases, masks or steps that it does not"),
        ("t5", "flash_attention_2", "'flash_attention_2' cannot be: the attention of 't5' has biases, masks or steps"),
        ("bloom", "flash_attention_2", "'flash_attention_2' cannot be: the attention of 'bloom' has biases, masks or"),
        ("led", "flash_attention_2", "'flash_attention_2' cannot be: the attention of 'led' has biases, masks or"),
        ("fnet", "sdpa", "'sdpa' cannot be: the attention of 'fnet' is no such product"),
        ("bloom", "flex_attention", "'flex_attention' cannot be: the attention of 'bloom' has biases, masks or"),
        ("t5", "flex_attention", "'flex_attention' needs a GPU with CUDA, which is not there"),
        ("m2m_100", "flash_attention_2", "'flash_attention_2' needs a GPU with CUDA, which is not there"),
    ],
)
def test_what_is_refused(model_type: str, name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"^attn_implementation: {message}"):
        create_model(model_type, OPTIONS[model_type], attn_implementation=name)


@pytest.mark.parametrize("model_type", ["bert", "llama"])
def test_the_flash_kernel(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Padded, on a CPU, whose flash kernel stands for that of a GPU; packed texts have kernels of their own."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    model = noisy(tiny(model_type)).double().to(torch.bfloat16)
    given = inputs(model)
    plain = model(**given).last_hidden_state.float()
    model.set_attn_implementation("flash_attention_2")
    allowed: list[Any] = []

    def noted(kernels: Any, **_: Any) -> Any:
        allowed.append(kernels)
        return sdpa_kernel(kernels, **_)

    monkeypatch.setattr(dot_product, "sdpa_kernel", noted)
    model.pack = False
    flash = model(**given).last_hidden_state.float()
    assert (plain - flash)[given["attention_mask"].bool()].abs().max() < 2**-4
    assert allowed[-1] == dot_product.MASKED, "where one is left, another kernel serves"
    with pytest.raises(UserError, match=r"'flash_attention_2' computes in float16 or bfloat16, not in float32; load"):
        model.float()(**given)


def test_packing_for_a_kernel_is_undone() -> None:
    model = tiny("bert")
    model.body.packs_for_kernel = True
    model.set_attn_implementation("sdpa")
    assert not model.body.packs_for_kernel


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "t5gemma", "m2m_100"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, "float16"])
def test_weights_of_another_number_format(tmp_path: Path, model_type: str, dtype: Any) -> None:
    before = noisy(tiny(model_type))
    before.save_pretrained(tmp_path)
    after = from_pretrained(tmp_path, dtype=dtype)
    wanted = torch.float16 if dtype == "float16" else dtype
    assert {x.dtype for x in after.parameters()} == {wanted}
    assert all(torch.equal(x, before.get_parameter(name).to(wanted)) for name, x in after.named_parameters())
    if wanted == torch.bfloat16:
        found = after(**inputs(before)).last_hidden_state
        expected = before(**inputs(before)).last_hidden_state
        assert found.dtype == wanted
        assert torch.nn.functional.cosine_similarity(found.float().flatten(), expected.flatten(), 0) > 0.99


def test_formats_that_are_none(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path)
    for given in ("bfloat", "int64", torch.int8):
        with pytest.raises(UserError, match=r"^dtype: .* is no number format of weights"):
            from_pretrained(tmp_path, dtype=given)
