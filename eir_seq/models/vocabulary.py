"""The tables of a model that have a row for each token of the vocabulary: found, replaced, resized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from operator import index
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.errors import Fault, UserError
from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.names import is_adapter


def assign(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors in place of parameters and buffers, at each place of a (tied) parameter."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                places.setdefault(id(parameter), []).append((module, leaf))
    named = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if name not in named:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, tensor)
            continue
        fresh = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
        fresh.requires_grad_(named[name].requires_grad)
        for module, leaf in places[id(named[name])]:
            setattr(module, leaf, fresh)


class Vocabulary:
    """What a `Model` does with its token tables."""

    def get_input_embeddings(self: Any) -> nn.Embedding:
        """The table of token vectors; of an encoder-decoder the encoder's, which is usually the decoder's."""
        side = self.body.encoder if isinstance(self.body, EncoderDecoder) else self.body
        table: nn.Embedding = side.embeddings.tokens
        return table

    def set_input_embeddings(self: Any, value: nn.Embedding) -> None:
        """Compute with the weight of another table, everywhere that the present one is used (tied heads too).

        Args:
            value: with as many rows as there are tokens, see `resize_token_embeddings`.

        Raises:
            UserError: a table of another shape.
        """
        own = self.get_input_embeddings().weight
        if value.weight.shape != own.shape:
            shapes = f"the table has shape {list(value.weight.shape)}, the model's is {list(own.shape)}"
            raise UserError(Fault("set_input_embeddings", shapes))
        (name,) = (name for name, parameter in self.named_parameters() if parameter is own)
        wanted = value.weight.requires_grad
        assign(self, {name: value.weight})
        value.weight.requires_grad_(wanted)

    def get_output_embeddings(self: Any) -> nn.Module | None:
        """The layer whose weight scores each token of the vocabulary; None without such a head."""
        heads = (module for module in self.modules() if isinstance(module, LanguageModel))
        return next((head.out for head in heads), None)

    @torch.no_grad()
    def resize_token_embeddings(
        self: Any, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None
    ) -> nn.Embedding:
        """Give the model another number of tokens, in place: tables, tied and own heads, their biases, the options.

        The rows of tokens that stay are kept; further ones begin by the model's own scheme, those of biases with zero.
        Beside adapters (`add_lora`) tables with fresh rows are trained and saved, whichever came first. Optimizers have
        to be rebuilt.

        Args:
            new_num_tokens: rows of the tables; as many as now if absent.
            pad_to_multiple_of: rows are rounded up to a multiple, as kernels of half precision want it.

        Returns:
            The table of token vectors.

        Raises:
            UserError: the options do not allow that number (a special token lies beyond it, say).

        Example:
            >>> from eir_seq.models import create_model
            >>> small = dict(vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
            >>> model = create_model("bert", {**small, "intermediate_size": 32}, task="masked-lm")
            >>> tuple(model.resize_token_embeddings(62).weight.shape)
            (62, 16)
        """
        table = self.get_input_embeddings()
        rows = table.num_embeddings
        wanted = rows if new_num_tokens is None else _whole("new_num_tokens", new_num_tokens)
        size = _rounded(wanted, pad_to_multiple_of)
        if size == rows:
            return table
        config = self.config.with_vocabulary(size)
        with torch.device("meta"):
            before, after = (type(self)(self.architecture, options, self.task) for options in (self.config, config))
        old = dict(self.named_parameters()) | dict(self.named_buffers())
        shapes = _changed(before, after)
        parameters = {name for name, _ in self.named_parameters()} & shapes.keys()
        assign(self, {name: old[name].new_zeros(shape) for name, shape in shapes.items()})
        self.architecture.initialization(config).fill(self, parameters)
        new = dict(self.named_parameters()) | dict(self.named_buffers())
        for name, shape in shapes.items():
            kept = tuple(slice(min(sizes)) for sizes in zip(old[name].shape, shape, strict=True))
            new[name][kept] = old[name][kept]
        _copy_sizes(self, before, after)
        self.config = config
        if size > rows and any(map(is_adapter, new)):  # the rest is kept, but the fresh rows mean nothing yet
            for name in parameters:
                self.get_parameter(name).requires_grad_(True)
        if size > rows and (report := getattr(self, "load_report", None)) is not None:
            self.load_report = replace(report, initialised=tuple({**dict.fromkeys(report.initialised), **shapes}))
        return self.get_input_embeddings()


def _whole(name: str, number: Any) -> int:
    """A plain int, also of an array or a tensor with one number."""
    try:
        return index(number)
    except TypeError:
        raise UserError(Fault(name, f"{number!r} is not an integer")) from None


def _rounded(size: int, multiple: int | None) -> int:
    if multiple is None:
        return size
    if (multiple := _whole("pad_to_multiple_of", multiple)) < 1:
        raise UserError(Fault("pad_to_multiple_of", f"{multiple!r} is not an integer from 1 on"))
    return -(-size // multiple) * multiple


def _changed(before: nn.Module, after: nn.Module) -> dict[str, torch.Size]:
    """Names of the tensors whose shapes differ, and the new shapes."""
    old = dict(before.named_parameters()) | dict(before.named_buffers())
    new = dict(after.named_parameters()) | dict(after.named_buffers())
    assert old.keys() == new.keys()
    return {name: x.shape for name, x in new.items() if x.shape != old[name].shape}


def _copy_sizes(model: nn.Module, before: nn.Module, after: nn.Module) -> None:
    """Bring numbers and plans that modules keep of the vocabulary up to date."""
    there, modules = dict(before.named_modules()), dict(model.named_modules())
    for name, module in after.named_modules():
        for key, value in vars(module).items():
            sized = is_dataclass(value) or (isinstance(value, int) and not isinstance(value, bool))
            if sized and vars(there[name])[key] != value:
                setattr(modules[name], key, value)
