"""Checkpoints from outside that are damaged, foreign or hostile: one clear line each, and nothing of them is run."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from eir_seq.errors import UserError
from eir_seq.models import from_pretrained
from tests.models.tiny import tiny

Break = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "published"
    tiny("bert").save_pretrained(place)
    return place


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def config(**changes: Any) -> Break:
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        content |= changes
        content = {name: value for name, value in content.items() if value != "REMOVED"}
        (folder / "config.json").write_text(json.dumps(content))

    return change


def config_text(content: bytes) -> Break:
    return lambda folder: (folder / "config.json").write_bytes(content) and None


def weights_bytes(make: Callable[[bytes], bytes]) -> Break:
    return lambda folder: weights(folder).write_bytes(make(weights(folder).read_bytes())) and None


def replaced(name: str, value: float) -> Break:
    def change(folder: Path) -> None:
        tensors = load_file(weights(folder))
        tensors[name].view(-1)[3] = value
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, weights(folder))

    return change


def scaled(name: str, scale: torch.Tensor, suffix: str = "_scale", block: tuple[int, int] | None = None) -> Break:
    """A weight in fp8, to be multiplied by what `scale` stands for."""

    def change(folder: Path) -> None:
        tensors = load_file(weights(folder))
        save_file({**tensors, name: tensors[name].to(torch.float8_e4m3fn), name + suffix: scale}, weights(folder))
        if block is not None:
            config(quantization_config={"quant_method": "fp8", "weight_block_size": list(block)})(folder)

    return change


def only_one_tensor(folder: Path) -> None:
    config(num_hidden_layers=1000)(folder)
    save_file({"pooler.dense.bias": torch.zeros(32)}, weights(folder))


def header(entries: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


class Payload:
    """Unpickling it writes the canary."""

    def __reduce__(self) -> Any:
        return (os.mkdir, (os.environ["CANARY"],))


def pickled(name: str) -> Break:
    def change(folder: Path) -> None:
        weights(folder).unlink()
        (folder / name).write_bytes(pickle.dumps(Payload()))

    return change


def zipped(folder: Path) -> None:
    """A file as torch.save writes it, with the payload among the tensors."""
    weights(folder).unlink()
    torch.save({"embeddings.word_embeddings.weight": torch.zeros(2), "x": Payload()}, folder / "pytorch_model.bin")


def text(folder: Path) -> None:
    weights(folder).unlink()
    (folder / "pytorch_model.bin").write_text("hello")


def list_of_numbers(folder: Path) -> None:
    weights(folder).unlink()
    torch.save([1], folder / "pytorch_model.bin")


def index(**shards: str) -> Break:
    def change(folder: Path) -> None:
        weights(folder).rename(folder / "part.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))

    return change


def index_text(text: str) -> Break:
    def change(folder: Path) -> None:
        weights(folder).unlink()
        (folder / "model.safetensors.index.json").write_text(text)

    return change


def remove(name: str) -> Break:
    return lambda folder: (folder / name).unlink()


ONE = '"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
TWICE = struct.pack("<Q", len(ONE) * 2 + 4) + f"{{{ONE}, {ONE}}}".encode() + bytes(4)

# what is broken -> the file that the line must name (from the folder on), and words that it must hold
BROKEN: dict[str, tuple[Break, str, str]] = {
    "weights empty": (weights_bytes(lambda _: b""), "model.safetensors", "cannot be read"),
    "weights truncated": (weights_bytes(lambda old: old[: len(old) // 2]), "model.safetensors", "cannot be read"),
    "weights cut in the header": (weights_bytes(lambda old: old[:40]), "model.safetensors", "cannot be read"),
    "weights with a tail": (weights_bytes(lambda old: old + b"x"), "model.safetensors", "cannot be read"),
    "header of 2^63 bytes": (weights_bytes(lambda _: struct.pack("<Q", 2**63) + b"{}"), "model.safetensors", ""),
    "pickle named safetensors": (weights_bytes(lambda _: pickle.dumps({"a": 1})), "model.safetensors", "cannot be"),
    "hostile pickle named safetensors": (pickled("model.safetensors"), "model.safetensors", "cannot be read"),
    "hostile pickle": (pickled("pytorch_model.bin"), "pytorch_model.bin", ""),
    "hostile torch file": (zipped, "pytorch_model.bin", ""),
    "bin of text": (text, "pytorch_model.bin", ""),
    "bin that is a list": (list_of_numbers, "pytorch_model.bin", "no tensors by name"),
    "no weights": (remove("model.safetensors"), "", "holds no weights"),
    "shard missing": (index(a="part.safetensors", b="lost.safetensors"), "model.safetensors.index.json",
                      "'lost.safetensors', which is missing"),
    "index to the parent": (index(a="../published/part.safetensors"), "model.safetensors.index.json", "outside"),
    "index to an absolute path": (index(a="/etc/passwd"), "model.safetensors.index.json", "outside"),
    "index of a number": (index(a=3), "model.safetensors.index.json", ""),  # type: ignore[arg-type]
    "index not JSON": (index_text("{"), "model.safetensors.index.json", "no index"),
    "index a list": (index_text("[]"), "model.safetensors.index.json", "no index"),
    "index without map": (index_text("{}"), "model.safetensors.index.json", "no index"),
    "index empty": (index_text('{"weight_map": {}}'), "model.safetensors.index.json", ""),
    "NaN": (replaced("pooler.dense.weight", float("nan")), "", "'pooler.dense.weight' holds values that are not"),
    "infinity": (replaced("embeddings.LayerNorm.weight", float("inf")), "", "'embeddings.LayerNorm.weight' holds"),
    "too many tensors": (weights_bytes(lambda _: header(
        {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(300_000)})),
        "model.safetensors", "header claims"),
    "very many tensors": (weights_bytes(lambda _: header(
        {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)})),
        "model.safetensors", "holds 100,000 tensors; at most 50,000"),
    "a tensor named twice": (weights_bytes(lambda _: TWICE), "model.safetensors", "names a tensor twice"),
    "config missing": (remove("config.json"), "", "no config.json"),
    "config not JSON": (config_text(b"{"), "config.json", "cannot be read as JSON"),
    "config not UTF-8": (config_text(b'{"model_type": "b\xff"}'), "config.json", "cannot be read as JSON"),
    "config too deep": (config_text(b"[" * 100_000), "config.json", "cannot be read as JSON"),
    "config a list": (config_text(b"[]"), "config.json", "is not a JSON object"),
    "config without model_type": (config(model_type="REMOVED"), "config.json", "names no model_type"),
    "model_type a number": (config(model_type=3), "config.json", "names no model_type"),
    "model_type unknown": (config(model_type="brt"), "config.json", "did you mean 'bert'?"),
    "option of a wrong type": (config(hidden_size="32"), "config.json", "hidden_size: '32' is not an integer"),
    "option out of range": (config(num_hidden_layers=0), "config.json", "num_hidden_layers: 0 is below"),
    "options at odds": (config(num_attention_heads=5), "config.json", "hidden_size: 32 is not divisible"),
    "a deep config": (config(num_hidden_layers=20_000), "config.json", "20000 is above the greatest value 1000"),
    "a deep config beside few weights": (only_one_tensor, "", "make more than 1,064 tensors, and its weights are 1"),
    "a scale of another shape": (scaled("pooler.dense.weight", torch.ones(3, 5)), "", "is no scale per tensor, output"),
    "sizes without memory for them": (config(vocab_size=10**12), "", "has shape [120, 32], the options ask for"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_one_line_names_the_file(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = folder.parent / "canary"
    monkeypatch.setenv("CANARY", str(canary))
    break_, file, words = BROKEN[name]
    break_(folder)
    before = sorted(path.name for path in folder.iterdir())
    started = time.process_time()
    with pytest.raises(UserError) as caught:
        from_pretrained(folder)
    assert time.process_time() - started < 3
    (line,) = str(caught.value).splitlines()
    assert str(folder / file if file else folder) in line
    assert words in line
    assert not canary.exists()
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("shape", "suffix", "block"),
    [((), "_scale", None), ((32, 1), "_scale", None), ((32,), "_scale", None), ((1, 1), "_scale_inv", None),
     ((4, 3), "_scale_inv", (8, 12))],
)  # fmt: skip
def test_weights_in_fp8(shape: tuple[int, ...], suffix: str, block: tuple[int, int] | None, folder: Path) -> None:
    """Per tensor, per output channel, and per block of the weight, the last of which may be cut."""
    name = "pooler.dense.weight"
    published = load_file(weights(folder))[name].to(torch.float8_e4m3fn)
    scale = 0.5 + torch.rand(shape, generator=torch.Generator().manual_seed(0))
    scaled(name, scale, suffix, block)(folder)
    expected = published.float()
    for row, column in itertools.product(range(32), range(32)):
        if block is not None:
            factor = scale[row // block[0], column // block[1]]
        else:
            factor = scale.reshape(-1)[row if scale.numel() == 32 else 0]
        expected[row, column] *= factor
    assert torch.equal(from_pretrained(folder).body.pooler.dense.weight, expected)


def test_a_foreign_architecture(folder: Path) -> None:
    """The first missing names and how many of them."""
    foreign = folder.parent / "gpt2"
    tiny("gpt2").save_pretrained(foreign)
    weights(foreign).replace(weights(folder))
    with pytest.raises(UserError) as caught:
        from_pretrained(folder)
    (line,) = str(caught.value).splitlines()
    assert str(folder) in line
    assert "of the model's tensors are not in the checkpoint" in line


def test_other_sizes_are_listed_at_once(folder: Path) -> None:
    config(hidden_size=40, intermediate_size=50)(folder)
    with pytest.raises(UserError) as caught:
        from_pretrained(folder)
    lines = str(caught.value).splitlines()
    expected = sum("num_labels" not in name for name, _ in tiny("bert", hidden_size=40).named_parameters())
    assert len(lines) == expected
    assert all("has shape" in line and str(folder) in line for line in lines)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.complex64])
def test_weights_of_quantized_models(dtype: torch.dtype, folder: Path) -> None:
    held = load_file(weights(folder))
    name = "encoder.layer.0.attention.self.query.weight"
    save_file({**held, name: held[name].to(dtype)}, weights(folder))
    message = "query.weight holds numbers of " + str(dtype).replace(".", r"\.")
    with pytest.raises(UserError, match=message):
        from_pretrained(folder)


@pytest.mark.parametrize("name", ["auto_map", "trust_remote_code", "_attn_implementation_internal", "custom_pipelines"])
def test_code_that_a_config_names_is_never_looked_at(name: str, folder: Path) -> None:
    (folder / "modeling_evil.py").write_text("raise SystemExit('run')")
    config(**{name: {"AutoModel": "modeling_evil.Evil", "AutoConfig": "elsewhere/repo--modeling_evil.Evil"}})(folder)
    model = from_pretrained(folder)
    assert type(model).__module__ == "eir_seq.models.model"


@pytest.mark.parametrize("name", ["nobody/no-such-model-1f6e", "no/such/folder", "-x", "a b", "", "/no/such/folder"])
def test_offline(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a folder nor in the Hub's cache: one line that names it, without a connection."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for local_files_only in (False, True):
        with pytest.raises(UserError) as caught:
            from_pretrained(name, local_files_only=local_files_only)
        (line,) = str(caught.value).splitlines()
        assert name in line


def test_a_model_in_the_cache_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The Hub's own layout of a cache, opened offline."""
    commit = "0" * 40
    cached = tmp_path / "hub" / "models--someone--some-bert"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots").mkdir()
    folder.rename(cached / "snapshots" / commit)
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub._snapshot_download.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for local_files_only in (False, True):
        assert from_pretrained("someone/some-bert", local_files_only=local_files_only).config.hidden_size == 32


def test_a_save_that_fails_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.save_torch_state_dict", full)
    with pytest.raises(OSError, match="No space left"):
        tiny("bert", hidden_size=64).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_weights_lie_in_memory_of_their_own(folder: Path) -> None:
    """Not in the file: it may be replaced while the model lives, and products round by the address of their factors."""
    model = from_pretrained(folder)
    assert all(parameter.data_ptr() % 64 == 0 for parameter in model.parameters())


def test_labels_that_are_no_numbers(folder: Path) -> None:
    """Strange names of labels are counted; they are not passed on."""
    config(id2label={"a": 1, "b": 2, "c": 3})(folder)
    model = from_pretrained(folder)
    assert model.config.num_labels == 3
    model.save_pretrained(folder.parent / "again")
    assert from_pretrained(folder.parent / "again").config.num_labels == 3
