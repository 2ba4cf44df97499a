"""Backbones beyond the catalogue: any text model that the optional library transformers can build.

The only module of models that imports transformers. Code that comes with a checkpoint is never run.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.checkpoint.folder import read_config

AUTO = "auto"
_LAYER = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\.")
_EMBEDDING = re.compile(r"embed|(?:^|\.)(?:wte|wpe|shared)\.")


class TransformersModel(nn.Module):
    """A model of transformers with the interface of `eir_seq.models.model.Model`; of an encoder-decoder the encoder.

    Attributes:
        config: the options, an object of transformers.
        hidden_size: width of `last_hidden_state`.
        max_positions: longest text in tokens, None for no bound.
        features: transformers' inputs that it takes besides ids and mask.
        pack: always False; padding is computed and masked.
    """

    pack = False

    def __init__(self, body: nn.Module, config: Any) -> None:
        super().__init__()
        if getattr(config, "is_encoder_decoder", False):
            body = body.get_encoder()  # type: ignore[operator]
        taken = inspect.signature(body.forward).parameters
        if not {"input_ids", "attention_mask"} <= taken.keys():
            raise UserError(Fault("model_type", f"{config.model_type!r} does not read token ids with a mask"))
        self.body, self.config = body, config
        text = config.get_text_config(decoder=False)
        self.hidden_size: int = text.hidden_size
        types = getattr(text, "type_vocab_size", 0) or 0
        self.features = ("token_type_ids",) if "token_type_ids" in taken and types > 1 else ()
        self.max_positions = _max_positions(body, text)
        found = [_LAYER.search(name) for name, _ in body.named_parameters()]
        self.num_layers = 1 + max((int(match[1]) for match in found if match), default=-1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        """``(batch, length)`` each; gives `last_hidden_state`, ``(batch, length, hidden)``, and the rest."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask.long()}
        if token_type_ids is not None and self.features:
            inputs["token_type_ids"] = token_type_ids
        return self.body(**inputs, return_dict=True)

    def run_body(self, inputs: dict[str, Tensor]) -> Any:
        """A call with these tensors by name."""
        return self(**inputs)

    def gradient_checkpointing_enable(self) -> None:
        """Compute each layer twice in training, see `Model.gradient_checkpointing_enable`.

        Raises:
            UserError: its code cannot.
        """
        body: Any = self.body
        try:
            body.gradient_checkpointing_enable({"use_reentrant": False})
        except ValueError as error:
            raise UserError(Fault("gradient_checkpointing", str(error).splitlines()[0])) from error

    def layer_of(self, parameter: str) -> int | None:
        """The depth of a parameter: 0 for embeddings, then 1, 2 ... from below."""
        if match := _LAYER.search(parameter):
            return int(match[1]) + 1
        return 0 if _EMBEDDING.search(parameter) else self.num_layers

    def get_input_embeddings(self) -> nn.Module:
        """The table of token vectors.

        Raises:
            NotImplementedError: its code names none.
        """
        body: Any = self.body
        table: nn.Module = body.get_input_embeddings()
        return table

    def resize_token_embeddings(self, new_num_tokens: int) -> None:
        """Give the table of tokens another number of rows; new ones are drawn by the model's own scheme."""
        self.body.resize_token_embeddings(new_num_tokens, mean_resizing=False)  # type: ignore[operator]

    def describe(self) -> dict[str, Any]:
        """The options as JSON, from which `rebuild_transformers` builds the same model without its weights."""
        options: dict[str, Any] = json.loads(self.config.to_json_string(use_diff=False))
        return options


def transformers_options(model_type: str) -> set[str]:
    """The names of the options of a type that transformers knows.

    Raises:
        UserError: transformers is not installed, or knows no such type.
    """
    config = _config_class(model_type)
    try:
        return set(config().to_dict()) | set(config.attribute_map)
    except (ValueError, TypeError) as error:  # types that are made of two others have no defaults
        raise _refused(model_type, error) from error


def create_transformers(options: Mapping[str, Any]) -> TransformersModel:
    """A fresh model of the type ``options["model_type"]``.

    Raises:
        UserError: transformers is not installed, no such type, unknown options, or values that it refuses.
    """
    given = dict(options)
    model_type = given.pop("model_type")
    _check_names(model_type, given)
    return rebuild_transformers(options)


def rebuild_transformers(options: Mapping[str, Any]) -> TransformersModel:
    """The model that `TransformersModel.describe` tells of, with fresh weights.

    Raises:
        UserError: transformers is not installed, no such type, or values that it refuses.
    """
    given = dict(options)
    model_type = given.pop("model_type")
    try:
        config = _plain(_config_class(model_type)(**given), given)
        body = _transformers().AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ZeroDivisionError, ImportError) as error:
        raise _refused(model_type, error) from error
    return TransformersModel(body, config)


def load_transformers(folder: Path, overrides: Mapping[str, Any]) -> TransformersModel:
    """The model with the weights of a published folder; `overrides` replace options of its ``config.json``.

    Raises:
        UserError: as `create_transformers`; weights that are missing or of another shape.
    """
    content = read_config(folder)
    model_type = content.pop("model_type")
    content.pop("auto_map", None)
    _check_names(model_type, overrides)
    try:
        config = _plain(_config_class(model_type).from_dict({**content, **overrides}), {**content, **overrides})
        body, info = _transformers().AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except UserError:
        raise
    except Exception as error:  # reading foreign weights fails in many ways, all of them the checkpoint's
        raise _refused(model_type, error) from error
    unread = r"(^|\.)(pooler|decoder)\." if config.is_encoder_decoder else r"(^|\.)pooler\."
    missing = sorted(name for name in info["missing_keys"] if not re.search(unread, name))
    if missing:
        listed = ", ".join(missing[:3])
        message = f"{len(missing)} of the model's tensors are not in the checkpoint (first: {listed})"
        raise UserError(Fault("model_type", message, str(folder)))
    return TransformersModel(body, config)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        message = "a model outside the catalogue needs transformers: pip install 'eir_seq[transformers]'"
        raise UserError(Fault("model_type", message)) from None
    return transformers


def _config_class(model_type: str) -> Any:
    known = _transformers().CONFIG_MAPPING
    if model_type not in known:
        message = f"{model_type!r} is known neither here nor to transformers{nearest(model_type, known)}"
        raise UserError(Fault("model_init_config.model_type", message))
    return known[model_type]


def _check_names(model_type: str, given: Mapping[str, Any]) -> None:
    # transformers keeps whatever it is given, known or not
    known = transformers_options(model_type)
    faults = [
        Fault(f"model_init_config.{name}", f"not an option of {model_type!r}{nearest(name, known)}")
        for name in map(str, given)
        if name not in known
    ]
    if faults:
        raise UserError(*faults)


def _plain(config: Any, given: Mapping[str, Any]) -> Any:
    """Without what only generation needs, and without compiling on its own."""
    if hasattr(config, "use_cache"):
        config.use_cache = False
    if "reference_compile" not in given and hasattr(config, "reference_compile"):
        config.reference_compile = False
    return config


def _max_positions(body: nn.Module, config: Any) -> int | None:
    bound = getattr(config, "max_position_embeddings", None)
    if not isinstance(bound, int) or bound <= 0:
        return None
    for name, module in body.named_modules():
        # tables that count from after the padding token, as roberta's
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return bound - int(module.padding_idx) - 1
    return bound


def _refused(model_type: str, error: Exception) -> UserError:
    detail = " ".join(str(error).split())[:200]
    return UserError(Fault("model_init_config", f"transformers cannot build this {model_type!r}: {detail}"))
