"""The bundle: all that predicting needs of a run, in one folder that is there whole or not at all.

``config.yaml``, ``model.safetensors`` (the best weights), ``inputs/NAME/`` (fitted modalities), ``outputs/NAME.json``
and a manifest of hashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_model, save_file

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError
from eir_seq.modalities.replacing import ReplacingEncoder
from eir_seq.models.lora import merge_lora, save_adapter
from eir_seq.outputs import load_output
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.pretraining import FittedPretraining
from eir_seq.training.checkpoints import MANIFEST, WEIGHTS, linked, remove_folder, verify_folder, write_folder
from eir_seq.training.folder import CONFIG, plain
from eir_seq.training.network import Network

__all__ = ["WEIGHTS", "Bundle", "merge_adapters", "read_bundle", "write_bundle", "write_pretrained"]


@dataclass(frozen=True)
class Bundle:
    """A trained network and what turns rows into its inputs and its raw outputs into predictions."""

    config: ExperimentConfig
    inputs: dict[str, Any]
    outputs: dict[str, FittedOutput]
    network: Network


def write_bundle(
    folder: Path,
    config: ExperimentConfig,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, FittedOutput],
    network: Network,
    *,
    weights: Path | None = None,
) -> None:
    """Write the bundle; one that is there already is replaced.

    `weights`: a file that holds the tensors of the network already; the bundle shares it (a hard link) where the file
    system allows that.

    Raises:
        RunFailed: the disk is full or fails.
    """

    def fill(partial: Path) -> None:
        (partial / CONFIG).write_text(
            yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
        (partial / "outputs").mkdir()
        for name, output in outputs.items():
            output.save(partial / "outputs" / f"{name}.json")
        for name, fitted in inputs.items():
            fitted.save(partial / "inputs" / name)
        if weights is None or not linked(weights, partial / WEIGHTS):
            save_file(network.tensors(), str(partial / WEIGHTS))

    if folder.exists():
        remove_folder(folder)
    write_folder(folder, fill)


def merge_adapters(folder: Path, config: ExperimentConfig, network: Network) -> bool:
    """Write each input's adapter of low rank to `folder`/INPUT, as others read it, and add it to the weights.

    Gives whether there was any.

    Raises:
        RunFailed: the disk is full or fails.
    """
    adapted = [name for name, declared in config.inputs.items() if declared.model.lora is not None]
    for name in adapted:
        declared = config.inputs[name]
        backbone: Any = network.encoder(name).backbone
        if (folder / name).exists():
            remove_folder(folder / name)
        write_folder(folder / name, partial(save_adapter, backbone, base_model=declared.model.model_type))
        merge_lora(backbone)
    return bool(adapted)


def write_pretrained(
    folder: Path, inputs: Mapping[str, Any], outputs: Mapping[str, FittedOutput], network: Network
) -> None:
    """Write the backbones that learnt from texts alone to `folder`/INPUT, as `pretrained_model` reads them.

    That is ``config.json`` and weights in published names, and the tokenizer; ``generator`` has that of a detection of
    replaced tokens.

    Raises:
        RunFailed: the disk is full or fails.
    """
    for output in outputs.values():
        if not isinstance(output, FittedPretraining):
            continue
        encoder, tokenizer = network.encoder(output.input), inputs[output.input].tokenizer

        def fill(partial: Path, encoder: Any = encoder, tokenizer: Any = tokenizer) -> None:
            encoder.backbone.save_pretrained(partial)
            tokenizer.save(partial)
            if isinstance(encoder, ReplacingEncoder):
                encoder.generator.save_pretrained(partial / "generator")
                tokenizer.save(partial / "generator")

        if (folder / output.input).exists():
            remove_folder(folder / output.input)
        write_folder(folder / output.input, fill)


def read_bundle(folder: Path) -> Bundle:
    """The bundle in `folder`; the network is on the CPU and in evaluation mode.

    Raises:
        UserError: the folder is none, or is damaged.
    """
    from eir_seq.modalities import load_modality
    from eir_seq.training.assemble import build_network

    if not (folder / MANIFEST).exists():
        raise UserError(Fault(str(folder), "is not a bundle (it has no manifest.json)"))
    problem = verify_folder(folder)
    if problem is not None:
        raise UserError(Fault(str(folder), f"the bundle is damaged: {problem}"))
    try:
        config = ExperimentConfig.model_validate(yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(Fault(str(folder / CONFIG), f"cannot be read by this version: {detail}")) from None
    inputs = {name: load_modality(folder / "inputs" / name) for name in config.inputs}
    outputs = {name: load_output(folder / "outputs" / f"{name}.json") for name in config.outputs}
    network = build_network(config, inputs, outputs, pretrained=False)
    try:
        load_model(network, folder / WEIGHTS)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(Fault(str(folder / WEIGHTS), f"the weights do not fit the config: {first}")) from None
    return Bundle(config, inputs, outputs, network.eval())
