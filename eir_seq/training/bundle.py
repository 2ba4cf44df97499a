"""The bundle: all that predicting needs of a run, in one folder that is there whole or not at all.

``config.yaml``, ``model.safetensors`` (the best weights), ``inputs/NAME/`` (fitted modalities), ``outputs/NAME.json``
and a manifest of hashes.

Of an input with adapters of low rank the weights file has what was trained alone; the rest is read from the published
model, which ``base.json`` names with a hash of its weights; a copy of its folder at ``base/INPUT/`` is read in its
place. ``adapters/INPUT/`` is the adapter as others read it, ``adapters/outputs.NAME/`` that of an output's own decoder.
What is in ``pretrained/``, weights under published names, the weights file does not have.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from eir_seq import plugins
from eir_seq.config.backbones import LoraConfig
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError
from eir_seq.modalities import load_modality
from eir_seq.models.bounds import bounded_by_memory, bounded_by_weights
from eir_seq.models.checkpoint.folder import read_safetensors, shapes_in
from eir_seq.models.checkpoint.matching import match
from eir_seq.models.lora import WEIGHTS as ADAPTER_FILE
from eir_seq.models.lora import merge_lora, save_adapter
from eir_seq.models.names import adapters as adapters_in
from eir_seq.outputs import load_output
from eir_seq.outputs.base import FittedOutput
from eir_seq.training.build import build_network
from eir_seq.training.checkpoints import (
    MANIFEST,
    WEIGHTS,
    linked,
    read_json,
    remove_folder,
    share,
    verify_folder,
    write_folder,
)
from eir_seq.training.connect import BROKER, connect, read_shapes
from eir_seq.training.folder import CONFIG, plain, read_config
from eir_seq.training.network import Network

ADAPTERS, PRETRAINED, COPIES = "adapters", "pretrained", "base"
ADAPTER_WEIGHTS = f"{ADAPTER_FILE}.safetensors"
BASE = "base.json"
"""The published models that adapters belong to."""
PLUGINS = "plugins.json"
"""The plug-ins that the config needs, by what each of them provides."""
HOW_TO_MERGE = "lora.merge: true makes self-contained bundles"

__all__ = ["WEIGHTS", "Bundle", "read_bundle", "write_bundle", "write_models"]


@dataclass(frozen=True)
class Bundle:
    """A trained network and what turns rows into its inputs and its raw outputs into predictions."""

    config: ExperimentConfig
    inputs: dict[str, Any]
    outputs: dict[str, FittedOutput]
    network: Network


def write_models(
    run_dir: Path,
    config: ExperimentConfig,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, FittedOutput],
    network: Network,
    *,
    weights: Path | None = None,
) -> None:
    """Write ``adapters/``, ``pretrained/`` and ``bundle/`` of a run. Adapters are merged in place.

    `weights`: a file that holds the tensors of the network already.

    Raises:
        RunFailed: the disk is full or fails.
    """
    bundle, pretrained = run_dir / "bundle", run_dir / PRETRAINED
    save_adapters(run_dir / ADAPTERS, config, network)
    adapted = _adapted(config)
    apart = [name for name, lora in adapted.items() if not lora.merge]
    for name in adapted.keys() - set(apart):
        merge_lora(_backbone(network, name))
    in_heads = bool(adapters_in(network.heads))
    merge_lora(network.heads)
    if apart:  # before the rest is merged for those who read whole weights
        write_bundle(bundle, config, inputs, outputs, network, adapters=run_dir / ADAPTERS)
        for name in apart:
            merge_lora(_backbone(network, name))
    write_pretrained(pretrained, inputs, outputs, network)
    if not apart:
        weights = None if adapted or in_heads else weights
        write_bundle(bundle, config, inputs, outputs, network, weights=weights, pretrained=pretrained)


def left_models(run_dir: Path, config: ExperimentConfig) -> list[Path]:
    """The folders that `write_models` writes for a config."""
    pretraining = [name for name, output in config.outputs.items() if output.pretrains]
    return [
        run_dir / "bundle",
        *(run_dir / ADAPTERS / name for name in (*_adapted(config), *_adapted_outputs(config))),
        *(run_dir / PRETRAINED / config.token_inputs[name] for name in pretraining),
    ]


def write_bundle(
    folder: Path,
    config: ExperimentConfig,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, FittedOutput],
    network: Network,
    *,
    weights: Path | None = None,
    pretrained: Path | None = None,
    adapters: Path | None = None,
) -> None:
    """Write the bundle; one that is there already is replaced.

    Of inputs with adapters that are not merged it holds what was trained.

    `weights` is a file that holds the tensors of the network already, `pretrained` a folder that `write_pretrained` has
    filled with some of them, `adapters` one that `save_adapters` has filled. The bundle shares these files (as hard
    links) where the file system allows that.

    Raises:
        RunFailed: the disk is full or fails.
    """
    base: dict[str, dict[str, str]] = {}
    published: dict[str, Tensor] = {}
    for name in [name for name, lora in _adapted(config).items() if not lora.merge]:
        model_type, own = _model_type(config, name), _published_weights(network, name)
        local = Path(model_type).expanduser()
        base[name] = {"model": str(local.absolute()) if local.is_dir() else model_type, "sha256": _hash(own)}
        published |= own

    def fill(partial: Path) -> None:
        for name, found in base.items():
            save_adapter(_backbone(network, name), partial / ADAPTERS / name, base_model=found["model"])
            if adapters is not None:
                share(adapters / name / ADAPTER_WEIGHTS, partial / ADAPTERS / name / ADAPTER_WEIGHTS)
        if base:
            (partial / BASE).write_text(json.dumps(base, indent=2) + "\n", encoding="utf-8")
        inputs_alone = {
            name: found.model_copy(update={"interpretation": None}) for name, found in config.inputs.items()
        }
        predicting = config.model_copy(update={"callbacks": {}, "start_from": None, "inputs": inputs_alone})
        predicting = predicting.model_copy(update={"trainer": predicting.trainer.model_copy(update={"latents": None})})
        (partial / CONFIG).write_text(
            yaml.safe_dump(plain(predicting), sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
        if needed := plugins.needed(plain(config)):
            (partial / PLUGINS).write_text(json.dumps(needed, indent=2) + "\n", encoding="utf-8")
        if network.broker is not None:
            (partial / BROKER).write_text(json.dumps(network.broker.shapes()) + "\n", encoding="utf-8")
        (partial / "outputs").mkdir()
        for name, output in outputs.items():
            output.save(partial / "outputs" / f"{name}.json")
        for name, fitted in inputs.items():
            predicting_input = fitted.config.model_copy(update={"interpretation": None})
            fitted.renamed(name, predicting_input).save(partial / "inputs" / name)
        held = published.keys() | _shared(network, inputs, pretrained, partial / PRETRAINED)
        if held or weights is None or not linked(weights, partial / WEIGHTS):
            kept = {name: x for name, x in network.tensors().items() if name not in held}
            save_file(kept, str(partial / WEIGHTS))

    if folder.exists():
        remove_folder(folder)
    write_folder(folder, fill)


def save_adapters(folder: Path, config: ExperimentConfig, network: Network) -> None:
    """Write each input's adapter of low rank to `folder`/INPUT, and those of decoders of outputs to
    `folder`/outputs.NAME, as others read it.

    Raises:
        RunFailed: the disk is full or fails.
    """
    adapted = {name: (_backbone(network, name), _model_type(config, name)) for name in _adapted(config)}
    for name, (output, model_type) in _adapted_outputs(config).items():
        head: Any = network.head(output)
        adapted[name] = (head.backbone, model_type)
    for name, (backbone, model_type) in adapted.items():
        if (folder / name).exists():
            remove_folder(folder / name)
        write_folder(folder / name, partial(save_adapter, backbone, base_model=model_type))


def _adapted(config: ExperimentConfig) -> dict[str, LoraConfig]:
    """The inputs whose backbones have adapters of low rank."""
    backbones = {
        name: backbone
        for name, declared in config.inputs.items()
        if declared.share is None and (backbone := declared.backbone) is not None
    }
    return {name: backbone.lora for name, backbone in backbones.items() if backbone.lora is not None}


def _adapted_outputs(config: ExperimentConfig) -> dict[str, tuple[str, str]]:
    """The outputs whose own decoders have adapters of low rank, by the names of their folders, and what is adapted."""
    decoders = {name: model for name, output in config.outputs.items() if (model := output.own_model) is not None}
    return {f"outputs.{name}": (name, model.model_type) for name, model in decoders.items() if model.lora is not None}


def _model_type(config: ExperimentConfig, name: str) -> str:
    backbone = config.inputs[name].backbone
    assert backbone is not None, "it has an adapter"
    return backbone.model_type


def _backbone(network: Network, name: str) -> Any:
    return network.encoder(name).backbone


def _published_weights(network: Network, name: str) -> dict[str, Tensor]:
    """Those weights of an input with adapters that are as they were loaded."""
    encoder = network.encoder(name)
    frozen = {id(parameter) for parameter in encoder.parameters() if not parameter.requires_grad}
    return {key: x.detach() for key, x in network.named_parameters() if id(x) in frozen}


def _hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        x = tensors[name].cpu().contiguous().reshape(-1)
        digest.update(f"{name} {list(tensors[name].shape)} {x.dtype} ".encode())
        digest.update(x.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_pretrained(
    folder: Path, inputs: Mapping[str, Any], outputs: Mapping[str, FittedOutput], network: Network
) -> None:
    """Write the backbones that learned from texts alone to `folder`/INPUT, as `pretrained_model` reads them.

    That is ``config.json`` and weights in published names, and the tokenizer; ``generator`` has that of a detection of
    replaced tokens.

    Raises:
        RunFailed: the disk is full or fails.
    """
    for output in outputs.values():
        if not output.config.pretrains:
            continue
        encoder, tokenizer = network.encoder(output.input), inputs[output.input].tokenizer

        def fill(partial: Path, encoder: Any = encoder, tokenizer: Any = tokenizer) -> None:
            for part, model in encoder.published_models().items():
                model.save_pretrained(partial / part)
                tokenizer.save(partial / part)

        if (folder / output.input).exists():
            remove_folder(folder / output.input)
        write_folder(folder / output.input, fill)


def _published_models(network: Network, inputs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The models of a network that may be published, and their places below the folder of `write_pretrained`."""
    for name in inputs:
        models: dict[str, Any] = getattr(network.encoder(name), "published_models", dict)()
        yield from ((f"{name}/{part}" if part else name, model) for part, model in models.items())


def _held(network: Network, model: Any, file: Path) -> dict[str, Tensor]:
    """What a file in published names holds of a network, under our names."""
    prefix = next(name for name, module in network.named_modules() if module is model)
    own = network.tensors()
    tensors = match(model, read_safetensors(file)).tensors
    return {f"{prefix}.{name}": x for name, x in tensors.items() if f"{prefix}.{name}" in own}


def _shared(network: Network, inputs: Mapping[str, Any], pretrained: Path | None, folder: Path) -> set[str]:
    """Share the files of published weights with `folder`; returns the tensors that they hold, bit for bit."""
    found: set[str] = set()
    if pretrained is None:
        return found
    for place, model in _published_models(network, inputs):
        file, own = pretrained / place / WEIGHTS, network.tensors()
        if not file.exists():
            continue
        (folder / place).mkdir(parents=True)
        if linked(file, folder / place / WEIGHTS):
            found |= {name for name, x in _held(network, model, file).items() if torch.equal(x, own[name])}
    return found


def _read_base(path: Path, inputs: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The published models that the adapters of a bundle belong to, by input."""
    if not path.exists():
        return {}
    try:
        content = read_json(path)
        base = {name: {"model": str(found["model"]), "sha256": str(found["sha256"])} for name, found in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(Fault(str(path), f"does not name published models by input ({type(error).__name__})")) from None
    if unknown := base.keys() - inputs.keys():
        raise UserError(Fault(str(path), f"names {min(unknown)!r}, which is no input"))
    return base


def _check_plugins(path: Path) -> None:
    """Raise `UserError` for each plug-in that a bundle needs and that is not here."""
    if not path.exists():
        return
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(origin, str) for origin in content.values()):
        raise UserError(Fault(str(path), "does not name plug-ins by what they provide"))
    if faults := plugins.missing(content):
        raise UserError(*(fault.under(str(path.parent)) for fault in faults))


def read_bundle(folder: Path) -> Bundle:
    """The bundle in `folder`; the network is on the CPU and in evaluation mode.

    Raises:
        UserError: the folder is none, or is damaged, or needs a plug-in that is not here.
    """
    if not (folder / MANIFEST).exists():
        raise UserError(Fault(str(folder), "is not a bundle (it has no manifest.json)"))
    problem = verify_folder(folder)
    if problem is not None:
        raise UserError(Fault(str(folder), f"the bundle is damaged: {problem}"))
    _check_plugins(folder / PLUGINS)
    try:
        config = ExperimentConfig.model_validate(read_config(folder / CONFIG))
    except ValueError as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(Fault(str(folder / CONFIG), f"cannot be read by this version: {detail}")) from None
    inputs: dict[str, Any] = {name: load_modality(folder / "inputs" / name) for name in config.inputs}
    outputs = {name: load_output(folder / "outputs" / f"{name}.json") for name in config.outputs}
    base = _read_base(folder / BASE, inputs)
    for name, found in base.items():
        lora = LoraConfig(adapter=str(folder / ADAPTERS / name))  # it may have begun with another one, of its ranks
        copy = folder / COPIES / name
        changes = {"model_type": str(copy) if copy.is_dir() else found["model"], "lora": lora}
        model = inputs[name].config.model.model_copy(update=changes)
        inputs[name] = replace(inputs[name], config=inputs[name].config.model_copy(update={"model": model}))
    files = [folder / WEIGHTS, *(folder / PRETRAINED).rglob(WEIGHTS)]
    elements = sum(math.prod(shape) for file in files for shape in shapes_in(file).values())
    try:
        # Adapters belong to a model that the bundle does not hold.
        bounds = contextlib.nullcontext() if base else bounded_by_weights(elements, str(folder))
        with bounded_by_memory(), bounds:
            network = build_network(config, inputs, outputs, pretrained=frozenset(base))
            if config.broker or config.adversaries:
                connect(config, network, outputs, shapes=read_shapes(folder / BROKER))
    except UserError as error:
        if not base:
            raise
        places = " and ".join(f"that of {found['model']} to {folder / COPIES / name}" for name, found in base.items())
        hint = f"holds only adapters; copy the folder of their base model, {places}"
        raise UserError(
            Fault(str(folder), f"{hint} ({HOW_TO_MERGE}). Where it was, it {error.faults[0].message}")
        ) from None
    tensors = read_safetensors(folder / WEIGHTS)
    for place, published_model in _published_models(network, inputs):
        if (file := folder / PRETRAINED / place / WEIGHTS).exists():
            tensors = _held(network, published_model, file) | tensors
    for name, found in base.items():
        published = _published_weights(network, name)
        if _hash(published) != found["sha256"]:
            hint = f"{found['model']} is not the model that the adapters of inputs.{name} were trained with"
            raise UserError(Fault(str(folder), f"{hint}: its weights differ ({HOW_TO_MERGE})"))
        tensors |= published
    try:
        network.load_tensors(tensors)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(Fault(str(folder / WEIGHTS), f"the weights do not fit the config: {first}")) from None
    for name in base:
        merge_lora(_backbone(network, name))
    return Bundle(config, inputs, outputs, network.eval())
