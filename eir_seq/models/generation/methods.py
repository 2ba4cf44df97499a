"""The methods of a model that generate texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from eir_seq.errors import Fault, UserError
from eir_seq.models.generation.base import GeneratingModel
from eir_seq.models.generation.generate import generate, stream
from eir_seq.models.generation.search import GenerationOutput


def _prompt(input_ids: Tensor | None, inputs: Tensor | None) -> Tensor | None:
    if input_ids is not None and inputs is not None:
        raise UserError(Fault("inputs", "given twice: 'inputs' and 'input_ids' are one argument"))
    return input_ids if inputs is None else inputs


class GenerationMethods(GeneratingModel):
    """What `Model` has of them."""

    def generate(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        inputs: Tensor | None = None,
        **options: Any,
    ) -> Tensor | GenerationOutput:
        """Continue texts, in evaluation and without gradients.

        Args:
            input_ids: (batch, length) prompts, padded on the left; of a model with an encoder, its source texts. Or
                `inputs_embeds`: (batch, length, hidden); without either, texts begin with `bos_token_id`.
            attention_mask: (batch, length), nonzero at real tokens; guessed from `pad_token_id` if absent.
            inputs: another name of `input_ids`.
            options: see `GenerationOptions`: max_new_tokens, num_beams, do_sample ... Their defaults are those of
                `generation_config`. Further: `tokenizer` (whose `decode` spells stop_strings), `streamer` (receives
                tokens by `put` and `end`), `logits_processor` (functions of tokens and scores -> scores),
                `generator` (torch's, instead of a seed), and further inputs of the model, tensors by their names.

        Returns:
            (batch * num_return_sequences, length) tokens: the prompt (a decoder's, where there is an encoder) and its
            continuation, padded after its end; only the continuation if the prompt was given as vectors. Or a
            `GenerationOutput`, with return_dict_in_generate.

        Raises:
            UserError: a ValueError that names all that is wrong with the options and the prompt.

        Example:
            >>> import torch
            >>> from eir_seq.models import create_model
            >>> sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 100, "n_positions": 32}
            >>> model = create_model("gpt2", {**sizes, "eos_token_id": 99, "bos_token_id": 99}, task="causal-lm")
            >>> model.generate(torch.tensor([[5, 6]]), max_new_tokens=4, min_new_tokens=4, num_beams=2).shape
            torch.Size([1, 6])
        """
        return generate(self, _prompt(input_ids, inputs), attention_mask, **options)

    def stream(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        inputs: Tensor | None = None,
        **options: Any,
    ) -> Iterator[Tensor]:
        """The same without beams, token by token: (batch * num_return_sequences,) at each step."""
        return stream(self, _prompt(input_ids, inputs), attention_mask, **options)
