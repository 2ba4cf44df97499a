"""Adapters of low rank: their files by the published layout, merging, what is trained, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from eir_seq.errors import UserError
from eir_seq.models import from_pretrained, list_models
from eir_seq.models.lora import add_lora, freeze, linear_modules, load_adapter, merge_lora, save_adapter
from eir_seq.models.names import is_adapter, published_names
from eir_seq.models.transformers_backend import create_transformers
from tests.models.tiny import inputs, loss, noisy, tiny
from tests.parity.cases import CASES
from tests.parity.harness import difference, inputs_of, pair, real_places, reference_model

ROWS = {case.name: case for case in CASES}
ROUNDING = 1e-5
"""Relative: a merged weight is the sum of two products that were apart, in float32."""


def taught(model: Any, **options: Any) -> Any:
    """The model with adapters that changed, as after training."""
    add_lora(model, **{"rank": 2, "alpha": 6.0, **options})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".lora.b"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def trained(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


WITHOUT = ("squeezebert",)
"""Architectures whose layers are no linear ones."""


@pytest.mark.parametrize("model_type", list_models())
def test_every_architecture_learns_by_adapters_alone(model_type: str) -> None:
    """Fresh ones change nothing, each of them gets a gradient, and merged weights compute what they did."""
    model: Any = noisy(tiny(model_type))
    given = inputs(model)
    with torch.no_grad():  # with gradients kernels are chosen by what is trained
        before = model(**given).last_hidden_state
    kept = {name: x.clone() for name, x in model.named_parameters()}
    add_lora(model, rank=2)
    assert trained(model) == {name for name, _ in model.named_parameters() if is_adapter(name)}
    with torch.no_grad():  # memory laid out otherwise, and layers that no kernel joins, may round otherwise
        assert difference(model(**given).last_hidden_state, before) < 1e-6 * max(1.0, float(before.abs().max()))
    taught_b = [x for name, x in model.named_parameters() if name.endswith(".lora.b")]
    with torch.no_grad():
        for index, b in enumerate(taught_b):
            b.copy_(torch.randn(b.shape, generator=torch.Generator().manual_seed(index)) * 0.1)
    output = model(**given)
    loss(model, output).backward()  # type: ignore[no-untyped-call]
    assert not [name for name in trained(model) if not model.get_parameter(name).grad.abs().max() > 0]
    assert all(torch.equal(model.get_parameter(name), x) and model.get_parameter(name).grad is None
               for name, x in kept.items())  # fmt: skip
    saved = model.published_tensors()
    merge_lora(model)
    assert all(torch.equal(x, saved[name]) for name, x in model.published_tensors().items())
    again = model(**given).last_hidden_state
    scale = float(output.last_hidden_state.detach().abs().max())
    assert difference(again, output.last_hidden_state) < ROUNDING * scale
    if model_type not in WITHOUT:
        assert difference(again, before) > 1e-3


LAYOUTS = [
    ("bart", "seq2seq-lm", ["q_proj", "v_proj", "decoder.layers.1.fc1"]),
    ("bert", "masked-lm", ["query", "value"]),
    ("bloom@six_heads", "causal-lm", ["query_key_value"]),
    ("gpt2", "causal-lm", "all-linear"),
    ("llama", "sequence-classification", ["q_proj", "layers.1.mlp.*"]),
    ("opt@narrow", "base", "all-linear"),
    ("t5", "seq2seq-lm", ["q", "v"]),
]


def apply_by_hand(weights: dict[str, Tensor], folder: Path) -> None:
    """What the layout says: W + B A alpha / r, transposed where the published weight is (in, out)."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    assert config["peft_type"] == "LORA"
    layers = {name.rpartition(".lora_")[0] for name in tensors if ".lora_" in name}
    assert {name.removeprefix("base_model.model.") for name in layers} == set(config["target_modules"])
    for layer in layers:
        a, b = (tensors[f"{layer}.lora_{matrix}.weight"] for matrix in "AB")
        delta = b @ a * (config["lora_alpha"] / config["r"])
        weight = weights[layer.removeprefix("base_model.model.") + ".weight"]
        weight += delta.t() if config["fan_in_fan_out"] else delta


@pytest.mark.parametrize(("name", "task", "target_modules"), LAYOUTS)
def test_the_published_layout(name: str, task: str, target_modules: Any, tmp_path: Path) -> None:
    """The reference with our adapter added by hand computes what ours does; read again it is the same to the bit."""
    case = ROWS[name]
    both = pair(case, task, tmp_path / "base")
    taught(both.ours, target_modules=target_modules)
    save_adapter(both.ours, tmp_path / "adapter", base_model="somebody/base")
    weights = both.reference.state_dict()
    kind = {"causal-lm": "CAUSAL_LM", "seq2seq-lm": "SEQ_2_SEQ_LM"}.get(task)
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["task_type"] == kind
    with torch.no_grad():
        apply_by_hand(weights, tmp_path / "adapter")
    given = inputs_of(case, both.reference.config)
    field = "last_hidden_state" if task == "base" else "logits"
    places = None if task == "sequence-classification" else real_places(given)
    ours = both.ours.eval()(**given)[field]
    theirs = both.reference(**given)[field]
    assert difference(ours, theirs, places) < 1e-5 * max(1.0, float(theirs.abs().max()))
    plain = reference_model(case, task)(**given)[field]
    assert difference(plain, theirs, places) > 1e-3

    again: Any = from_pretrained(tmp_path / "base", task=task)
    load_adapter(again, tmp_path / "adapter")
    assert trained(again) == trained(both.ours)
    assert torch.equal(again(**given)[field], ours)
    save_adapter(again, tmp_path / "second", base_model="somebody/base")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "second" / file).read_bytes() == (tmp_path / "adapter" / file).read_bytes()
    both.ours.save_pretrained(tmp_path / "merged")
    merged = type(both.reference).from_pretrained(tmp_path / "merged")
    assert difference(merged(**given)[field], ours, places) < 1e-5 * max(1.0, float(ours.abs().max()))


def test_a_fused_layer_has_one_adapter_of_its_whole_width(tmp_path: Path) -> None:
    model: Any = taught(noisy(tiny("gpt2")), target_modules=["c_attn"])
    save_adapter(model, tmp_path)
    shapes = {name: tuple(x.shape) for name, x in load_file(tmp_path / "adapter_model.safetensors").items()}
    assert shapes == {
        f"base_model.model.h.{i}.attn.c_attn.lora_{m}.weight": shape
        for i in range(2)
        for m, shape in (("A", (2, 32)), ("B", (96, 2)))
    }
    mixer = model.body.layers[0].mixer
    assert mixer.query.lora.a is mixer.value.lora.a
    assert sum(model.get_parameter(name).numel() for name in trained(model)) == 2 * (2 * 32 + 96 * 2)


def test_adapters_of_others(tmp_path: Path) -> None:
    """Trained for another head, with ranks and factors of their own per layer, scaled by the root of the rank."""
    model: Any = noisy(tiny("llama"))
    generator = torch.Generator().manual_seed(5)
    front = "base_model.model.model.layers"
    tensors = {
        f"{front}.0.self_attn.q_proj.lora_A.weight": torch.randn(2, 32, generator=generator),
        f"{front}.0.self_attn.q_proj.lora_B.weight": torch.randn(32, 2, generator=generator),
        f"{front}.1.mlp.up_proj.lora_A.weight": torch.randn(4, 32, generator=generator),
        f"{front}.1.mlp.up_proj.lora_B.weight": torch.randn(48, 4, generator=generator),
        "base_model.model.score.weight": torch.randn(3, 32, generator=generator),
    }
    config = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"], "use_rslora": True,
        "rank_pattern": {"mlp.up_proj": 4}, "alpha_pattern": {"1.mlp.up_proj": 6}, "lora_dropout": 0.25,
    }  # fmt: skip
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    weights = {name: x.clone() for name, x in model.published_tensors().items()}
    load_adapter(model, tmp_path)
    for layer, rank, alpha in (("0.self_attn.q_proj", 2, 8), ("1.mlp.up_proj", 4, 6)):
        a, b = (tensors[f"{front}.{layer}.lora_{m}.weight"] for m in "AB")
        weights[f"layers.{layer}.weight"] += b @ a * alpha / rank**0.5
    for name, tensor in model.published_tensors().items():
        assert torch.allclose(tensor, weights[name], atol=1e-5), name
    assert model.body.layers[0].mixer.query.lora.dropout.p == 0.25

    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(tensors, tmp_path / "adapter_model.bin")
    other: Any = noisy(tiny("llama", "sequence-classification", num_labels=3))
    load_adapter(other, tmp_path)
    assert torch.equal(other.head.out.weight, tensors["base_model.model.score.weight"])
    assert "head.out.weight" in trained(other)


def test_a_fresh_head_is_trained_and_saved_beside_the_adapter(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path / "base")
    model: Any = from_pretrained(tmp_path / "base", task="token-classification", num_labels=5)
    taught(model)
    assert {name for name in trained(model) if not is_adapter(name)} == {"head.out.weight", "head.out.bias"}
    save_adapter(model, tmp_path / "adapter")
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert torch.equal(tensors["base_model.model.classifier.weight"], model.head.out.weight)
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["modules_to_save"] == ["classifier"]
    again: Any = from_pretrained(tmp_path / "base", task="token-classification", num_labels=5)
    load_adapter(again, tmp_path / "adapter")
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(again(ids).logits, model.eval()(ids).logits)


@pytest.mark.parametrize(
    ("target_modules", "reason"),
    [
        (["c_atn"], "'c_atn': no linear layer is named so; did you mean 'c_attn'?"),
        (["c_attn", "wte"], "'wte': wte is no linear layer of the body"),
        (["ln_1"], "'ln_1': h.0.ln_1 is no linear layer of the body"),
        ("attention.*", "'attention.*': no linear layer is named so"),
        (["lm_head"], "'lm_head': no linear layer is named so"),
    ],
)
def test_targets_that_are_none(target_modules: Any, reason: str) -> None:
    model: Any = tiny("gpt2", "causal-lm")
    with pytest.raises(UserError) as caught:
        add_lora(model, target_modules=target_modules)
    (fault,) = caught.value.faults
    assert fault.place == "target_modules"
    assert fault.message.startswith(reason)
    assert not [name for name, _ in model.named_parameters() if is_adapter(name)]


@pytest.mark.parametrize(
    ("change", "place", "reason"),
    [
        ({"peft_type": "IA3"}, "peft_type", "'IA3' is not 'LORA'"),
        ({"use_dora": True}, "use_dora", "adapters of this kind are not implemented"),
        ({"lora_alpha": "many"}, "lora_alpha", "'many' is not a number above 0"),
        ({"lora_alpha": math.inf}, "lora_alpha", "inf is not a number above 0"),
        ({"alpha_pattern": ["a"]}, "alpha_pattern", "['a'] is not an object of patterns and numbers"),
        ({"lora_dropout": "x"}, "lora_dropout", "'x' is not a number from 0 to below 1"),
        ({"lora_dropout": 2}, "lora_dropout", "2 is not a number from 0 to below 1"),
        ("rank", "h.0.attn.c_attn", "its rank is 0"),
        ("nothing", "FOLDER", "holds no adapter: no tensors are named ...lora_A.weight"),
        ("name", "h.0.attn.c_atn", "the model has no linear layer of that name; did you mean 'h.0.attn.c_attn'?"),
        ("shape", "h.0.attn.c_attn", "A has shape [2, 32] and B [32, 2], for a layer of 32 inputs and 96 outputs"),
        ("lone", "h.0.attn.c_attn", "lora_B is missing"),
        ("embedding", "transformer.wte.lora_embedding_A", "adapters of this kind are not implemented"),
    ],
)
def test_adapters_that_do_not_fit(change: Any, place: str, reason: str, tmp_path: Path) -> None:
    rank = 0 if change == "rank" else 2
    a, b = torch.zeros(rank, 32), torch.zeros(32 if change == "shape" else 96, rank)
    module = "h.0.attn.c_atn" if change == "name" else "h.0.attn.c_attn"
    tensors = {f"base_model.model.transformer.{module}.lora_A.weight": a}
    if change != "lone":
        tensors[f"base_model.model.transformer.{module}.lora_B.weight"] = b
    if change == "embedding":
        tensors["base_model.model.transformer.wte.lora_embedding_A"] = torch.zeros(2, 120)
    if change == "nothing":
        tensors = {}
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 8} | (change if isinstance(change, dict) else {})
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    model: Any = tiny("gpt2")
    with pytest.raises(UserError) as caught:
        load_adapter(model, tmp_path)
    found = [(fault.place, fault.message) for fault in caught.value.faults]
    assert found == [(place.replace("FOLDER", str(tmp_path)), reason)]
    assert not [name for name, _ in model.named_parameters() if is_adapter(name)]


def test_no_adapter_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no adapter_config\.json, so it is no adapter folder"):
        load_adapter(tiny("gpt2"), tmp_path)


@pytest.mark.parametrize(
    ("model_type", "patterns", "count"),
    [
        ("gpt2", ["wte", "wpe"], 2),
        ("gpt2", ["h.0"], 16),  # c_attn is three layers here
        ("gpt2", ["h.*.attn.c_attn.bias"], 6),
        ("bert", ["embeddings", "encoder.layer.[01].attention.*"], 5 + 20),
        ("mixtral", ["layers.0.block_sparse_moe"], 4),
    ],
)
def test_frozen_by_their_published_names(model_type: str, patterns: list[str], count: int) -> None:
    model: Any = tiny(model_type)
    every = {name for name, _ in model.named_parameters()}
    freeze(model, patterns)
    assert len(every - trained(model)) == count


def test_patterns_that_freeze_nothing_or_half_a_tensor() -> None:
    with pytest.raises(UserError) as caught:
        freeze(tiny("bert"), ["embedings.*", "encoder.layer.9", "pooler"])
    assert [fault.message for fault in caught.value.faults] == [
        "'embedings.*' fits no tensor; did you mean 'embeddings'?",
        "'encoder.layer.9' fits no tensor; did you mean 'encoder.layer.1'?",
    ]
    with pytest.raises(UserError, match=r"cannot be frozen without .*: they are one tensor here"):
        freeze(tiny("mixtral"), ["layers.0.block_sparse_moe.experts.0"])


@pytest.mark.parametrize("model_type", list_models())
def test_every_parameter_has_a_published_name(model_type: str) -> None:
    model: Any = tiny(model_type)
    names = published_names(model)
    assert {name for named in names.values() for name in named.native} >= {name for name, _ in model.named_parameters()}
    published = model.published_tensors()
    assert set(names) <= set(published)
    for name in linear_modules(model):
        assert published[f"{name}.weight"].dim() == 2


def test_a_model_beyond_the_catalogue(tmp_path: Path) -> None:
    """Torch's own linear layers take adapters, too; names are those of its library."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    options = {"model_type": "qwen3", **sizes, "num_key_value_heads": 1, "head_dim": 4, "vocab_size": 30}
    torch.manual_seed(0)
    model: Any = create_transformers(options).eval()
    weights = {name: x.clone() for name, x in model.body.state_dict().items()}
    ids, mask = torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.bool)
    before = model(ids, mask).last_hidden_state
    taught(model, target_modules=["q_proj", "layers.1.mlp.*"])
    after = model(ids, mask).last_hidden_state
    assert len(trained(model)) == 2 * 2 + 3 * 2
    save_adapter(model, tmp_path)
    with torch.no_grad():
        apply_by_hand(weights, tmp_path)
    again: Any = create_transformers(options).eval()
    again.body.load_state_dict(weights)
    assert difference(again(ids, mask).last_hidden_state, after) < 1e-5
    torch.manual_seed(0)
    other: Any = create_transformers(options).eval()
    load_adapter(other, tmp_path)
    assert torch.equal(other(ids, mask).last_hidden_state, after)
    assert difference(after, before) > 1e-3
    freeze(again, ["embed_tokens", "layers.0", "norm"])
    assert {name.rpartition("layers.")[2][0] for name in trained(again)} == {"1"}
