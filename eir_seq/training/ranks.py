"""The processes that train one model together, and what they communicate besides gradients.

Gradients go through torch's DDP or FSDP. All else (counts of rows, metrics, decisions to stop) goes through a gloo
process group of its own, as numbers, JSON or safetensors; nothing is pickled.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

PATIENCE = datetime.timedelta(days=1)
"""How long a process waits for the others, which may be encoding a large table; the end of one is noticed at once."""


class Ranks:
    """This process among those that train one model; alone by default, where every exchange is trivial.

    Args:
        rank: the number of this process, from 0.
        world_size: the number of processes.
        local_rank: the number of this process on its machine, which is that of its device.
        local_world_size: processes on this machine.
    """

    def __init__(self, rank: int = 0, world_size: int = 1, local_rank: int = 0, local_world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size
        self.local_rank, self.local_world_size = local_rank, local_world_size
        self._control: dist.ProcessGroup | None = None
        self._rows: dist.ProcessGroup | None = None
        self._opened = False

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which alone writes files and reports progress."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are other processes."""
        return self.world_size > 1

    def open(self, device: torch.device, address: str, port: int) -> None:
        """Join the process group, unless this process is in one already; waits for the others."""
        if not self.several:
            return
        if not dist.is_initialized():
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                init_method=f"tcp://{address}:{port}",
                rank=self.rank,
                world_size=self.world_size,
                timeout=PATIENCE,
                device_id=device if device.type == "cuda" else None,
            )
            self._opened = True
        self._control = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._rows = dist.new_group(timeout=PATIENCE)  # its order is not mixed up with that of the gradients

    def close(self) -> None:
        """Leave the process group."""
        if self._opened and dist.is_initialized():
            dist.destroy_process_group()
        self._control, self._rows, self._opened = None, None, False

    # ------------------------------------------------------------------------------------------------- exchanges

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, in double precision."""
        if not self.several:
            return list(values)
        total = torch.tensor(list(values), dtype=torch.float64)
        dist.all_reduce(total, group=self._control)
        found: list[float] = total.tolist()
        return found

    def maximum(self, value: int) -> int:
        """The largest value of all processes."""
        if not self.several:
            return value
        largest = torch.tensor(value, dtype=torch.int64)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self._control)
        return int(largest)

    def broadcast(self, value: Any = None) -> Any:
        """The JSON value of rank 0; those of the others are ignored."""
        if not self.several:
            return value
        content = _bytes(json.dumps(value).encode()) if self.is_first else None
        size = torch.tensor(0 if content is None else len(content))
        dist.broadcast(size, 0, group=self._control)
        if content is None:
            content = torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(content, 0, group=self._control)
        return json.loads(bytes(content.tolist()))

    def gather(self, tensors: Mapping[str, Tensor], about: Any = None) -> list[tuple[dict[str, Tensor], Any]]:
        """Tensors and a JSON value of every process, by rank, for rank 0; nothing for the others."""
        if not self.several:
            return [(dict(tensors), about)]
        if self.is_first:
            own = (dict(tensors), about)
            return [own, *(self._received(rank) for rank in range(1, self.world_size))]
        copies = {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}
        for part in (json.dumps(about).encode(), safetensors.torch.save(copies)):
            content = _bytes(part)
            dist.send(torch.tensor(len(content)), 0, group=self._control)
            dist.send(content, 0, group=self._control)
        return []

    def _received(self, rank: int) -> tuple[dict[str, Tensor], Any]:
        parts = []
        for _ in range(2):
            size = torch.tensor(0)
            dist.recv(size, rank, group=self._control)
            content = torch.empty(int(size), dtype=torch.uint8)
            dist.recv(content, rank, group=self._control)
            parts.append(content.numpy().tobytes())
        return safetensors.torch.load(parts[1]), json.loads(parts[0])

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.several:
            dist.barrier(group=self._control)

    # --------------------------------------------------------------------------------------------- of a training step

    def rows_of_all(self, values: Tensor) -> tuple[Tensor, slice]:
        """Rows of all processes, (all rows, ...), through which gradients flow to each, and where the own ones are.

        Args:
            values: of this process, (rows, ...); numbers of rows may differ.
        """
        if not self.several:
            return values, slice(0, len(values))
        counts = [0.0] * self.world_size
        counts[self.rank] = float(len(values))
        counts = self.sum(counts)
        padded = values.new_zeros(int(max(counts)), *values.shape[1:])
        padded = torch.cat([values, padded[len(values) :]])
        parts: Tensor = _Gather.apply(padded, self._rows)  # type: ignore[no-untyped-call]
        start = int(sum(counts[: self.rank]))
        rows = torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])
        return rows, slice(start, start + len(values))

    def total(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on its device."""
        if self.several:
            values = values.clone()
            dist.all_reduce(values, group=self._rows)
        return values

    def share_statistics(self, network: nn.Module) -> None:
        """Give batch norms of all processes the running statistics of rank 0."""
        if not self.several:
            return
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                for buffer in module.buffers():
                    dist.broadcast(buffer, 0, group=self._rows)


class _Gather(torch.autograd.Function):
    """The tensors of all processes, (processes, ...); their gradients are summed over processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        parts = [torch.empty_like(values) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, values.contiguous(), group=group)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient[dist.get_rank(ctx.group)], None


ALONE = Ranks()
"""The only process."""


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
