"""Models, configurations and tokenizers under the class names of published code.

Any class of an architecture in the catalogue can be imported, and so can the Auto classes of its tasks. Published
examples then run with the import changed; what they make is a `Model`, a `ModelConfig` or a `Tokenizer` as from
`create_model`, `from_pretrained` and `load_tokenizer`.

Example:
    >>> from eir_seq.published import BertConfig, BertForMaskedLM
    >>> sizes = dict(vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    >>> model = BertForMaskedLM(BertConfig(**sizes))
    >>> model.task, model.config.hidden_size
    ('masked-lm', 16)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.catalogue import CATALOGUE, config_class
from eir_seq.models.factory import class_named, create_model, from_pretrained, pretrained_config
from eir_seq.models.model import Model
from eir_seq.models.option_checks import build_config, build_options
from eir_seq.models.options import ModelConfig, Options, default_of, fields, split_answers
from eir_seq.tokenizers.conventions import DEFAULTS, NOT_SERVED
from eir_seq.tokenizers.files import lineage_of
from eir_seq.tokenizers.published import load_tokenizer
from eir_seq.tokenizers.tokenizer import Tokenizer

AUTO_MODELS = {
    "AutoModel": "base",
    "AutoModelForCausalLM": "causal-lm",
    "AutoModelForImageClassification": "image-classification",
    "AutoModelForMaskedLM": "masked-lm",
    "AutoModelForMultipleChoice": "multiple-choice",
    "AutoModelForNextSentencePrediction": "next-sentence",
    "AutoModelForPreTraining": "pretraining",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForSeq2SeqLM": "seq2seq-lm",
    "AutoModelForSequenceClassification": "sequence-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForVisualQuestionAnswering": "visual-question-answering",
}
AUTO_CONFIG, AUTO_TOKENIZERS = "AutoConfig", ("AutoTokenizer", "PreTrainedTokenizerFast")


@dataclass(frozen=True)
class ModelClass:
    """A class of models for one task, of one architecture, or of any (`model_type` is None)."""

    name: str
    task: str
    model_type: str | None

    def __call__(self, config: ModelConfig) -> Model:
        """A fresh model with these options, see `create_model`."""
        return create_model(self.model_type or config.model_type, config, task=self.task)

    def from_config(self, config: ModelConfig) -> Model:
        """As a call."""
        return self(config)

    def from_pretrained(self, folder_or_hub_id: str | os.PathLike[str], **options: Any) -> Model:
        """The model of a folder or of the Hub, see `eir_seq.models.from_pretrained`."""
        return from_pretrained(os.fspath(folder_or_hub_id), task=self.task, model_type=self.model_type, **options)


@dataclass(frozen=True)
class ConfigClass:
    """The class of the options of one architecture, or of any (`model_type` is None)."""

    name: str
    model_type: str | None

    def __call__(self, **options: Any) -> ModelConfig:
        """Transformers' defaults but for these options; a part is a mapping or made by its own class.

        Raises:
            UserError: unknown options, or values that cannot be.
        """
        if self.model_type is None:
            raise UserError(Fault(self.name, "has no options; it reads those of a folder (from_pretrained)"))
        options, answers = split_answers(options)
        config = build_config(self.model_type, {name: _plain(value) for name, value in options.items()})
        return replace(config, published={**config.published, **answers})

    def from_pretrained(self, folder_or_hub_id: str | os.PathLike[str], **options: Any) -> ModelConfig:
        """The options of a published model, some of them replaced, see `pretrained_config`."""
        changes = {name: _plain(value) for name, value in options.items()}
        return pretrained_config(os.fspath(folder_or_hub_id), model_type=self.model_type, **changes)


@dataclass(frozen=True)
class PartClass:
    """The class of options nested in those of an architecture."""

    name: str
    options: type[Options]

    def __call__(self, **options: Any) -> Options:
        """Transformers' defaults but for these options.

        Raises:
            UserError: unknown options, or values that cannot be.
        """
        return build_options(self.options, options)


@dataclass(frozen=True)
class TokenizerClass:
    """A class of tokenizers; those that end with "Fast" read tokenizer.json, the others the vocabulary's own files."""

    name: str

    def from_pretrained(self, folder_or_hub_id: str | os.PathLike[str], **options: Any) -> Tokenizer:
        """The tokenizer of a folder or of the Hub, see `load_tokenizer`."""
        if self.name not in AUTO_TOKENIZERS:
            options = {"tokenizer_class": self.name, "use_fast": self.name.endswith("Fast"), **options}
        return load_tokenizer(folder_or_hub_id, **options)


def _plain(value: Any) -> Any:
    """A part as a mapping of what it does not leave at its defaults."""
    if not isinstance(value, Options):
        return value
    given = {name: (getattr(value, name), default_of(field)) for name, field in fields(type(value)).items()}
    return {name: own for name, (own, default) in given.items() if own != default}


def _config_classes() -> Mapping[str, ConfigClass | PartClass]:
    found: dict[str, ConfigClass | PartClass] = {AUTO_CONFIG: ConfigClass(AUTO_CONFIG, None)}
    for model_type in CATALOGUE:
        options = config_class(model_type)
        found[options.__name__] = ConfigClass(options.__name__, model_type)
        found |= {part.__name__: PartClass(part.__name__, part) for part in options.parts.values()}
    return found


def __getattr__(name: str) -> Any:
    lineages = {*DEFAULTS, *NOT_SERVED}
    if name in AUTO_TOKENIZERS or ("Tokenizer" in name and lineage_of(name) in lineages):
        return TokenizerClass(name)
    if name in AUTO_MODELS:
        return ModelClass(name, AUTO_MODELS[name], None)
    if name.endswith("Config") and (found := _config_classes().get(name)) is not None:
        return found
    if not name.startswith("_") and (declared := class_named(name)) is not None:
        model_type, task = declared
        return ModelClass(name, task, model_type)
    raise AttributeError(f"no architecture of the catalogue has a class {name!r}{nearest(name, AUTO_MODELS)}")
