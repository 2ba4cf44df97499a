"""What a model is called with at each step of a growing text, and what is kept between the steps."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.generation.base import GeneratingModel
from eir_seq.models.generation.decode.step import TokenSteps
from eir_seq.models.layers.cache import Cache

logger = logging.getLogger(__name__)

Inputs = dict[str, Any]
PER_TOKEN = ("attention_mask", "token_type_ids", "position_ids")
PLAIN = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
"""What the steps need of an output, whatever a published config says."""
ONCE = ("input_ids", "inputs_embeds")
"""Inputs of an encoder that are not wanted any more when its states are there."""


class Steps:
    """A model that reads texts token by token.

    Tensors per token (masks, positions, segments, languages ...) grow with the text by their last column; all others
    (the encoder's states, images) are handed on as they are.
    """

    def __init__(self, model: GeneratingModel, ids: Tensor, inputs: Inputs, *, pair: bool, use_cache: bool) -> None:
        """`ids`: (batch, length) tokens of the prompt; with `pair` the decoder's, and `inputs` hold the encoder's."""
        self.model, self.pair, self.use_cache = model, pair, use_cache
        self._light: TokenSteps | None = None
        self._shown = False
        self.decoding = model.declared.decoding
        side = "decoder_" if pair else ""
        self.ids_name, self.mask_name = f"{side}input_ids", f"{side}attention_mask"
        inputs = {name: x for name, x in inputs.items() if x is not None}
        self.vectors: Tensor | None = None if pair else inputs.pop("inputs_embeds", None)
        self.offset = 0 if self.vectors is None else self.vectors.shape[1]
        self.kept: Any = None
        self._length, length = ids.shape[1], self.offset + ids.shape[1]
        names = (self.mask_name,) if pair else PER_TOKEN
        features = () if pair else model.features
        self.growing = {
            name: x for name, x in inputs.items() if name in names or (name in features and _is_per_token(x, length))
        }
        self.fixed = {name: x for name, x in inputs.items() if name not in self.growing}
        mask = self.growing.get(self.mask_name)
        if mask is None:
            return
        if bool(mask.all()) and self.decoding is None and model.declared.prepare is None:
            del self.growing[self.mask_name]  # it says no more than none does, and kernels are faster without
        elif not pair and "position_ids" not in inputs:
            self._number(mask)

    def _number(self, mask: Tensor) -> None:
        """Positions count the real tokens only, from where the architecture begins."""
        numbering = getattr(getattr(self.model.body, "embeddings", None), "numbering", None)
        if numbering is not None:
            first = numbering((1, 1), None, None, 0, mask.device)
            self.growing["position_ids"] = (mask.long().cumsum(1) - 1).clamp(min=0) + first

    def lighten(self, *, longest: int, shown: bool, static: bool, beams: int) -> None:
        """Compute by a light copy of the model from now on.

        Args:
            longest: tokens of a text at its end.
            shown: whether scores are handed on to callers, who may change them.
            static: whether keys have room for all tokens from the start.
            beams: of each text.
        """
        new = longest - self._length
        room = new * beams if static else None
        self._light = TokenSteps(self.model, longest=longest + self.offset, new=new, room=room)
        if static and not self._light.able:
            logger.warning("%s keeps a dynamic cache: its steps cannot be recorded", self.model.config.model_type)
        self.model, self._shown = self._light.model, shown

    def scores(self, ids: Tensor) -> Tensor:
        """Texts (rows, length), longer by one token than at the last call -> scores (rows, vocabulary) of the next."""
        self._grow(self.offset + ids.shape[1] + (self.decoding is not None))
        light = self._light
        if light is not None and light.began and self.offset + ids.shape[1] == self.kept.length + 1:
            mask, positions = self.growing.get(self.mask_name), self.growing.get("position_ids")
            memory = None
            if self.pair:
                memory = self.fixed["encoder_outputs"][0], self.fixed.get("attention_mask")
            positions = None if positions is None else positions[:, -1:]
            scores = light.scores(ids[:, -1:], self.kept, mask, positions, memory).float()
            return scores.clone() if self._shown else scores
        others = {**self.fixed, "use_cache": self.use_cache}
        if self.decoding is None:
            given = {**self._unread(ids), **others}
        else:
            everything = {"input_ids": ids, **self.growing, **others}
            given = self.decoding.inputs(self.model.config, everything, self.kept)
        output = self.model(**given, logits_to_keep=1, **PLAIN)
        if self.decoding is not None:
            self.kept = output.get(self.decoding.keeps) if self.decoding.keeps else None
        elif self.use_cache:
            self.kept = output.past_key_values
        if self.pair and "encoder_outputs" not in self.fixed:
            self.fixed = {name: x for name, x in self.fixed.items() if name not in ONCE}
            self.fixed["encoder_outputs"] = (output.encoder_last_hidden_state,)
        if light is not None and isinstance(self.kept, Cache) and not light.began:
            self._begin(light, len(ids))
        logits: Tensor = output.logits[:, -1]
        return logits.float()

    def _begin(self, light: TokenSteps, rows: int) -> None:
        known = {self.mask_name, "position_ids"}, {"encoder_outputs", "attention_mask"} if self.pair else set()
        growing, fixed = set(self.growing), {name for name, x in self.fixed.items() if x is not None}
        if growing <= known[0] and fixed <= known[1]:
            of_memory = self.fixed.get("attention_mask") if self.pair else None
            light.begin(self.kept, rows, self.growing.get(self.mask_name), of_memory)

    def _unread(self, ids: Tensor) -> Inputs:
        """The tokens that are not in the cache, or all of them if there is none, and what belongs to them."""
        if self.kept is not None:
            read = self.kept.length
            new = {name: x if name == self.mask_name else x[:, read:] for name, x in self.growing.items()}
            return {self.ids_name: ids[:, read - self.offset :], "past_key_values": self.kept, **new}
        if self.vectors is None:
            return {self.ids_name: ids, **self.growing}
        tokens: Tensor = self.model.body.embeddings.tokens(ids)
        return {"inputs_embeds": torch.cat((self.vectors, tokens.to(self.vectors.dtype)), 1), **self.growing}

    def _grow(self, length: int) -> None:
        for name, x in self.growing.items():
            if x.shape[1] < length:
                self.growing[name] = torch.cat((x, x[:, -1:] + (name == "position_ids")), 1)

    def repeat(self, times: int, batch: int, *, beams: bool = False) -> None:
        """Each of `batch` texts several times, side by side; `beams` take the places of each other later."""
        rows = torch.arange(batch).repeat_interleave(times)
        self.growing = {name: _rows(x, rows) for name, x in self.growing.items()}
        self.fixed = {name: x if name.endswith("head_mask") else _rows(x, rows) for name, x in self.fixed.items()}
        self.vectors = _rows(self.vectors, rows)
        if self._light is not None:
            self._light.repeat(times, beams=beams)
        self._reorder_kept(rows, same_text=False)

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows of what is kept, in this order, each in the place of a continuation of the same text."""
        if self._light is not None:
            self._light.reorder(rows)
        self._reorder_kept(rows, same_text=True)

    def _reorder_kept(self, rows: Tensor, *, same_text: bool) -> None:
        if isinstance(self.kept, Cache):
            self.kept.reorder(rows, same_memory=same_text)
        elif self.kept is not None:  # per layer (length, batch, ...)
            self.kept = tuple(x.index_select(1, rows.to(x.device)) for x in self.kept)


def _is_per_token(x: Any, length: int) -> bool:
    return isinstance(x, Tensor) and not x.is_floating_point() and x.dim() > 1 and x.shape[1] == length


def _rows(x: Any, rows: Tensor) -> Any:
    if isinstance(x, tuple):
        return tuple(_rows(part, rows) for part in x)
    return x.index_select(0, rows.to(x.device)) if isinstance(x, Tensor) else x
