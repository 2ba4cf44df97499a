"""Names and formats of weight files as they are found: wrappers' prefixes, files of old releases of torch."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eir_seq.errors import UserError
from eir_seq.models import from_pretrained
from eir_seq.models.lora import add_lora, load_adapter, save_adapter
from eir_seq.models.model import Model
from tests.models.tiny import noisy, tiny

WRAPPED = [("bert", "masked-lm"), ("bert", "base"), ("llama", "causal-lm"), ("t5", "seq2seq-lm"), ("gpt2", "base")]


def rewrite(folder: Path, change: Any) -> None:
    held = load_file(folder / "model.safetensors")
    save_file(change(held), folder / "model.safetensors", metadata={"format": "pt"})


def assert_equal(again: nn.Module, model: nn.Module) -> None:
    for (name, before), (_, after) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(before, after), name


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "net.backbone.", "module._orig_mod."])
@pytest.mark.parametrize(("model_type", "task"), WRAPPED)
def test_a_prefix_before_all_names(
    model_type: str, task: str, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = noisy(tiny(model_type, task))
    model.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda held: {f"{prefix}{name}": x for name, x in held.items()} | {"criterion.w": torch.ones(2)})
    with caplog.at_level(logging.WARNING):
        again = from_pretrained(tmp_path)
    report = again.load_report
    assert (report.prefix, report.initialised, report.unused) == (prefix, (), ("criterion.w",))
    assert repr(prefix) in caplog.text
    assert_equal(again, model)


@pytest.mark.parametrize(("model_type", "task"), WRAPPED)
def test_known_prefixes_are_no_wrappers(model_type: str, task: str, tmp_path: Path) -> None:
    """The base model of a file with a head, and a head on a file of a base model."""
    tiny(model_type, task).save_pretrained(tmp_path)
    for wanted in ("base", task):
        report = from_pretrained(tmp_path, task=wanted).load_report
        assert report.prefix == ""
        assert not any(name.startswith("body.") and "pooler" not in name for name in report.initialised)


def test_two_models_in_one_file(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path)
    rewrite(tmp_path, lambda held: {f"{who}.{name}": x.clone() for who in ("new", "old") for name, x in held.items()})
    with pytest.raises(UserError, match=r"more than once, below 'new\.' and 'old\.'"):
        from_pretrained(tmp_path)


def test_every_tensor_is_accounted_for(tmp_path: Path) -> None:
    """Old buffers, a head of another task, the other side, and one name in two spellings."""
    tiny("bart", "seq2seq-lm").save_pretrained(tmp_path)
    more = {"model.encoder.version": torch.ones(1), "model.encoder.position_ids": torch.arange(3),
            "qa_outputs.bias": torch.zeros(2), "encoder.layernorm_embedding.weight": torch.ones(32)}  # fmt: skip
    rewrite(tmp_path, lambda held: held | more)
    report = from_pretrained(tmp_path).load_report
    assert set(report.ignored) == {"model.encoder.version", "model.encoder.position_ids"}
    assert set(report.unused) == {"qa_outputs.bias", "encoder.layernorm_embedding.weight"}
    side = from_pretrained(tmp_path, pretrained_parts="encoder").load_report
    assert "model.decoder.layers.0.fc1.weight" in side.unused
    assert not any(name.startswith("model.encoder.") for name in side.unused)


def old_file(tensors: dict[str, Tensor], path: Path) -> None:
    """As torch before 1.6 wrote it."""
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def published(folder: Path) -> tuple[Model, dict[str, Tensor]]:
    model = noisy(tiny("bert"))
    model.save_pretrained(folder)
    held = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return model, held


def test_an_old_file(tmp_path: Path) -> None:
    model, held = published(tmp_path)
    old_file(held, tmp_path / "pytorch_model.bin")
    assert_equal(from_pretrained(tmp_path), model)


@pytest.mark.parametrize("save", [old_file, torch.save], ids=["old", "zip"])
def test_old_shards(save: Any, tmp_path: Path) -> None:
    model, held = published(tmp_path)
    shards = {name: f"pytorch_model-0000{1 + number % 2}-of-00002.bin" for number, name in enumerate(held)}
    for shard in set(shards.values()):
        save({name: x for name, x in held.items() if shards[name] == shard}, tmp_path / shard)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": shards}))
    assert_equal(from_pretrained(tmp_path), model)


def test_an_old_adapter(tmp_path: Path) -> None:
    model = noisy(tiny("bert"))
    model.save_pretrained(tmp_path / "model")
    add_lora(model, rank=2)
    save_adapter(noisy(model), tmp_path / "adapter")
    old_file(load_file(tmp_path / "adapter" / "adapter_model.safetensors"), tmp_path / "adapter" / "adapter_model.bin")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    again = tiny("bert")
    load_adapter(again, tmp_path / "adapter")
    found = {name: x for name, x in again.named_parameters() if ".lora." in name}
    assert found
    assert all(torch.equal(x, model.get_parameter(name)) for name, x in found.items())


@pytest.mark.parametrize("save", [old_file, torch.save], ids=["old", "zip"])
@pytest.mark.parametrize(
    "hostile",
    [torch.zeros(1).expand(10**12), torch.sparse_coo_tensor(torch.zeros(1, 1), torch.ones(1), (10**12,)), 3],
    ids=["expanded", "sparse", "a number"],
)
def test_tensors_that_hold_less_than_they_claim(hostile: Any, save: Any, tmp_path: Path) -> None:
    _, held = published(tmp_path)
    save({**held, "x": hostile}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin"):
        from_pretrained(tmp_path)


def test_an_old_file_that_claims_more_than_there_is(tmp_path: Path) -> None:
    """Cut in the last tensor: the storage that it claims is not filled."""
    _, held = published(tmp_path)
    old_file(held, tmp_path / "pytorch_model.bin")
    whole = (tmp_path / "pytorch_model.bin").read_bytes()
    (tmp_path / "pytorch_model.bin").write_bytes(whole[:-100])
    with pytest.raises(UserError, match="cannot be read as weights"):
        from_pretrained(tmp_path)
