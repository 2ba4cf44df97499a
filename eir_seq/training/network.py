"""The network: one encoder per input (which several may share), a fusion, one head per output."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from eir_seq.broker import Broker
from eir_seq.fusion import Fusion
from eir_seq.modalities.encoders.mixing import Pairs
from eir_seq.models.output import TokenStates


class MixesRows(Protocol):
    """What runs training batches whose rows are mixed (`eir_seq.training.mixing.Mixer`)."""

    def outputs(self, network: Network, batch: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Raw outputs of a batch, and the batch with the shares of its rows."""
        ...


class Network(nn.Module):
    """``{input: encoder} -> fusion -> {output: head}``; some heads read states or vectors of inputs instead.

    Args:
        encoders: by input name, one module under each of the inputs that share it; called with the input's collated
            tensors, gives ``(batch, output_size)``. Those whose states a head or the fusion reads have
            ``read(**tensors) -> TokenStates`` and ``pool_tokens(TokenStates)`` besides, see
            `eir_seq.modalities.encoders.base.Encoder`.
        fusion: vectors, or states where it reads those, to ``{output: (batch, fusion.size_of(output))}``; None where no
            head reads it.
        heads: by output name; ``(batch, fusion.size_of(name))``, or `TokenStates`, to the raw output ``(batch, ...)``.
            One whose attribute `reads_target` is true is called as ``head(features, target, rows)`` instead: the target
            is None if a batch has none, and `rows` are positions in the split, (batch,), None if they are not known.
            Values of `grid_inputs` follow.
        token_inputs: for each output that reads token states, the input that they are of.
        state_inputs: for each output whose head is called as ``head({input: TokenStates}, target)``, these inputs; the
            target is None if a batch has none.
        vector_inputs: for each output whose head is called as ``head({input: (batch, size)})``, these inputs; the
            vector of a row that lacks the input is zero.
        grid_inputs: for each output whose head also gets ``{input: (batch, channels, height, width)}``, by input the
            tensor of its batches that these values are. Those of a row that lacks the input are zero.
        absent: inputs that a row may lack: a learned vector takes the place of what their encoder gives.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: Fusion | None,
        heads: Mapping[str, nn.Module],
        token_inputs: Mapping[str, str] = MappingProxyType({}),
        state_inputs: Mapping[str, Sequence[str]] = MappingProxyType({}),
        absent: Collection[str] = (),
        vector_inputs: Mapping[str, Sequence[str]] = MappingProxyType({}),
        grid_inputs: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        unfused = token_inputs.keys() | state_inputs.keys() | vector_inputs.keys()
        assert fusion is not None or heads.keys() == unfused, "a head has nothing to read"
        self.token_inputs, self.state_inputs = dict(token_inputs), dict(state_inputs)
        self.vector_inputs, self.grid_inputs = dict(vector_inputs), dict(grid_inputs)
        self._encoders = {name: _key(name) for name in encoders}
        self._heads = {name: _key(name) for name in heads}
        self.encoders = nn.ModuleDict({_key(name): encoder for name, encoder in encoders.items()})
        self.fusion = fusion
        self.heads = nn.ModuleDict({_key(name): head for name, head in heads.items()})
        self.mixer: MixesRows | None = None
        """What mixes training batches, where anything does."""
        self.broker: Broker | None = None
        """What brings tensors from layers to others, where anything does."""
        self.sending: tuple[str, ...] = ()
        """Inputs that no head and no fusion reads, only messages."""
        self.reads_states = fusion is not None and fusion.reads_states
        self.absence, self.state_absence = nn.ParameterDict(), nn.ParameterDict()
        read_by_heads = {name for names in state_inputs.values() for name in names}
        self.frozen: tuple[nn.Module, ...] = ()
        for name in absent:
            encoder: Any = encoders[name]
            if fusion is not None and not self.reads_states:
                self.absence[_key(name)] = torch.zeros(encoder.output_size)
            if self.reads_states or name in read_by_heads:
                self.state_absence[_key(name)] = torch.zeros(encoder.state_size)

    def run(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Raw outputs ``{output: (batch, width)}`` of a batch of the data module."""
        raw: dict[str, Tensor] = self(
            batch["inputs"], batch.get("present", {}), batch.get("targets", {}), rows=batch.get("row")
        )
        return raw

    def forward(
        self,
        inputs: Mapping[str, Mapping[str, Tensor]],
        present: Mapping[str, Tensor] = MappingProxyType({}),
        targets: Mapping[str, Tensor] = MappingProxyType({}),
        mixed: Mapping[str, Pairs] = MappingProxyType({}),
        rows: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Raw outputs ``{output: (batch, width)}`` of a batch's ``inputs``.

        `present`: by input, which rows have it, (batch,), True or False; one that is not named is in all of them. An
        input without tensors is in none. The raw outputs of a head that reads the tokens of a missing input say
        nothing.

        `mixed`: by input, the rows whose features are mixed before the fusion.

        `rows`: positions of the rows in their split, (batch,).
        """
        tokens = {}
        compared = list(dict.fromkeys(name for names in self.vector_inputs.values() for name in names))
        read_first = list(dict.fromkeys((*self.token_inputs.values(), *self._read_by_heads, *compared)))
        if self.sending:
            read_first = [name for name in self._encoders if name in (*read_first, *self.sending)]
        for name in read_first:
            encoder: Any = self.encoder(name)
            if inputs[name] and hasattr(encoder, "read"):
                tokens[name] = self._received(name, encoder.read(**inputs[name]))
        fused = self._fused(inputs, tokens, present, mixed)
        states = {
            name: self._states(name, inputs[name], tokens.get(name), present.get(name)) for name in self._read_by_heads
        }
        vectors = self.vectors(compared, inputs, present, tokens)
        raw: dict[str, Tensor] = {}
        for name, key in self._heads.items():
            head = self.heads[key]
            if name in self.vector_inputs:
                raw[name] = head({input_: vectors[input_] for input_ in self.vector_inputs[name]})
            elif name in self.state_inputs:
                raw[name] = head({input_: states[input_] for input_ in self.state_inputs[name]}, targets.get(name))
            elif getattr(head, "reads_target", False):
                values = (self._values(name, inputs, present),) if name in self.grid_inputs else ()
                raw[name] = head(fused[name], targets.get(name), rows, *values)
            else:
                raw[name] = head(tokens[self.token_inputs[name]] if name in self.token_inputs else fused[name])
        return raw

    def states_for(self, output: str, batch: Mapping[str, Any]) -> dict[str, TokenStates]:
        """What the head of an output that reads states gets of a batch, by input."""
        if self.broker is not None:
            self.run(batch)  # for the messages of this batch
        inputs, present = batch["inputs"], batch.get("present", {})
        return {name: self._states(name, inputs[name], None, present.get(name)) for name in self.state_inputs[output]}

    def messages_for(self, output: str) -> dict[str, Tensor]:
        """What comes from other layers into the head of an output, of the batch of `states_for`, each (batch, ...)."""
        return {} if self.broker is None else self.broker.tensors_for(output)

    def vectors(
        self,
        names: Sequence[str],
        inputs: Mapping[str, Mapping[str, Tensor]],
        present: Mapping[str, Tensor] = MappingProxyType({}),
        tokens: Mapping[str, TokenStates] = MappingProxyType({}),
    ) -> dict[str, Tensor]:
        """What the encoders of some inputs make of each row, (batch, size); zeros where a row lacks the input.

        `tokens`: the states of inputs that have been read already. Other arguments as of `forward`.
        """
        found = {}
        for name in names:
            there, encoder = present.get(name), self.encoder(name)
            if not inputs[name]:
                assert there is not None
                weight = next(encoder.parameters())
                found[name] = weight.new_zeros(len(there), int(encoder.output_size))  # type: ignore[arg-type]
                continue
            vector = self._encoded(name, inputs[name], tokens.get(name))
            found[name] = vector if there is None else vector.masked_fill(~there[:, None], 0.0)
        return found

    def features_for(self, output: str, batch: Mapping[str, Any]) -> Tensor:
        """The fused features that the head of an output gets of a batch, (batch, size)."""
        if self.broker is not None:
            self.run(batch)  # for the messages of this batch
        return self._fused(batch["inputs"], {}, batch.get("present", {}), {})[output]

    def values_for(self, output: str, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The values of `grid_inputs` that the head of an output gets of a batch, by input."""
        return self._values(output, batch["inputs"], batch.get("present", {}))

    def _values(
        self, output: str, inputs: Mapping[str, Mapping[str, Tensor]], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """See `values_for`; an input that no row has is left out."""
        found = {name: inputs[name][key] for name, key in self.grid_inputs.get(output, {}).items() if inputs[name]}
        return {
            name: x if (there := present.get(name)) is None else x.where(there[:, None, None, None], x.new_zeros(()))
            for name, x in found.items()
        }

    def _fused(
        self,
        inputs: Mapping[str, Mapping[str, Tensor]],
        tokens: Mapping[str, TokenStates],
        present: Mapping[str, Tensor],
        mixed: Mapping[str, Pairs],
    ) -> Mapping[str, Tensor]:
        """By output the fused features, (batch, size); `tokens` are states that have been read already."""
        if self.fusion is None:
            return {}
        read = self._states if self.reads_states else self._vector
        features: dict[str, Any] = {
            name: read(name, inputs[name], tokens.get(name), present.get(name)) for name in self._encoders
        }
        features |= {name: pairs.blend_features(features[name]) for name, pairs in mixed.items()}
        fused: Mapping[str, Tensor] = self.fusion(features)
        return fused

    @property
    def _read_by_heads(self) -> list[str]:
        return list(dict.fromkeys(name for names in self.state_inputs.values() for name in names))

    def _received(self, name: str, given: Any) -> Any:
        """What an encoder gives, after messages to it have come."""
        return given if self.broker is None else self.broker.encoded(name, given)

    def _vector(
        self, name: str, tensors: Mapping[str, Tensor], tokens: TokenStates | None, present: Tensor | None
    ) -> Tensor:
        """The vector of each row, (batch, size); the learned one where a row lacks the input."""
        key = self._encoders[name]
        if not tensors:
            assert present is not None
            absence: Tensor = self.absence[key]
            return absence.expand(len(present), -1)
        vector = self._encoded(name, tensors, tokens)
        if present is None:
            return vector
        return torch.where(present[:, None], vector, self.absence[key].to(vector.dtype))

    def _encoded(self, name: str, tensors: Mapping[str, Tensor], tokens: TokenStates | None) -> Tensor:
        encoder: Any = self.encoder(name)
        vector: Tensor = self._received(name, encoder(**tensors)) if tokens is None else encoder.pool_tokens(tokens)
        return vector

    def _states(
        self, name: str, tensors: Mapping[str, Tensor], tokens: TokenStates | None, present: Tensor | None
    ) -> TokenStates:
        """The states of each row; the learned vector is the only one where a row lacks the input."""
        key = self._encoders[name]
        if not tensors:
            assert present is not None
            states = self.state_absence[key].expand(len(present), 1, -1)
            return TokenStates(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))
        encoder: Any = self.encoders[key]
        found: TokenStates = self._received(name, encoder.read(**tensors)) if tokens is None else tokens
        if present is None:
            return found
        first = torch.arange(found.mask.shape[1], device=found.mask.device) == 0
        mask = torch.where(present[:, None], found.mask, first)
        states = torch.where(present[:, None, None], found.states, self.state_absence[key].to(found.states.dtype))
        return replace(found, states=states, mask=mask)

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but what is frozen, which has no dropout and no moving statistics."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def freeze(self, tensors: Collection[int]) -> None:
        """Do not train the parameters with these ids; modules that have no others stay in evaluation mode."""
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.requires_grad and id(parameter) not in tensors)
        self.frozen = tuple(
            module
            for module in self.modules()
            if (found := list(module.parameters())) and all(id(parameter) in tensors for parameter in found)
        )
        self.train(self.training)

    def public_name(self, name: str) -> str:
        """What is called ``inputs.NAME``, ``fusion`` or ``outputs.NAME`` to people, of a parameter or a module.

        >>> Network({"a-b": nn.Identity()}, None, {}).public_name("encoders.of_a-b.layers.0")
        'inputs.a-b.layers.0'
        """
        section, _, rest = name.partition(".")
        key, _, within = rest.partition(".")
        if section == "broker" and key:
            return ".".join(filter(None, ("adversaries" if key == "adversaries" else "broker", within)))
        absent = section in ("absence", "state_absence")
        named = "inputs" if absent else {"encoders": "inputs", "heads": "outputs"}.get(section)
        if named is None:
            return name
        inner = section if absent else within
        return ".".join(filter(None, (named, key.removeprefix("of_"), inner)))

    def public_tensors(self, *, shared: bool = False) -> dict[str, Tensor]:
        """The weights themselves by their public names; with `shared` by all of them."""
        names = self.tensors()
        return {
            self.public_name(name): tensor
            for name, tensor in self.state_dict(keep_vars=True).items()
            if shared or name in names
        }

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs."""
        return list(self._heads)

    @property
    def input_names(self) -> list[str]:
        """The inputs, in the order of the config."""
        return list(self._encoders)

    def head(self, name: str) -> nn.Module:
        """The head of an output."""
        return self.heads[self._heads[name]]

    def encoder(self, name: str) -> nn.Module:
        """The encoder of an input."""
        return self.encoders[self._encoders[name]]

    def shared_parameters(self, outputs: Collection[str]) -> list[nn.Parameter]:
        """The parameters of the encoders and the fusion that all of `outputs` read, in this order."""
        own = {**{name: [source] for name, source in self.token_inputs.items()}, **self.state_inputs}
        own |= self.vector_inputs
        fused = [name for name in outputs if name not in own]
        encoders = set(self.encoders.values())
        for name in outputs:
            if name in own:
                encoders &= {self.encoder(source) for source in own[name]}
        parts = [encoder for encoder in dict.fromkeys(self.encoders.values()) if encoder in encoders]
        if self.fusion is not None and len(fused) == len(outputs):
            parts.append(self.fusion)
        return [parameter for part in parts for parameter in part.parameters()]

    def keep_start(self) -> None:
        """Tell encoders that these are the weights that training begins with, which some compare with."""
        for encoder in self.encoders.values():
            getattr(encoder, "keep_start", _none)()

    def penalty(self) -> Tensor | None:
        """What encoders add to the loss of a training step; None for nothing."""
        encoders = dict.fromkeys(self.encoders.values())
        found = [own for encoder in encoders if (own := getattr(encoder, "penalty", _none)()) is not None]
        return torch.stack(found).sum() if found else None

    def with_predicted_labels(self, inputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Mapping[str, Tensor]]:
        """A batch's ``inputs``, with only the labels that are predicted and count in losses."""
        found = dict(inputs)
        for name in self.token_inputs.values():
            encoder: Any = self.encoder(name)
            if hasattr(encoder, "predicted_labels"):
                found[name] = {**inputs[name], "labels": encoder.predicted_labels(inputs[name]["labels"])}
        return found

    def count_parameters(self) -> dict[str, int]:
        """Parameters by part (``inputs.NAME``, ``fusion``, ``outputs.NAME``), ``total`` and ``trainable``.

        An encoder that inputs share counts at the first of them.
        """
        names = self.input_names
        first = {name: next(other for other in names if self.encoder(other) is self.encoder(name)) for name in names}
        parts = {f"inputs.{name}": self.encoder(name) if first[name] == name else nn.Module() for name in names}
        if self.fusion is not None:
            parts["fusion"] = self.fusion
        parts |= {f"outputs.{name}": self.heads[key] for name, key in self._heads.items()}
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
        counts |= {} if self.broker is None else self.broker.count_parameters()
        for name, key in self._encoders.items():
            vectors = [absence[key] for absence in (self.absence, self.state_absence) if key in absence]
            counts[f"inputs.{name}"] += sum(vector.numel() for vector in vectors)
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
        """Put what `tensors` gave in the place of the weights; raises `RuntimeError` if others are needed."""
        absent, unexpected = self.load_state_dict(tensors, strict=False)
        missing = [name for name in self.tensors() if name in absent]
        if missing or unexpected:
            raise RuntimeError(f"missing {', '.join(missing) or 'none'}; unknown {', '.join(unexpected) or 'none'}")


def _none() -> None:
    """What an encoder does that has no such method."""


def _key(name: str) -> str:
    return f"of_{name}"  # ModuleDict refuses the names of its attributes, such as "keys"
