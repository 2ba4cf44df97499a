"""The scores of one row as a function of the vectors of one of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.attributable import Attributable

Batch = Mapping[str, Any]
"""Of `eir_seq.data.dataset`."""


class VariedInput:
    """An input of a network whose vectors are replaced on their way from the table.

    Only the table is intervened in: positions, types and all else that the encoder adds stay those of the row, and so
    do the other inputs, one that shares the encoder too.

    Args:
        network: an `eir_seq.training.network.Network` in evaluation mode; see `varied`.
        name: of the input.
        attributable: its vectors.
    """

    def __init__(self, network: Any, name: str, attributable: Attributable) -> None:
        self._network, self._name, self._attributable = network, name, attributable
        self._read: Tensor | None = None
        """The tensor of the input in the batch that is computed."""
        self._given: Tensor | None = None
        self._seen: Tensor | None = None
        self._reading = False

    def vectors(self, batch: Batch) -> Tensor:
        """The vectors of the only row of a batch, (positions, size).

        Raises:
            UserError: the encoder does not look them up in its table.
        """
        with torch.no_grad():
            self._run(batch, 1, None)
        if self._seen is None:
            message = "cannot be done: the encoder computes the vectors of tokens in another way than by its table"
            raise UserError(Fault(f"inputs.{self._name}.interpretation", message))
        return self._seen[0].clone()

    def scores(self, batch: Batch, of: Callable[[Mapping[str, Tensor]], Tensor]) -> Callable[[Tensor], Tensor]:
        """Vectors of versions of the row, (versions, positions, size), to what `of` makes of the raw outputs."""

        def found(vectors: Tensor) -> Tensor:
            return of(self._run(batch, len(vectors), vectors))

        return found

    def _run(self, batch: Batch, versions: int, given: Tensor | None) -> Mapping[str, Tensor]:
        inputs = {name: _repeated(tensors, versions) for name, tensors in batch["inputs"].items()}
        self._given, self._seen = given, None
        self._read = inputs[self._name][self._attributable.tensor]
        present = _repeated(batch.get("present", {}), versions)
        rows = batch["row"].repeat_interleave(versions, dim=0)
        # Not by a call, which a compiled network answers without looking at hooks.
        raw: Mapping[str, Tensor] = self._network.forward(inputs, present, rows=rows)
        return raw

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While the table is watched."""
        encoder = self._network.encoder(self._name)
        read = encoder.read

        def reading(*arguments: Any, **tensors: Any) -> Any:
            self._reading = tensors.get(self._attributable.tensor) is self._read
            try:
                return read(*arguments, **tensors)
            finally:
                self._reading = False

        handle = self._attributable.table.register_forward_hook(self._replace)
        encoder.read = reading
        try:
            yield
        finally:
            handle.remove()
            del encoder.read

    def _replace(self, module: nn.Module, arguments: Any, output: Tensor) -> Tensor | None:
        del module
        (ids,) = arguments
        assert self._read is not None, "only what `_run` runs is watched"
        length = self._read.shape[1]  # some encoders add padding
        if not self._reading or len(ids) != len(self._read) or not torch.equal(ids[:, :length], self._read):
            return None  # other ids, such as those of types that are looked up in the same table
        if self._given is None:
            self._seen = output[:, :length]
            return None
        return torch.cat((self._given.to(output.dtype), output[:, length:]), dim=1)


def _repeated(tensors: Mapping[str, Tensor], versions: int) -> dict[str, Tensor]:
    return {name: tensor.repeat_interleave(versions, dim=0) for name, tensor in tensors.items()}


@contextmanager
def varied(network: Any, name: str, attributable: Attributable) -> Iterator[VariedInput]:
    """An input of a network (in evaluation mode) that is to be varied.

    Meanwhile padding is computed, as other ids than those of the batch have no place in it, and weights have no
    gradients, which would take time and memory.
    """
    encoder = network.encoder(name)
    packed = [module for module in encoder.modules() if getattr(module, "pack", False) is True]
    trained: Sequence[nn.Parameter] = [weight for weight in network.parameters() if weight.requires_grad]
    found = VariedInput(network, name, attributable)
    for module in packed:
        module.pack = False
    for weight in trained:
        weight.requires_grad_(False)
    try:
        with found.installed():
            yield found
    finally:
        for weight in trained:
            weight.requires_grad_(True)
        for module in packed:
            module.pack = True
