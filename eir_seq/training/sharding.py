"""Training with weights, gradients and optimizer state in shards (FSDP; Zhao et al. 2023, arXiv:2304.11277).

Each layer of a stack is a unit: its weights are gathered for its forward and backward pass and freed after each. All
else is one more unit. The network that is evaluated and saved is a copy with all weights, on the CPU meanwhile.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

from eir_seq.training.checkpoints import write_folder, write_shard, write_state
from eir_seq.training.lightning import DDPStrategy
from eir_seq.training.network import Network
from eir_seq.training.ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


class Sharded:
    """A network that trains in shards, and the one with all weights that it is a copy of.

    Args:
        network: with all weights; it gets the trained ones by `gather`.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.trained: Network = copy.deepcopy(network)

    @torch.no_grad()
    def gather(self, source: Network | None = None) -> Network:
        """The network with all weights as they are now; every process has to call this.

        Args:
            source: another network in shards whose weights are wanted, such as that of averages.
        """
        source = self.trained if source is None else source
        own = dict(source.named_parameters())
        for name, parameter in self.network.named_parameters():
            parameter.copy_(full(own[name]))
        buffers = dict(source.named_buffers())
        for name, buffer in self.network.named_buffers():
            buffer.copy_(buffers[name])
        return self.network


class ShardedStrategy(DDPStrategy):
    """FSDP by torch's `fully_shard`, on GPUs and CPUs.

    Args:
        ranks: the processes.
        averaged: the network that holds averages of the weights, which is sharded as the trained one.
        options: of `DDPStrategy`.
    """

    def __init__(self, ranks: Ranks, averaged: Network | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.ranks, self.averaged = ranks, averaged

    def configure_ddp(self) -> None:
        """Shard the network in place of wrapping the module."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard  # which imports sympy

        assert self.lightning_module is not None
        trained: Any = self.lightning_module.network
        mesh = init_device_mesh(self.root_device.type, (self.ranks.world_size,))
        for network in filter(None, (trained, self.averaged)):
            for unit in units(network):
                fully_shard(unit, mesh=mesh)
            fully_shard(network, mesh=mesh)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Write a folder in which every process has a file of its shards."""
        assert storage_options is None
        ranks = self.ranks
        if not ranks.is_first:
            folder = ranks.broadcast()
            write_shard(Path(folder), checkpoint, ranks.rank)
            ranks.barrier()
            return

        def fill(folder: Path) -> None:
            ranks.broadcast(str(folder))
            write_state(folder, checkpoint)
            ranks.barrier()

        write_folder(Path(filepath), fill)

    def teardown(self) -> None:
        """Leave shards where they are; the network with all weights is elsewhere."""
        for part in (self.cluster_environment, self.precision_plugin, self.accelerator):
            assert part is not None
            part.teardown()

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load the shards of this process from whole tensors."""
        assert self.lightning_module is not None
        load_shards(self.lightning_module, checkpoint["state_dict"], strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """The same for the state of optimizers."""
        for optimizer, held in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            state = {
                index: {
                    key: shard_like(x, parameters[index])
                    if isinstance(x, Tensor) and x.shape == parameters[index].shape
                    else x
                    for key, x in values.items()
                }
                for index, values in held["state"].items()
            }
            optimizer.load_state_dict({**held, "state": state})


def units(network: nn.Module) -> Iterator[nn.Module]:
    """The layers of stacks, inner ones first, each once; those that are not called as wholes belong to the last unit.

    Args:
        network: a module whose `nn.ModuleList` hold layers.
    """
    lists = [
        part
        for module in network.modules()
        if getattr(module, "calls_layers", True)
        for part in module.children()
        if isinstance(part, nn.ModuleList)
    ]
    layers = dict.fromkeys(layer for part in lists for layer in part)
    for layer in reversed(layers):
        if not isinstance(layer, nn.ModuleList | nn.ModuleDict) and next(layer.parameters(), None) is not None:
            yield layer


def all_finite(parameters: Iterable[Tensor], ranks: Ranks) -> bool:
    """Whether all values of tensors are finite, in the shards of all processes."""
    local = (x.to_local() if _is_sharded(x) else x for x in parameters)
    return not ranks.maximum(int(not all(bool(x.isfinite().all()) for x in local)))


def full(value: Tensor) -> Tensor:
    """A tensor with its shards of all processes."""
    return value.full_tensor() if _is_sharded(value) else value


def load_shards(module: nn.Module, state: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Load whole tensors into a module, of which this process may have shards."""
    own = module.state_dict()
    module.load_state_dict({name: shard_like(x, own[name]) for name, x in state.items()}, strict=strict)


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """This process's shard of a whole tensor, as `like` is sharded; as it is if `like` is not."""
    if not _is_sharded(like):
        return value
    from torch.distributed.tensor import DTensor

    mesh, placements = like.device_mesh, like.placements
    parts = torch.chunk(value, mesh.size())
    rank = mesh.get_local_rank()
    local = parts[rank] if rank < len(parts) else value[:0]
    local = local.to(like.to_local().device, copy=True)
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=value.shape, stride=value.stride())


def _is_sharded(value: Tensor) -> TypeGuard[DTensor]:
    """Whether a tensor is a `DTensor`. Their module is imported where there are some: it imports sympy."""
    return hasattr(value, "full_tensor")
