"""Texts that a language model writes after a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from eir_seq.errors import Fault, UserError
from eir_seq.models.generation.generate import check_call
from eir_seq.models.generation.options import NEW_TOKENS, build_options
from eir_seq.models.model import Model
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.generation.source import WritingNetwork
from eir_seq.tokenizers import Tokenizer

SINGLE = {"num_return_sequences": 1, "return_dict_in_generate": False}
"""Options that stay as they are: there is one text per prompt."""


def check_generation(generation: Mapping[str, Any], place: str) -> None:
    """Raise `UserError` for options that `generate` does not have, or that cannot work together."""
    faults = [
        Fault(name, "has no effect: one text is written per prompt")
        for name, fixed in SINGLE.items()
        if generation.get(name, fixed) != fixed
    ]
    try:
        build_options(dict(generation), {})
    except UserError as error:
        faults += error.faults
    if faults:
        raise UserError(*(fault.under(place) for fault in faults))


@dataclass(frozen=True)
class Completer:
    """Completes prompts.

    `begin`: tokens before every text; `end`: the token that ends one. `generation`: options of `generate`.
    `longest`: tokens that a text may have, with its prompt; None for no bound.
    """

    model: Model
    tokenizer: Tokenizer
    begin: tuple[int, ...]
    end: int | None
    generation: dict[str, Any]
    longest: int | None
    encode: Callable[[Sequence[str], int | None], list[list[int]]] | None = None
    """Prompts to their tokens, with the number of these that there is room for; what is written is then a text of its
    own. By default `begin` and the tokens of the prompt, which is continued."""

    @property
    def room(self) -> int | None:
        """Tokens of a prompt that leave room for what is written; None for no bound."""
        if self.longest is None:
            return None
        return self.longest - max(1, min(self._wanted, self.longest // 2))

    @property
    def _wanted(self) -> int:
        return int(self.generation.get("max_new_tokens") or NEW_TOKENS)

    def __call__(
        self, prompts: Sequence[str], *, seed: int, tensors: Mapping[str, Tensor] = MappingProxyType({})
    ) -> list[str]:
        """What the model writes after each prompt; drawn texts depend on `seed`.

        `tensors`: what else it reads, such as pixel_values, each (prompts, ...).

        A text ends at `longest`; of prompts beyond the half of it, the last part is read.
        """
        if self.encode is not None:
            rows = self.encode(prompts, self.room)
        else:
            rows = [[*self.begin, *encoding.ids] for encoding in self.tokenizer.encode_batch(list(prompts))]
        return self.after(rows, seed=seed, tensors=tensors)

    def after(
        self, rows: list[list[int]], *, seed: int, tensors: Mapping[str, Tensor] = MappingProxyType({})
    ) -> list[str]:
        """What the model writes after each of these sequences of tokens, as after prompts."""
        most, wanted = self.longest, self._wanted
        longest = max(map(len, rows))
        if most is not None:
            wanted = max(1, min(wanted, max(most // 2, most - longest)))
        keep = None if most is None else most - wanted
        rows = [row if keep is None or len(row) <= keep else row[len(row) - keep :] for row in rows]
        ids, mask = left_padded([row or [self.end or 0] for row in rows], self.end or 0)
        device = self.model.device
        own = {name: x.to(device) for name, x in tensors.items()}
        options = self._options(wanted, seed)
        texts = self.model.generate(ids.to(device), mask.to(device), tokenizer=self.tokenizer, **own, **options)
        assert isinstance(texts, Tensor)
        return [self._continuation(row, new) for row, new in zip(rows, texts[:, ids.shape[1] :].tolist(), strict=True)]

    def check(self) -> None:
        """Raise `UserError` for options by which nothing could be written after any prompt, and write nothing."""
        options = self._options(self._wanted, 0)
        if self.longest is not None and "max_new_tokens" in options:
            options["max_new_tokens"] = max(1, min(options["max_new_tokens"], self.longest - 1))
        prompt = torch.tensor([[self.end or 0]], device=self.model.device)
        check_call(self.model, prompt, tokenizer=self.tokenizer, **options)

    def _options(self, wanted: int, seed: int) -> dict[str, Any]:
        options = {"pad_token_id": self.end or 0} | self.generation
        if self.end is not None:
            options.setdefault("eos_token_id", self.end)
        if options.get("max_length") is None:
            options["max_new_tokens"] = wanted
        if options.get("do_sample"):
            options.setdefault("seed", seed)
        return options

    def _continuation(self, prompt: list[int], new: list[int]) -> str:
        """The text of new tokens; a space that belongs to the first of them is found from what precedes it."""
        if self.end is not None and self.end in new:
            new = new[: new.index(self.end)]
        new = self.tokenizer.known_ids(new)
        if self.encode is not None:
            return self.tokenizer.decode(new, skip_special_tokens=True)
        before, whole, alone = (
            self.tokenizer.decode(ids, skip_special_tokens=True) for ids in (prompt, [*prompt, *new], new)
        )
        return whole[len(before) :] if whole.startswith(before) else alone


def completer(output: FittedOutput, inputs: Mapping[str, Any], network: WritingNetwork) -> Completer:
    """What completes prompts by a language-model output of the network."""
    fitted = inputs[output.input]
    begin, end = fitted.frame
    backbone: Any = network.encoder(output.input).backbone
    # Places beyond the longest row of training are known to those who were trained on them: published models.
    longest = backbone.max_positions if fitted.config.model.pretrained_model else fitted.max_length
    generation = output.config.generation_options
    assert generation is not None
    encode = None if output.config.conversation is None else fitted.prompt_ids
    return Completer(backbone, fitted.tokenizer, begin, end, generation, longest, encode)


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, each (rows, longest)."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[False] * (longest - len(row)) + [True] * len(row) for row in rows])
    return ids, mask.long()
