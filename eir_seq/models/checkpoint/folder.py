"""Folders of published models: ``config.json`` next to safetensors (or an old ``pytorch_model.bin``)."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from eir_seq.errors import Fault, UserError
from eir_seq.files import CONFIG, open_regular, read_text
from eir_seq.hub import unlocatable
from eir_seq.models.option_checks import check_options
from eir_seq.models.options import ModelConfig, default_of, fields, split_known
from eir_seq.models.rope_options import transformers_spelling

MOST_TENSORS = 50_000
LONGEST_HEADER = 10_000_000
"""Bounds of one safetensors file, in tensors and bytes, far above published ones; hostile files cost seconds."""

FORMATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""Number formats of weights; others (of quantized models) mean nothing without their scales."""

ZIP = b"PK\x03\x04"
"""How a zip archive begins."""

GENERATION = "generation_config.json"
ADAPTER = "adapter_config.json"
WANTED = {
    "model": (
        ("config.json", GENERATION, "*.safetensors", "*.safetensors.index.json"),
        ("config.json", GENERATION, "pytorch_model*.bin", "pytorch_model*.bin.index.json"),
    ),
    "adapter": ((ADAPTER, "adapter_model.safetensors"), (ADAPTER, "adapter_model.bin")),
    "configuration": (("config.json",),),
}
"""Files of each kind of folder, of today and of old; the first one tells the kind."""
DERIVED = (
    "model_type", "architectures", "is_encoder_decoder", "id2label", "label2id", "num_labels", "transformers_version",
)  # fmt: skip
"""Entries of a config.json that follow from the task, from each other, or from who wrote the file."""


def locate(
    name: str | Path, *, revision: str | None = None, local_files_only: bool = False, kind: str = "model"
) -> Path:
    """The folder of a published model (or adapter): `name` itself if it is one, else the Hub's, put into its cache.

    Raises:
        UserError: neither a folder nor to be had from the Hub.
    """
    if (problem := unlocatable(str(name))) is not None:
        raise UserError(Fault("", problem))
    folder = Path(name).expanduser()
    if folder.is_dir():
        marker = WANTED[kind][0][0]
        if not (folder / marker).is_file():
            raise UserError(Fault("", f"{folder} holds no {marker}, so it is no {kind} folder"))
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        for wanted in WANTED[kind]:
            found = Path(
                snapshot_download(
                    str(name), revision=revision, local_files_only=local_files_only, allow_patterns=list(wanted)
                )
            )
            if any(found.glob("*.safetensors")) or any(found.glob("*.bin")):
                break
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            Fault(
                "",
                f"{name} is neither a folder nor {'an' if kind == 'adapter' else 'a'} {kind} that the Hub gave "
                f"({type(error).__name__}); without network, give the path of a folder",
            )
        ) from error
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """The contents of ``config.json``.

    Raises:
        UserError: unreadable, no JSON object, or without `model_type`.
    """
    content = read_json_object(folder / "config.json")
    if not isinstance(content.get("model_type"), str):
        raise UserError(Fault(str(folder / "config.json"), "is not the config of a model: it names no model_type"))
    return content


def read_generation(folder: Path) -> dict[str, Any]:
    """The contents of ``generation_config.json``: defaults of the options of `generate`; empty if there is none.

    Raises:
        UserError: unreadable, or no JSON object.
    """
    path = folder / GENERATION
    return read_json_object(path) if path.is_file() else {}


def read_json_object(path: Path) -> dict[str, Any]:
    """The contents of a JSON file.

    Raises:
        UserError: unreadable, or no JSON object.
    """
    try:
        content = json.loads(read_text(path, CONFIG))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(Fault(str(path), f"cannot be read as JSON: {error}")) from error
    if not isinstance(content, dict):
        raise UserError(Fault(str(path), "is not a JSON object"))
    return content


def options_of(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """The options that a published config gives; unknown ones are kept under ``published``.

    Raises:
        UserError: an option with an impossible value.
    """
    from eir_seq.models.catalogue import config_class

    model_type = content["model_type"]
    config = config_class(model_type)
    content = {**transformers_spelling(content, fields(config))}
    for alias, name in config.aliases.items():
        if alias in content and content[alias] == content.get(name):
            del content[alias]  # files may repeat an option under its other name
    sides = fields(config).get("is_encoder_decoder")
    free = () if sides is None or sides.metadata["choices"] else ("is_encoder_decoder",)  # it tells classes apart then
    derived = {name: value for name, value in content.items() if name in DERIVED and name not in free}
    options, rest = split_known(config, {name: value for name, value in content.items() if name not in derived})
    if "id2label" in content and isinstance(content["id2label"], dict):
        options["num_labels"] = len(content["id2label"])
    if faults := check_options(model_type, options):
        raise UserError(*(Fault(fault.place, fault.message, str(path)) for fault in faults))
    return {**options, "published": {**rest, **derived}}


def read_tensors(folder: Path, stems: tuple[str, str] = ("model", "pytorch_model")) -> dict[str, Tensor]:
    """All tensors of a folder under their published names.

    Args:
        folder: where they are.
        stems: names of the file, without ``.safetensors``, and of an older one, without ``.bin``.

    Raises:
        UserError: no weights, a missing shard, a truncated or foreign file, values that are not finite.
    """
    tensors: dict[str, Tensor] = {}
    for path in _weight_files(folder, stems):
        tensors.update(read_safetensors(path) if path.suffix == ".safetensors" else read_pickled(path))
    for name, tensor in tensors.items():
        if tensor.dtype in FORMATS and not bool(torch.isfinite(tensor).all()):
            raise UserError(Fault(str(folder), f"tensor {name!r} holds values that are not finite"))
    return tensors


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file of weights is read into a `UserError` that names it."""
    try:
        yield
    except UserError:
        raise
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError) as error:
        reason = str(error).strip().splitlines()
        raise UserError(
            Fault(str(path), f"cannot be read as weights: {reason[0] if reason else type(error).__name__}")
        ) from error
    except Exception as error:  # unpickling refuses foreign content with errors of many kinds
        raise UserError(Fault(str(path), f"is no plain file of tensors ({type(error).__name__})")) from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, once a look at its header says that it is worth parsing.

    Raises:
        UserError: it cannot be read.
    """
    shapes_in(path)
    with _reading(path):
        return load_file(path)


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a safetensors file, by name, as its header has them.

    Raises:
        UserError: it has no such header.
    """
    with _reading(path):
        with open_regular(path) as file:
            size = int.from_bytes(file.read(8), "little")
            header = file.read(size) if size <= LONGEST_HEADER else b""
        if size > LONGEST_HEADER:
            raise UserError(Fault(str(path), f"cannot be read as weights: its header claims {size:,} bytes"))
        entries = json.loads(header, object_pairs_hook=list)
        names = [name for name, _ in entries]
        if len(names) > MOST_TENSORS:
            raise UserError(Fault(str(path), f"holds {len(names):,} tensors; at most {MOST_TENSORS:,} are read"))
        if len(set(names)) < len(names):
            raise UserError(Fault(str(path), "names a tensor twice"))
        return {name: tuple(map(int, dict(entry)["shape"])) for name, entry in entries if name != "__metadata__"}


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that torch wrote; anything else in it is refused, not run.

    Raises:
        UserError: it cannot be read, or holds other things than tensors by name.
    """
    with _reading(path):
        return _unpickled(path)


def _unpickled(path: Path) -> dict[str, Tensor]:
    """The tensors of an old file; anything else in it is refused, not run."""
    with open_regular(path) as file:
        zipped = file.read(len(ZIP)) == ZIP  # what torch before 1.6 wrote cannot be mapped into memory
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    named = isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(x, Tensor) for name, x in content.items()
    )
    if not named:
        raise UserError(Fault(str(path), "holds no tensors by name"))
    for name, tensor in content.items():
        if tensor.layout is not torch.strided or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise UserError(Fault(str(path), f"tensor {name!r} does not hold a number for each of its places"))
    return content


def _weight_files(folder: Path, stems: tuple[str, str]) -> Iterator[Path]:
    for stem, suffix in zip(stems, ("safetensors", "bin"), strict=True):
        single, index = folder / f"{stem}.{suffix}", folder / f"{stem}.{suffix}.index.json"
        if single.is_file():
            yield single
            return
        if index.is_file():
            try:
                names = sorted(set(json.loads(read_text(index))["weight_map"].values()))
            except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
                raise UserError(Fault(str(index), "is no index of weight files")) from error
            if not names:
                raise UserError(Fault(str(index), "is no index of weight files: it names none"))
            for name in names:
                if not isinstance(name, str) or Path(name).name != name:
                    raise UserError(Fault(str(index), f"names {name!r}, which is outside the folder"))
                if not (folder / name).is_file():
                    raise UserError(Fault(str(index), f"names {name!r}, which is missing"))
                yield folder / name
            return
    raise UserError(Fault(str(folder), f"holds no weights ({stems[0]}.safetensors or {stems[1]}.bin)"))


def write(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], generation: dict[str, Any]) -> None:
    """Write a model folder from the contents of its JSON files; each file appears only when it is whole.

    Where there is nothing to say of `generation`, there is no file of it.
    """
    from huggingface_hub import save_torch_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as temporary:
        for name, content in (("config.json", config), (GENERATION, generation)):
            if content:
                text = json.dumps(content, indent=2, sort_keys=True)
                Path(temporary, name).write_text(text + "\n", encoding="utf-8")
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_torch_state_dict(whole, temporary, metadata={"format": "pt"})
        mode = stat.S_IMODE(Path(temporary, "config.json").stat().st_mode)
        for path in sorted(Path(temporary).iterdir()):
            path.chmod(mode)  # as umask says; safetensors keeps its files private
            os.replace(path, folder / path.name)


def published_config(config: ModelConfig, published_class: str, *, is_encoder_decoder: bool) -> dict[str, Any]:
    """The contents of ``config.json`` for these options and the transformers class of a task."""
    content = {name: value for name, value in config.published.items() if name not in DERIVED}
    own = ((name, getattr(config, name), default_of(field)) for name, field in fields(type(config)).items())
    # an option that is absent by default stays so: readers may take null for a value
    content |= {name: x for name, x, default in own if name != "num_labels" and (x, default) != (None, None)}
    for name in config.parts:
        if isinstance(content.get(name), Mapping):
            content[name] = {**config.published.get(name, {}), **content[name]}
    content["id2label"] = {str(number): label for number, label in config.id2label.items()}
    content["label2id"] = config.label2id
    content["model_type"] = config.model_type
    content["architectures"] = [published_class]
    content["is_encoder_decoder"] = is_encoder_decoder
    return content
