"""The network: one encoder per input, a fusion, one head per output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.fusion import Fusion


class Network(nn.Module):
    """``{input: encoder} -> fusion -> {output: head}``; some heads read the token states of one input instead.

    Args:
        encoders: by input name; called with the input's collated tensors, gives ``(batch, output_size)``. Those whose
            tokens a head reads have ``read(**tensors) -> TokenStates`` and ``pool_tokens(TokenStates)`` besides.
        fusion: ``{input: (batch, size)}`` to ``{output: (batch, fusion.output_size)}``; None where no head reads it.
        heads: by output name; ``(batch, fusion.output_size)``, or `TokenStates`, to the raw output ``(batch, ...)``.
        token_inputs: for each output that reads token states, the input that they are of.
        absent: inputs that a row may lack: a learned vector takes the place of what their encoder gives.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: Fusion | None,
        heads: Mapping[str, nn.Module],
        token_inputs: Mapping[str, str] = MappingProxyType({}),
        absent: Collection[str] = (),
    ) -> None:
        super().__init__()
        assert fusion is not None or heads.keys() == token_inputs.keys(), "a head has nothing to read"
        self.token_inputs = dict(token_inputs)
        self._encoders = {name: _key(name) for name in encoders}
        self._heads = {name: _key(name) for name in heads}
        self.encoders = nn.ModuleDict({_key(name): encoder for name, encoder in encoders.items()})
        self.fusion = fusion
        self.heads = nn.ModuleDict({_key(name): head for name, head in heads.items()})
        sizes: dict[str, Any] = {name: encoders[name].output_size for name in absent}
        self.absence = nn.ParameterDict({_key(name): torch.zeros(size) for name, size in sizes.items()})

    def forward(
        self, inputs: Mapping[str, Mapping[str, Tensor]], present: Mapping[str, Tensor] = MappingProxyType({})
    ) -> dict[str, Tensor]:
        """Raw outputs ``{output: (batch, width)}`` of a batch's ``inputs``.

        `present`: by input, which rows have it, (batch,), True or False; one that is not named is in all of them. An
        input without tensors is in none. The raw outputs of a head that reads the tokens of a missing input say
        nothing.
        """
        tokens = {}
        for name in dict.fromkeys(self.token_inputs.values()):
            encoder: Any = self.encoder(name)
            tokens[name] = encoder.read(**inputs[name])
        fused: Mapping[str, Tensor] = {}
        if self.fusion is not None:
            features = {}
            for name, key in self._encoders.items():
                encoder = self.encoders[key]
                if not inputs[name]:
                    features[name] = self.absence[key].expand(len(present[name]), -1)
                    continue
                features[name] = encoder.pool_tokens(tokens[name]) if name in tokens else encoder(**inputs[name])
                if name in present:
                    vector = self.absence[key].to(features[name].dtype)
                    features[name] = torch.where(present[name][:, None], features[name], vector)
            fused = self.fusion(features)
        return {
            name: self.heads[key](tokens[self.token_inputs[name]] if name in self.token_inputs else fused[name])
            for name, key in self._heads.items()
        }

    def head(self, name: str) -> nn.Module:
        """The head of an output."""
        return self.heads[self._heads[name]]

    def encoder(self, name: str) -> nn.Module:
        """The encoder of an input."""
        return self.encoders[self._encoders[name]]

    def learnt(self, inputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Mapping[str, Tensor]]:
        """A batch's ``inputs`` with those labels alone that losses are computed of."""
        found = dict(inputs)
        for name in self.token_inputs.values():
            encoder: Any = self.encoder(name)
            if hasattr(encoder, "learnt"):
                found[name] = {**inputs[name], "labels": encoder.learnt(inputs[name]["labels"])}
        return found

    def count_parameters(self) -> dict[str, int]:
        """Parameters by part (``inputs.NAME``, ``fusion``, ``outputs.NAME``), ``total`` and ``trainable``."""
        parts = {f"inputs.{name}": self.encoders[key] for name, key in self._encoders.items()}
        if self.fusion is not None:
            parts["fusion"] = self.fusion
        parts |= {f"outputs.{name}": self.heads[key] for name, key in self._heads.items()}
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
        for name, key in self._encoders.items():
            if key in self.absence:
                counts[f"inputs.{name}"] += self.absence[key].numel()
        counts["total"] = sum(p.numel() for p in self.parameters())
        counts["trainable"] = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return counts

    def tensors(self) -> dict[str, Tensor]:
        """The weights by name; a tensor that several modules share has the first of its names alone.

        The library's `save_model` notes the other names, too, in an order that changes from call to call.
        """
        names: dict[int, str] = {}
        return {
            name: tensor.detach().contiguous()
            for name, tensor in self.state_dict(keep_vars=True).items()
            if names.setdefault(id(tensor), name) == name
        }

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Put what `tensors` gave in the place of the weights; raises `RuntimeError` where others are needed."""
        absent, unexpected = self.load_state_dict(tensors, strict=False)
        missing = [name for name in self.tensors() if name in absent]
        if missing or unexpected:
            raise RuntimeError(f"missing {', '.join(missing) or 'none'}; unknown {', '.join(unexpected) or 'none'}")


def _key(name: str) -> str:
    return f"of_{name}"  # ModuleDict refuses names of its own attributes, such as "keys"
