"""The network: one encoder per input, a fusion, one head per output."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from eir_seq.fusion import Fusion


class Network(nn.Module):
    """``{input: encoder} -> fusion -> {output: head}``.

    Args:
        encoders: by input name; called with the input's collated tensors, gives ``(batch, output_size)``.
        fusion: ``{input: (batch, size)}`` to ``{output: (batch, fusion.output_size)}``.
        heads: by output name; ``(batch, fusion.output_size)`` to the raw output ``(batch, width)``.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], fusion: Fusion, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._encoders = {name: _key(name) for name in encoders}
        self._heads = {name: _key(name) for name in heads}
        self.encoders = nn.ModuleDict({_key(name): encoder for name, encoder in encoders.items()})
        self.fusion = fusion
        self.heads = nn.ModuleDict({_key(name): head for name, head in heads.items()})

    def forward(self, inputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Raw outputs ``{output: (batch, width)}`` of a batch's ``inputs``."""
        features = {name: self.encoders[key](**inputs[name]) for name, key in self._encoders.items()}
        fused = self.fusion(features)
        return {name: self.heads[key](fused[name]) for name, key in self._heads.items()}

    def count_parameters(self) -> dict[str, int]:
        """Parameters by part (``inputs.NAME``, ``fusion``, ``outputs.NAME``), ``total`` and ``trainable``."""
        parts = {f"inputs.{name}": self.encoders[key] for name, key in self._encoders.items()}
        parts["fusion"] = self.fusion
        parts |= {f"outputs.{name}": self.heads[key] for name, key in self._heads.items()}
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
        counts["total"] = sum(p.numel() for p in self.parameters())
        counts["trainable"] = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return counts


def _key(name: str) -> str:
    return f"of_{name}"  # ModuleDict refuses names of its own attributes, such as "keys"
