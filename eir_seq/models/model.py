"""A built model: body, optional head, and the way back to published files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.architecture import Architecture
from eir_seq.models.backbones.encoder_decoder import EncoderDecoder, EncoderDecoderPlan
from eir_seq.models.backbones.stack import Stack
from eir_seq.models.checkpoint.folder import published_config, write
from eir_seq.models.checkpoint.keymap import Computed, Tensors, to_published
from eir_seq.models.device_map import Layers, ModelParallel
from eir_seq.models.generation.methods import GenerationMethods
from eir_seq.models.heads.base import Head
from eir_seq.models.heads.sequence_classification import shifted_right
from eir_seq.models.inputs import lists_inputs
from eir_seq.models.layers.attention.dot_product import EAGER, FLASH, IMPLEMENTATIONS, ON_GPU, DotProduct
from eir_seq.models.layers.cache import Cache
from eir_seq.models.layers.legacy_cache import Tuples, cache_of
from eir_seq.models.names import plain_parameters
from eir_seq.models.options import ModelConfig
from eir_seq.models.output import ModelOutput
from eir_seq.models.pruning import HeadPruning
from eir_seq.models.transformers_api import TransformersMethods
from eir_seq.models.vocabulary import Vocabulary

SIDES = ("encoder", "decoder")
_LAYER = re.compile(r"^body\.(?:(encoder|decoder|stack)\.)?layers\.(\d+)\.")


def _check_places(given: Tensor, cache: Any) -> None:
    start = 0 if cache is None else cache.length
    if given.tolist() != list(range(start, start + len(given))):
        raise ValueError(f"cache_position: the cache holds {start} tokens, so that new ones follow from {start} on")


class Model(Vocabulary, HeadPruning, TransformersMethods, GenerationMethods):
    """An architecture with its options, for one task.

    Attributes:
        config: the options.
        task: name of the task; `base` has no head.
        hidden_size: width of `last_hidden_state`.
        max_positions: longest text in tokens, None for no bound.
        features: transformers' inputs of the architecture itself (global_attention_mask, bbox, ...).
        generation_config: its own defaults of the options of `generate`, by name; saved next to the weights.
        folder: of the checkpoint that was loaded, if one was.
    """

    def __init__(self, architecture: Architecture, config: ModelConfig, task: str, *, encoder: bool = True) -> None:
        super().__init__()
        config = config.for_task(task)
        self.architecture, self.config, self.task = architecture, config, task
        self.declared = architecture.tasks[task]
        plan = self.declared.plan(config)
        if not encoder:
            assert isinstance(plan, EncoderDecoderPlan), "there is no encoder to be left out"
            plan = replace(plan, has_encoder=False)
        self.hidden_size = plan.hidden_size
        self.features = plan.inputs
        self.max_positions = config.position_limit()
        self.generation_config: dict[str, Any] = {}
        self.folder: Path | None = None
        self._parallel: ModelParallel | None = None
        self.body = plan.build()
        self.head: Head | None = None
        if self.declared.head is not None:
            head = self.declared.head(config).build()
            assert isinstance(head, Head)
            head.tie(self.body)
            self.head = head
            self.pack = self.pack

    @property
    def pack(self) -> bool:
        """Whether padding is left out of the computation; states at padding are then zero.

        It stays in for heads that read states at padding, as the published ones for spans do.
        """
        pack: bool = self.body.pack
        return pack

    @pack.setter
    def pack(self, pack: bool) -> None:
        self.body.pack = pack and not (self.head is not None and self.head.reads_padding)

    @lists_inputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
        past_key_values: Cache | Tuples | None = None,
        **inputs: Any,
    ) -> ModelOutput | tuple[Any, ...]:
        """Transformers' tensors by name, see the backbone's `forward`; with a head also its targets, for the loss.

        Args:
            input_ids: (batch, length) token ids.
            attention_mask: (batch, length), nonzero at real tokens.
            past_key_values: a cache that an earlier pass returned, or the older form of one, see `tuple_cache`.
            return_dict: False for a tuple of the output's fields, in their order. It and `output_attentions` and
                `output_hidden_states` are what the published config says if None.
            cache_position: (new tokens,) places of the tokens that no cache holds yet, from 0 on. They follow from the
                cache: published code takes them, and here they are only checked.
            inputs: further tensors. `logits_to_keep`: without targets, a head predicts at that many of the last tokens
                only, 0 for all of them; or (places,) where it does.
        """
        if isinstance(past_key_values, (tuple, list)):
            past_key_values = cache_of(past_key_values, getattr(self.body, "decoder", self.body))
        if cache_position is not None:
            _check_places(cache_position, past_key_values)
        if past_key_values is not None:
            inputs["past_key_values"] = past_key_values
        for name in ("output_attentions", "output_hidden_states"):
            if inputs.get(name) is None and self.config.answers(name):
                inputs[name] = name == "output_hidden_states" or self.spells_attentions
        output = self._output(input_ids, attention_mask, **inputs)
        named = self.config.answers("return_dict") if return_dict is None else return_dict
        return output if named else output.to_tuple()

    @property
    def spells_attentions(self) -> bool:
        """Whether there are weights of pairs of tokens that `output_attentions` could give."""
        return all(getattr(module, "spells_attentions", True) for module in self.body.modules())

    def _output(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        *,
        logits_to_keep: int | Tensor = 0,
        **inputs: Any,
    ) -> ModelOutput:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, **inputs}
        if self.declared.prepare is not None:
            inputs = self.declared.prepare(self.config, inputs)
        if self.head is None:
            if inputs.get("labels") is not None:
                raise ValueError("labels need a head: build the model with another task than 'base'")
            return ModelOutput.of(**self.body(**inputs))
        own = {name: inputs.get(name) for name in self.head.inputs}
        given = {name: inputs.get(name) for name in self.head.targets}
        inputs = {name: x for name, x in inputs.items() if name not in own and name not in given}
        targets = {name: target for name, target in given.items() if target is not None}
        output: ModelOutput = self.body(**self.head.prepare(inputs, targets))
        if isinstance(logits_to_keep, Tensor) or logits_to_keep:
            if targets:
                raise ValueError("logits_to_keep leaves out predictions that the loss needs: give no labels with it")
            kept = logits_to_keep if isinstance(logits_to_keep, Tensor) else slice(-logits_to_keep, None)
            output["last_hidden_state"] = output.last_hidden_state[:, kept]
        predictions = self.head(output, inputs | own)
        states = ("last_hidden_state", "last_hidden_state_ngram", "pooler_output", "entity_last_hidden_state")
        rest = {name: value for name, value in output.items() if name not in states}
        return ModelOutput.of(loss=self.head.loss(predictions, targets), **predictions, **rest)

    def run_body(self, inputs: dict[str, Any]) -> ModelOutput:
        """What the body makes of transformers' tensors; the head is left out."""
        if self.declared.prepare is not None:
            inputs = self.declared.prepare(self.config, inputs)
        output: ModelOutput = self.body(**inputs)
        return output

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """(batch, length) labels moved right after the decoder's first token, -100 as padding."""
        writer = self.architecture.tasks.get("seq2seq-lm")
        if writer is None or writer.head is None:
            raise ValueError(f"{self.config.model_type!r} has no decoder that reads labels")
        head: Any = writer.head(self.config)
        return shifted_right(labels, head.decoder_start_id, head.padding_id)

    _shift_right = prepare_decoder_input_ids_from_labels  # as the documentation of mt5 calls it

    def side(self, name: str) -> tuple[nn.Module, ...]:
        """The modules of one side of an encoder-decoder; a table of tokens that both share belongs to either.

        Args:
            name: "encoder", or "decoder", to which the head belongs that reads its states.

        Raises:
            UserError: another name, or a model that has one side only.
        """
        if name not in SIDES:
            message = f"{name!r} is no side of a model ({', '.join(SIDES)}){nearest(name, SIDES)}"
            raise UserError(Fault("side", message))
        if not isinstance(self.body, EncoderDecoder) or self.body.encoder is None:
            message = f"there is no {name} apart: {self.config.model_type!r} has one side only for task {self.task!r}"
            raise UserError(Fault("side", message))
        if name == "encoder":
            return (self.body.encoder,)
        return (self.body.decoder,) if self.head is None else (self.body.decoder, self.head)

    def names_of_side(self, name: str) -> set[str]:
        """Our names of the parameters and saved buffers of a side, see `side`."""
        tensors = {id(x) for module in self.side(name) for x in (*module.parameters(), *module.buffers())}
        own = dict(self.named_parameters()) | dict(self.named_buffers())
        return {native for native, x in own.items() if id(x) in tensors}

    def set_attn_implementation(self, name: str) -> None:
        """Say how attention is computed; values agree up to rounding.

        Args:
            name: "eager" spells out scores and weights, "sdpa" leaves the choice of a kernel to torch (the default
                where one serves). On a GPU, texts are packed for "flash_attention_2", torch's flash kernel, in half
                precision, and for "flex_attention", its FlexAttention, which also takes the biases of T5.

        Raises:
            UserError: another name, or what this model or machine cannot do.
        """
        if (problem := self._problem_with(name)) is not None:
            raise UserError(Fault("attn_implementation", problem))
        for module in self.modules():
            if isinstance(module, DotProduct):
                module.attn_implementation = name
            if isinstance(module, Stack):
                module.packs_for_kernel = name in ON_GPU

    def _problem_with(self, name: str) -> str | None:
        if name not in IMPLEMENTATIONS:
            listed = ", ".join(map(repr, IMPLEMENTATIONS))
            return f"{name!r} is not one of {listed}{nearest(name, IMPLEMENTATIONS)}"
        products = [module for module in self.modules() if isinstance(module, DotProduct)]
        biased = any(isinstance(module, Stack) and module.score_bias is not None for module in self.modules())
        able = products and all(name in module.implementations for module in products)
        if name != EAGER and not (able and (name != FLASH or not biased)):
            why = "has biases, masks or steps that it does not know" if products else "is no such product"
            return f"{name!r} cannot be: the attention of {self.config.model_type!r} {why}"
        if name in ON_GPU and not torch.cuda.is_available():
            return f"{name!r} needs a GPU with CUDA, which is not there; 'sdpa' takes the fastest kernel of any device"
        return None

    def parallelize(self, device_map: Layers | None = None) -> None:
        """Put the layers on several devices, and all else on the first one; texts are given and read there.

        Args:
            device_map: device (its name, or the number of a GPU) -> numbers of the layers that it has, each layer once;
                those of an encoder and of a decoder alike. By default layers are divided evenly among all GPUs.

        Raises:
            UserError: a layer is missing, named twice, or is none.
        """
        spread = ModelParallel(self.body, self.head, device_map)
        if self._parallel is not None:
            self._parallel.undo()
        self._parallel = spread

    def deparallelize(self) -> None:
        """Bring everything back to the CPU."""
        if self._parallel is not None:
            self._parallel.undo()
            self._parallel = None
        self.to("cpu")

    def set_lightweight_tuning(self) -> None:
        """Train the prompts alone, which are learned keys and values (https://arxiv.org/abs/2101.00190).

        Raises:
            UserError: the model has none.
        """
        prompts = [module for module in self.modules() if getattr(module, "tuned_alone", False)]
        if not prompts:
            why = "a decoder alone has no prompts" if self.task == "causal-lm" else "without it there are no prompts"
            raise UserError(Fault("use_prompt", f"{why}: nothing could be tuned"))
        self.requires_grad_(False)
        for module in prompts:
            module.requires_grad_(True)

    @property
    def dtype(self) -> torch.dtype:
        """The number format of its weights."""
        return next(self.parameters()).dtype

    def layer_of(self, parameter: str) -> int | None:
        """The depth of a parameter of the body: 0 for embeddings, then 1, 2 ... from below; None for the head."""
        if parameter.startswith("head."):
            return None
        if match := _LAYER.match(parameter):
            encoder = self.body.encoder if match[1] == "decoder" else None  # None also where it was left out
            return (0 if encoder is None else len(encoder.layers)) + int(match[2]) + 1
        return 0 if {"embeddings", "position_table"} & set(parameter.split(".")) else self.num_layers

    @property
    def num_layers(self) -> int:
        """Layers of the body, those of encoder and decoder together."""
        return sum(len(stack) for name, stack in self.body.named_modules() if name.rpartition(".")[2] == "layers")

    def published_tensors(self) -> Tensors:
        """Parameters under their published names, each once."""
        body, head = self._by_part()
        prefix = f"{self.declared.prefix}." if self.declared.prefix else ""
        published = {prefix + name: x for name, x in to_published(self.declared.body_rows(self.config), body).items()}
        return published | to_published(self.declared.rows_of_head(self.config), head)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and the weights in published names, so that others can open them."""
        pair = isinstance(self.body, EncoderDecoder)
        config = published_config(self.config, self.declared.published, is_encoder_decoder=pair)
        given = {"dtype", "torch_dtype"} & config.keys()
        config |= dict.fromkeys(given, str(self.dtype).removeprefix("torch."))
        write(Path(folder), config, self.published_tensors(), self.generation_config)

    def computed_tensors(self) -> Tensors:
        """What a whole checkpoint may leave out, under our names."""
        parts = {"body.": self.declared.body_rows(self.config), "head.": self.declared.rows_of_head(self.config)}
        return {part + row.native: row.make() for part in parts for row in parts[part] if isinstance(row, Computed)}

    def canonical_names(self) -> dict[str, str]:
        """All our names of parameters and saved buffers -> the first name of each."""
        first: dict[int, str] = {}
        parameters = {
            name: first.setdefault(id(parameter), name)
            for name, parameter in self.named_parameters(remove_duplicate=False)
        }
        return parameters | {name: name for name in self.saved_buffers()}

    def saved_buffers(self) -> Tensors:
        """Buffers that belong to a checkpoint (ranges of activations and the like)."""
        parameters = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        return {name: tensor for name, tensor in self.state_dict().items() if name not in parameters}

    def _by_part(self) -> tuple[Tensors, Tensors]:
        own = plain_parameters(self) | self.saved_buffers()
        parts = (
            {name.removeprefix(part): tensor for name, tensor in own.items() if name.startswith(part)}
            for part in ("body.", "head.")
        )
        body, head = parts
        return body, head
