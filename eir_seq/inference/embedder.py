"""Vectors of encoded rows: of an input, or the fused features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eir_seq.config.schema import DataConfig
from eir_seq.data.dataset import EncodedSplit
from eir_seq.data.encoded import Progress
from eir_seq.errors import Fault, RunFailed, UserError, nearest
from eir_seq.training.bundle import Bundle
from eir_seq.training.devices import batch_shape, out_of_memory
from eir_seq.training.evaluation import Batch, autocast, evaluation_mode, to_device

FUSION = "fusion"


class Embedder:
    """Makes vectors of rows, of the columns of one input alone or of those of all.

    Attributes:
        source: the input, ``fusion`` or ``fusion.OUTPUT``.
        bundle: with the inputs that are read, and no outputs.

    Args:
        bundle: of a finished run.
        source: see `Predictor.embed`.
        normalize: see there.

    Raises:
        UserError: no such input, or one whose rows have no vectors of their own.
    """

    def __init__(self, bundle: Bundle, source: str | None, normalize: bool | None) -> None:
        self.source = _source(bundle, source)
        self.network = bundle.network
        if self.network.broker is not None and self.network.broker.reaches(self.source):
            message = "gets messages from other layers, without which its vectors would be others"
            raise UserError(Fault(f"inputs.{self.source}", message))
        of_fusion = self.source.partition(".")[0] == FUSION and self.source not in bundle.inputs
        self._output = self.source.partition(".")[2] if of_fusion else None
        inputs = bundle.inputs if of_fusion else {self.source: bundle.inputs[self.source]}
        read = {name: bundle.config.inputs[name] for name in inputs}
        config = bundle.config.model_copy(update={"inputs": read, "outputs": {}})
        self.bundle = Bundle(config, dict(inputs), {}, bundle.network)
        compared = [name for name, names in bundle.config.vector_inputs.items() if self.source in names]
        self._compares = None if of_fusion or not compared else bundle.outputs[compared[0]]
        self.normalize = self._compares is not None if normalize is None else normalize

    def vectors(
        self,
        encoded: EncodedSplit,
        ids: Sequence[str],
        data: DataConfig,
        device: torch.device,
        precision: str,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """A vector for each row, (rows, size).

        Args:
            encoded: the inputs of `bundle`, encoded.
            ids: of the rows that were encoded.
            data: how large batches are.
            device: that of the network.
            precision: one of `trainer.precision`.
            progress: called with what is done, how many rows of it, and of how many.

        Raises:
            UserError: the input makes other rows of them.
            RunFailed: not enough memory.
        """
        if list(encoded.ids) != list(ids):
            message = "is read in blocks or windows, which are not the rows of the data; they have no vectors"
            raise UserError(Fault(f"inputs.{self.source}", message))
        found: NDArray[np.float32] | None = None
        with evaluation_mode(self.network), torch.inference_mode(), autocast(device, precision):
            done = 0
            for batch in encoded.batches(data):
                try:
                    vectors = self._of(to_device(batch, device)).float()
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    raise RunFailed(f"out of memory ({batch_shape(batch)}); lower batch_size") from error
                if self.normalize:
                    vectors = functional.normalize(vectors, dim=1)
                if found is None:
                    found = np.empty((len(encoded), vectors.shape[1]), np.float32)
                found[batch["row"].numpy()] = vectors.cpu().numpy()
                done += len(batch["id"])
                if progress is not None:
                    progress("computing vectors", done, len(encoded))
        assert found is not None, "there is at least one row"
        return found

    def _of(self, batch: Batch) -> Tensor:
        """The vectors of a batch, (batch, size)."""
        if self._output is not None:
            return self._fused(batch)
        vectors = self.network.vectors([self.source], batch["inputs"], batch.get("present", {}))[self.source]
        if self._compares is None:
            return vectors
        compared = self._compares.embedding(self.network.head(self._compares.name), self.source, vectors)
        return vectors if compared is None else compared

    def _fused(self, batch: Batch) -> Tensor:
        """The fused features of an output, or those that all outputs have in common."""
        seen: dict[str, Tensor] = {}
        assert self.network.fusion is not None
        handle = self.network.fusion.register_forward_hook(lambda _module, _arguments, output: seen.update(output))
        try:
            self.network.features_for(self.network.fusion.outputs[0], batch)
        finally:
            handle.remove()
        features = list(seen.values())
        if self._output:
            return seen[self._output]
        if any(other is not features[0] for other in features):
            listed = ", ".join(f"{FUSION}.{name}" for name in seen)
            raise UserError(Fault("input", f"each output has features of its own; name one of {listed}"))
        return features[0]


def _source(bundle: Bundle, source: str | None) -> str:
    """The input, ``fusion`` or ``fusion.OUTPUT`` that is meant."""
    names, fusion = list(bundle.inputs), bundle.network.fusion
    compared = [name for inputs in bundle.config.vector_inputs.values() for name in inputs]
    if source is None:
        if compared or len(names) == 1:
            return _readable(bundle, (compared or names)[0])
        listed = ", ".join([*names, *([FUSION] if fusion is not None else [])])
        raise UserError(Fault("input", f"is missing; say whose vectors are wanted: {listed}"))
    if source in names:
        return _readable(bundle, source)
    known = [*names]
    if fusion is not None:
        fused = [name for name in bundle.outputs if name in fusion.outputs]
        known += [FUSION, *(f"{FUSION}.{name}" for name in fused)]
    if source not in known:
        hint = "; no output reads fused features" if source.startswith(FUSION) and fusion is None else ""
        raise UserError(Fault("input", f"{source!r} is none of {', '.join(known)}{hint or nearest(source, known)}"))
    return source


def _readable(bundle: Bundle, source: str) -> str:
    """The input, if its encoder reads nothing but the input."""
    if source in bundle.config.written or source in bundle.config.questions:
        message = (
            "its encoder reads texts that are written from it, or questions about it; it has no vectors of its own"
        )
        raise UserError(Fault("input", f"{source!r} cannot be chosen: {message}"))
    return source
