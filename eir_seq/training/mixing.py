"""Training on mixtures of rows (`trainer.mixing`): inputs, embeddings or features of a batch are mixed on their way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.config.mixing import MixingConfig, Way
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.modalities.encoders.base import Encoder
from eir_seq.modalities.encoders.mixing import Mixing, Pairs, tables
from eir_seq.randomness import derive_seed
from eir_seq.training.evaluation import Batch
from eir_seq.training.network import Network

PLACE = "trainer.mixing"


class Mixer:
    """Mixes training batches of a network.

    Args:
        config: how.
        network: whose layers `config` may name.

    Raises:
        UserError: a layer is not there.
    """

    def __init__(self, config: MixingConfig, network: Network) -> None:
        self.config = config
        faults = []
        for name in (name for group in config.groups for name in group):
            if not _is_encoder(name) and find_layer(network, name) is None:
                known = layer_names(network)
                faults.append(Fault(f"{PLACE}.layers", f"the network has no layer {name!r}{nearest(name, known)}"))
        for name in network.input_names if config.type != "manifold" else ():
            try:
                embeddings_of(network.encoder(name))
            except UserError as error:
                faults += [fault.under(f"inputs.{name}") for fault in error.faults]
            if config.inputs.get(name, "mixup") != "mixup" and not self._cuts(network.encoder(name)):
                message = f"inputs.{name} cannot be cut, as its tokens belong together; it is mixed by mixup"
                faults.append(Fault(f"{PLACE}.inputs.{name}", message))
        if faults:
            raise UserError(*faults)

    @staticmethod
    def _cuts(encoder: nn.Module) -> bool:
        return getattr(encoder, "cut_axes", None) != 0

    def way(self, network: Network, name: str) -> Way:
        """How an input is mixed."""
        return self.config.way(name) if self._cuts(network.encoder(name)) else "mixup"

    def outputs(self, network: Network, batch: Batch) -> tuple[dict[str, Tensor], Batch]:
        """Raw outputs of a batch that has been paired, and the batch with the shares that its rows have in them.

        Cuts take whole positions, so that shares differ from those that were drawn by less than one position.
        """
        pairs = Pairs(batch["mixing"]["partner"], batch["mixing"]["share"])
        present, targets = batch.get("present", {}), batch.get("targets", {})
        if self.config.type == "manifold":
            with self._layers(network, pairs, batch["mixing"]["seed"]) as features:
                return network(batch["inputs"], present, targets, features), batch
        inputs, shares, weights = {}, [], []
        with ExitStack() as stack:
            for name, tensors in batch["inputs"].items():
                seed = derive_seed(batch["mixing"]["seed"], name)
                mixing = Mixing(pairs.partner, pairs.share, self.way(network, name), seed, batch["mixing"]["place"])
                encoder = network.encoder(name)
                inputs[name], share = _mixed(encoder, dict(tensors), mixing) if tensors else ({}, pairs.share)
                if mixing.way == "mixup":
                    stack.enter_context(_mixed_embeddings(name, encoder, pairs))
                shares.append(share)
                weights.append(present[name].to(share) if name in present else torch.ones_like(share))
            raw = network(inputs, present, targets)
        total = torch.stack(weights).sum(dim=0)
        share = (torch.stack(shares) * torch.stack(weights)).sum(dim=0) / total
        return raw, {**batch, "mixing": {**batch["mixing"], "share": share}}

    @contextmanager
    def _layers(self, network: Network, pairs: Pairs, seed: int) -> Iterator[Mapping[str, Pairs]]:
        """While the layers of one group are mixed: by input, how what its encoder gives is."""
        groups = self.config.groups
        if not groups:
            yield dict.fromkeys(network.input_names, pairs)
            return
        group = groups[derive_seed(seed, "layers") % len(groups)]
        with ExitStack() as stack:
            for name in group:
                if _is_encoder(name):
                    continue
                layer = find_layer(network, name)
                assert layer is not None
                if name.startswith("inputs."):
                    stack.enter_context(_unpacked(network.encoder(name.split(".")[1])))
                stack.callback(layer.register_forward_hook(_Blend(name, pairs, "name another layer")).remove)
            yield {name.split(".")[1]: pairs for name in group if _is_encoder(name)}


class _Blend:
    """Mixes what a module gives; `instead`: what to do where its rows are not those of the batch."""

    def __init__(self, name: str, pairs: Pairs, instead: str) -> None:
        self.name, self.pairs, self.instead = name, pairs, instead

    def __call__(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        """A forward hook."""
        del module, arguments
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor) and (not first.dim() or len(first) != len(self.pairs.partner)):
            shape = f"gives a tensor of shape {list(first.shape)} for {len(self.pairs.partner)} rows"
            raise UserError(Fault(PLACE, f"{self.name} {shape}, so that its rows cannot be mixed; {self.instead}"))
        return self.pairs.blend_features(output)


@contextmanager
def _mixed_embeddings(name: str, encoder: nn.Module, pairs: Pairs) -> Iterator[None]:
    """While the vectors of an input's tokens and categories are mixed."""
    modules = embeddings_of(encoder)
    with ExitStack() as stack:
        if modules:
            stack.enter_context(_unpacked(encoder))
        blend = _Blend(f"the embedding of inputs.{name}", pairs, "use type: manifold")
        for module in modules:
            stack.callback(module.register_forward_hook(blend).remove)
        yield


def _mixed(encoder: nn.Module, tensors: dict[str, Tensor], mixing: Mixing) -> tuple[dict[str, Tensor], Tensor]:
    """The tensors of an input, and what is left of its rows, (batch,)."""
    if isinstance(encoder, Encoder):
        return encoder.mix(tensors, mixing)
    return mixing.tensors(tensors, has_embeddings=bool(tables(encoder)))


def embeddings_of(encoder: nn.Module) -> list[nn.Module]:
    """The modules that make vectors (batch, ...) of the integers that an encoder reads."""
    return encoder.mixed_embeddings() if isinstance(encoder, Encoder) else tables(encoder)


@contextmanager
def _unpacked(encoder: nn.Module) -> Iterator[None]:
    """While padding is computed, too: states without padding have no rows that could be mixed."""
    packed: list[Any] = [module for module in encoder.modules() if getattr(module, "pack", False) is True]
    for module in packed:
        module.pack = False
    try:
        yield
    finally:
        for module in packed:
            module.pack = True


def _is_encoder(name: str) -> bool:
    return name.startswith("inputs.") and name.count(".") == 1


def find_layer(network: Network, name: str) -> nn.Module | None:
    """The module called ``inputs.NAME.PATH`` or ``fusion.PATH``; None if there is none."""
    part, _, path = name.partition(".")
    module: nn.Module | None = network.fusion if part == "fusion" else None
    if part == "inputs":
        source, _, path = path.partition(".")
        module = network.encoder(source) if source in network.input_names else None
    try:
        return None if module is None else module.get_submodule(path)
    except AttributeError:
        return None


def layer_names(network: Network) -> list[str]:
    """All names that `find_layer` knows."""
    parts: dict[str, nn.Module] = {f"inputs.{name}": network.encoder(name) for name in network.input_names}
    if network.fusion is not None:
        parts["fusion"] = network.fusion
    return [
        ".".join(filter(None, (part, path))) for part, module in parts.items() for path, _ in module.named_modules()
    ]
