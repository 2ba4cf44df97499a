"""Methods compatible with transformers: activation checkpointing, and the sides of an encoder-decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.layers.checkpointing import CheckpointsLayers

REENTRANT = "use_reentrant"


class TransformersMethods(nn.Module):
    """What `Model` has of them. `body`: its backbone; `task`: what it was built for."""

    body: Any
    task: str
    config: Any

    def get_encoder(self) -> nn.Module:
        """The encoder, which is called with `input_ids` and `attention_mask`; what it returns is `encoder_outputs`.

        Raises:
            UserError: there is none.
        """
        if isinstance(self.body, EncoderDecoder):
            return self.body.encoder
        if self.task == "encoder":
            return self._whole()
        raise UserError(Fault("get_encoder", self._one_side("encoder")))

    def get_decoder(self) -> nn.Module:
        """The decoder: of an encoder-decoder that side, else all but the head of a model that predicts next tokens.

        Raises:
            UserError: there is none.
        """
        if isinstance(self.body, EncoderDecoder):
            return self.body.decoder
        if self.task in ("causal-lm", "double-heads") or getattr(getattr(self.body, "plan", None), "cached", False):
            return self._whole()
        raise UserError(Fault("get_decoder", self._one_side("decoder")))

    def _whole(self) -> nn.Module:
        body: nn.Module = self.body
        return body

    def _one_side(self, name: str) -> str:
        return f"{self.config.model_type!r} has no {name} for task {self.task!r}"

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None) -> None:
        """Keep only the states between layers while training, and compute each layer twice (activation checkpointing).

        Gradients stay the same bit for bit. In evaluation and without gradients nothing changes; while training no
        cache is started.

        Args:
            gradient_checkpointing_kwargs: {"use_reentrant": False}, which is what it does in any case.

        Raises:
            UserError: another argument, or an architecture whose layers keep nothing in training as they are.
        """
        given = dict(gradient_checkpointing_kwargs or {})
        faults = [
            Fault("gradient_checkpointing_kwargs", f"{name!r} is unknown ({REENTRANT}){nearest(name, [REENTRANT])}")
            for name in given
            if name != REENTRANT
        ]
        if given.get(REENTRANT) not in (None, False):
            message = "use_reentrant must be False: what layers share and draw at random is restored in that way only"
            faults.append(Fault("gradient_checkpointing_kwargs", message))
        if not self.supports_gradient_checkpointing:
            message = f"layers of {self.config.model_type!r} are undone in the backward pass and keep nothing as it is"
            faults.append(Fault("gradient_checkpointing", message))
        if faults:
            raise UserError(*faults)
        self._set_checkpoints(True)

    def gradient_checkpointing_disable(self) -> None:
        """Keep what layers compute, as by default."""
        self._set_checkpoints(False)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether layers are computed twice in training."""
        return any(stack.checkpoints for stack in self._stacks())

    @property
    def supports_gradient_checkpointing(self) -> bool:
        """Whether that would save anything: not in a stack of reversible layers."""
        return bool(self._stacks())

    def _stacks(self) -> list[CheckpointsLayers]:
        stacks = (stack for stack in self.modules() if isinstance(stack, CheckpointsLayers))
        return [stack for stack in stacks if stack.checkpointable]

    def _set_checkpoints(self, checkpoints: bool) -> None:
        for stack in self._stacks():
            stack.checkpoints = checkpoints
