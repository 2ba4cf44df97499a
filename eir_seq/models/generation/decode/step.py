"""Steps of a model that reads one token per text, without what a first pass needs besides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.backbones.stack import Stack
from eir_seq.models.generation.base import GeneratingModel
from eir_seq.models.generation.decode.attention import TokenAttention, TokenContext, token_attention
from eir_seq.models.generation.decode.copies import Copies, Make
from eir_seq.models.generation.decode.graphs import Replayed
from eir_seq.models.generation.decode.layers import LightLayerNorm, LightRMSNorm, light_mlp
from eir_seq.models.generation.decode.past import Past, with_slack
from eir_seq.models.generation.decode.products import WORTH, Few, light_linear
from eir_seq.models.generation.decode.program import Program
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.cache import Cache
from eir_seq.models.layers.context import Bias
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.layout import Layout
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.norms.rms_norm import RMSNorm
from eir_seq.models.output import ModelOutput


class TokenSteps:
    """A light copy of a model, for one call of `generate`.

    Attributes:
        model: the copy, which is called as the model is.
        able: whether `scores` can be computed; else the copy is called at every step.
    """

    def __init__(self, model: GeneratingModel, *, longest: int, new: int, room: int | None = None) -> None:
        """`longest`: tokens of a text at its end; `new`: tokens to come; `room`: for keys of these, if it is fixed."""
        self._room = room
        weight = next(model.parameters())
        plain = weight.device.type == "cpu" and weight.dtype is torch.float32
        autocast = torch.is_autocast_enabled(weight.device.type)
        self._few = Few(transposes=plain and not autocast and new >= WORTH)
        special: dict[type[nn.Module], Make] = {
            Linear: partial(light_linear, few=self._few),
            Mlp: partial(light_mlp, few=self._few),
            Attention: partial(token_attention, few=self._few, longest=longest),
        }
        copies = Copies(special, {LayerNorm: LightLayerNorm, RMSNorm: LightRMSNorm})
        self.model: Any = copies.of(model)
        body: Any = self.model.body
        head = self.model.head
        pair = isinstance(model.body, EncoderDecoder)
        self.stack: Any = body.decoder if pair else body
        self.able = (
            not copies.kept
            and isinstance(self.stack, Stack)
            and self.stack.continues_texts
            and len(set(self.stack.schedule)) == len(self.stack.schedule)
            and (not pair or type(body).forward is EncoderDecoder.forward)
            and isinstance(head, LanguageModel)
            and not head.inputs
            and model.declared.decoding is None
            and model.declared.prepare is None
        )
        self._lasting: dict[Any, Any] = {}
        self._distances: Tensor | None = None
        self._past: Past | None = None
        self._step: Callable[[Tensor, TokenContext], Tensor] | None = None
        self._memory_hidden: Tensor | None = None

    def begin(self, cache: Cache, rows: int, mask: Tensor | None, memory_mask: Tensor | None) -> None:
        """After the first pass over prompts (rows, length): keep what it left in the cache.

        Args:
            mask: (rows, length) of the prompts; None if all of it is real.
            memory_mask: (rows, source), of what cross-attention attends to.
        """
        self._few.began = True
        if not self.able:
            return
        with torch.inference_mode():
            like = next(self.stack.parameters())
            room = None if self._room is None else cache.length + self._room
            past = Past(rows, cache.length, None if mask is None else mask.bool(), like, room=room)
            for part in self.stack.modules():
                if isinstance(part, TokenAttention):
                    part.take(cache, past)
            self._past = past
            if memory_mask is not None and not bool(memory_mask.all()):
                hidden = past.like.new_zeros(memory_mask.shape).masked_fill_(memory_mask == 0, -torch.inf)
                self._memory_hidden = hidden[:, None, None]

    @property
    def began(self) -> bool:
        """Whether `scores` can be called: the first pass is over, and the model is `able`."""
        return self._past is not None

    def repeat(self, times: int, *, beams: bool) -> None:
        """Each text is continued by so many rows, side by side; `beams` take the places of each other."""
        if self._past is None:
            return
        with torch.inference_mode():
            if beams:
                self._past.fan_out(times)
                return
            self._past.repeat(times)
            if self._memory_hidden is not None:
                self._memory_hidden = self._memory_hidden.repeat_interleave(times, 0)

    def reorder(self, rows: Tensor) -> None:
        """Row i takes up row `rows[i]`, which continues the same text."""
        if self._past is not None:
            with torch.inference_mode():
                self._past.reorder(rows)

    def _bias(self, tokens: int) -> Bias | None:
        """What is added to all scores of so many tokens; it depends on distances, so that many are made at once."""
        if self.stack.score_bias is None:
            return None
        if self._distances is None or tokens > self._distances.shape[3]:
            self._distances = self.stack.bias_of_last(with_slack(tokens))
        distances = self._distances
        return lambda query, key: distances[..., distances.shape[3] - key.shape[2] :]  # noqa: ARG005

    def scores(
        self, ids: Tensor, cache: Cache, mask: Tensor | None, positions: Tensor | None, memory: Memory | None
    ) -> Tensor:
        """Tokens (rows, 1) -> scores (rows, vocabulary) of the next ones.

        Args:
            cache: what layers other than `TokenAttention` keep, and the number of earlier tokens.
            mask: (rows, tokens), that of the new ones included; None if all are real.
            positions: (rows, 1) position ids, where they do not follow from the rest.
            memory: states (rows, source, size) that cross-attention attends to, and their mask.
        """
        past, stack, rows = self._past, self.stack, len(ids)
        assert past is not None
        with torch.inference_mode():
            if positions is None:
                positions = stack.embeddings.numbering((rows, 1), ids, mask, cache.length, ids.device)[:, -1:]
            past.advance()
            ctx = TokenContext(
                layout=Layout(rows, 1),
                positions=positions.expand(rows, 1),
                keys=None if mask is None else mask.bool(),
                cache=cache,
                past=past,
                bias=self._bias(cache.length + 1),
                memory_hidden=self._memory_hidden,
                lasting=self._lasting,
            )
            if memory is not None:
                ctx.memory, of_memory = memory
                ctx.memory_layout = Layout.padded(len(ctx.memory), ctx.memory.shape[1], of_memory)
            x = stack.first_states(ids, ctx)
            if self._step is None:
                self._step = self._recorded(x.shape[2], ctx)
            scores = self._step(x[:, 0], ctx)
            cache.length += 1
            return scores

    def _recorded(self, width: int, ctx: TokenContext) -> Callable[[Tensor, TokenContext], Tensor]:
        """The stack and the head: first states (rows, width) and their context -> scores (rows, vocabulary)."""
        program = Program(width, ctx)
        last = self.stack.through_layers(program.first, ctx, program.record)
        head, plain = self.model.head, type(self.model.head).forward is LanguageModel.forward
        scores = program.scores(head, last) if plain else None
        step = program.compile(ctx.layout.batch)
        device = ctx.past.like.device.type
        if self._room is not None and device == "cuda" and program.repeats and not torch.is_autocast_enabled(device):
            step = Replayed(step, program.inputs())
        if scores is not None:
            return step

        def with_head(x: Tensor, ctx: TokenContext) -> Tensor:
            found: Tensor = head(ModelOutput(last_hidden_state=step(x, ctx)[:, None]), {})["logits"]
            return found[:, -1]

        return with_head


Memory = tuple[Tensor, Tensor | None]
