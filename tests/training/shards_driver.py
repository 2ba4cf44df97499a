"""Gradients of every architecture in shards and as a whole: ``python -m tests.training.shards_driver``, JSON out."""

from __future__ import annotations

import copy
import json
import os
import socket
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from eir_seq.models import list_models
from eir_seq.training.sharding import full, units
from tests.models.tiny import inputs, noisy, tiny


def learn(model: nn.Module, given: dict[str, Tensor]) -> None:
    """Gradients of a random projection of the first output."""
    first = next(x for x in model(**given).values() if isinstance(x, Tensor) and x.is_floating_point())
    generator = torch.Generator().manual_seed(3)
    (first.float() * torch.randn(first.shape, generator=generator)).mean().backward()  # type: ignore[no-untyped-call]


def compared(model_type: str, mesh: Any) -> float:
    """The largest difference of a gradient, as a share of that parameter's largest one."""
    whole = noisy(tiny(model_type))
    sharded, given = copy.deepcopy(whole), inputs(whole)
    learn(whole, given)
    for unit in units(sharded):
        fully_shard(unit, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    learn(sharded, given)
    own, worst = dict(sharded.named_parameters()), 0.0
    for name, parameter in whole.named_parameters():
        found = own[name].grad
        if parameter.grad is None:
            assert found is None or not full(found).any(), name
            continue
        assert found is not None, name
        scale = parameter.grad.abs().max() + 1e-6
        worst = max(worst, float((full(found) - parameter.grad).abs().max() / scale))
    return worst


def main(rank: int, port: int) -> dict[str, Any]:
    """By architecture the difference, or what went wrong."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    mesh, found = init_device_mesh("cpu", (2,)), {}
    for model_type in list_models():
        try:
            found[model_type] = compared(model_type, mesh)
        except Exception as error:
            found[model_type] = f"{type(error).__name__}: {error}"
    dist.barrier()
    dist.destroy_process_group()
    return found


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if not (child := os.fork()):
        try:
            main(1, port)
        finally:
            os._exit(0)
    print(json.dumps(main(0, port)))
    os.waitpid(child, 0)
    sys.exit(0)
