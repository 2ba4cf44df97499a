"""The network of fitted inputs and outputs: encoders, fusion and heads."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from eir_seq.config.outputs import HeadOutputBase
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError
from eir_seq.fusion import build_fusion
from eir_seq.fusion.heads import TrunkHead, build_trunks
from eir_seq.modalities.base import FittedModality
from eir_seq.modalities.encoders.replacing import with_generator
from eir_seq.outputs.base import FittedOutput
from eir_seq.randomness import derive_seed
from eir_seq.training.mixing import Mixer
from eir_seq.training.network import Network


def build_network(
    config: ExperimentConfig,
    inputs: Mapping[str, FittedModality],
    outputs: Mapping[str, FittedOutput],
    *,
    pretrained: bool | Collection[str] = True,
) -> Network:
    """The network with its first weights, which depend on the seed alone.

    `pretrained` says whether published weights are loaded, or for which inputs; others will be put in the place of the
    rest.

    Raises:
        UserError: sizes do not fit together.
    """
    torch.manual_seed(derive_seed(config.seed, "network"))
    token_inputs = config.token_inputs
    tasks = {token_inputs[name]: output.backbone_task for name, output in outputs.items() if output.backbone_task}
    owners = config.owners
    encoders = {
        name: fitted.build_encoder(
            config.data,
            pretrained=pretrained if isinstance(pretrained, bool) else name in pretrained,
            task=tasks.get(name),
        )
        for name, fitted in inputs.items()
        if owners[name] == name
    }
    encoders = {name: encoders[owners[name]] for name in inputs}
    for name, output in outputs.items():
        if (changes := output.config.generator_options) is not None:
            source = token_inputs[name]
            encoders[source] = with_generator(encoders[source], changes, source, name)
    state_inputs, vector_inputs = config.state_inputs, config.vector_inputs
    unfused = {*token_inputs, *state_inputs, *vector_inputs}
    fused = [name for name in outputs if name not in unfused]
    fusion = None
    if fused:
        width = "state_size" if config.fusion.chosen(list(encoders)).reads_states else "output_size"
        sizes = {name: _size(encoder, name, width) for name, encoder in encoders.items()}
        fusion = build_fusion(config.fusion, sizes, fused)
    read = {name: _size(encoders[source], source, "state_size") for name, source in token_inputs.items()}
    if fusion is not None:
        read |= {name: fusion.size_of(name) for name in fused}
    trunks = build_trunks(
        {name: output.config.head for name, output in outputs.items() if isinstance(output.config, HeadOutputBase)},
        read,
    )
    grids = {
        name: {source: found for source in sources if (found := inputs[source].grid_tensor) is not None}
        for name, sources in config.grid_inputs.items()
    }

    def head_of(name: str, features: int) -> torch.nn.Module:
        if name in grids:
            return outputs[name].build_grid_head(features, {source: grid for source, (_, grid) in grids[name].items()})
        return outputs[name].build_head(features)

    heads: dict[str, torch.nn.Module] = {}
    for name, output in outputs.items():
        if name in state_inputs:
            widths = {source: _size(encoders[source], source, "state_size") for source in state_inputs[name]}
            heads[name] = output.build_state_head(widths, pretrained=pretrained is True)
        elif name in vector_inputs:
            widths = {source: _size(encoders[source], source, "output_size") for source in vector_inputs[name]}
            heads[name] = output.build_vector_head(widths, owners)
        elif name in trunks:
            heads[name] = TrunkHead(trunks[name], head_of(name, trunks[name].output_size))
        else:
            heads[name] = head_of(name, read[name])
            if pretrained is True and name in token_inputs:
                output.load_published_head(heads[name], encoders[token_inputs[name]])
    lacking = [
        name
        for name, declared in config.inputs.items()
        if config.data.on_missing == "keep" or declared.modality_dropout
    ]
    may_lack = (fusion is not None or state_inputs) and len(encoders) > 1
    absent = lacking if may_lack else ()
    tensors = {name: {source: tensor for source, (tensor, _) in found.items()} for name, found in grids.items()}
    network = Network(encoders, fusion, heads, token_inputs, state_inputs, absent, vector_inputs, tensors)
    if config.trainer.mixing is not None:
        network.mixer = Mixer(config.trainer.mixing, network)
    return network


def _size(encoder: torch.nn.Module, name: str, width: str) -> int:
    size = getattr(encoder, width, None)
    if size is None and width == "state_size":
        message = (
            f"{type(encoder).__name__} gives a vector and no states, which a decoder or a fusion by attention reads"
        )
        raise UserError(Fault(f"inputs.{name}.model.model_type", message))
    assert isinstance(size, int), f"inputs.{name}: an encoder without {width}"
    return size
