"""Class names of published code, as what this library makes of them."""

from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path

import pytest

from eir_seq import published
from eir_seq.errors import UserError
from eir_seq.models import list_models
from eir_seq.models.catalogue import architecture, config_class
from eir_seq.models.model import Model
from eir_seq.published import AutoConfig, AutoModel, BertConfig, BertForMaskedLM, BertModel, T5GemmaConfig
from eir_seq.tokenizers.conventions import PIECES

SMALL = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize("model_type", list_models())
def test_every_class_of_the_catalogue(model_type: str) -> None:
    for task, declared in architecture(model_type).tasks.items():
        found = getattr(published, declared.published)
        assert (found.model_type, found.task) == (model_type, task)
    options = config_class(model_type)
    assert type(getattr(published, options.__name__)()) is options
    for part in options.parts.values():
        assert type(getattr(published, part.__name__)()) is part


def test_classes_of_tokenizers() -> None:
    for name in [known.class_name for known in PIECES.values()] + ["BertTokenizer", "MvpTokenizerFast", "T5Tokenizer"]:
        assert getattr(published, name).name == name


@pytest.mark.parametrize("name", ["BertForNothing", "NoConfig", "NoTokenizer", "TokenizerBert", "__path__", "Model2"])
def test_names_of_nothing(name: str) -> None:
    assert not hasattr(published, name)
    with pytest.raises(AttributeError, match=r"did you mean 'AutoModel'\?"):
        _ = published.AutoModell


def test_a_model_of_options_and_of_a_folder(tmp_path: Path) -> None:
    model = BertForMaskedLM(BertConfig(**SMALL))
    assert isinstance(model, Model)
    model.save_pretrained(tmp_path)
    config = BertConfig.from_pretrained(tmp_path, num_labels=3)
    assert (config.hidden_size, config.num_labels) == (16, 3)
    assert replace(AutoConfig.from_pretrained(tmp_path), num_labels=3) == config
    for model in (AutoModel.from_config(config), BertModel(config), BertModel.from_pretrained(tmp_path, num_labels=3)):
        assert model.task == "base"
        assert replace(model.config, published={}) == replace(config, published={})
    with pytest.raises(UserError, match="model_type: 'bert' cannot be built of options of 't5gemma'"):
        BertModel(T5GemmaConfig())
    with pytest.raises(UserError, match="AutoConfig: has no options; it reads"):
        AutoConfig()
    with pytest.raises(UserError, match=r"no such folder|config\.json"):
        AutoConfig.from_pretrained(tmp_path / "nowhere", local_files_only=True)


def test_heads_that_options_name_as_pruned_stay_away(tmp_path: Path) -> None:
    model = BertModel(BertConfig(**SMALL))
    model.prune_heads({0: [1]})
    model.save_pretrained(tmp_path)
    for again in (BertModel(BertConfig.from_pretrained(tmp_path)), BertModel(model.config)):
        shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        assert {name: parameter.shape for name, parameter in again.named_parameters()} == shapes
        assert again.config.published["pruned_heads"] == {"0": [1]}


def test_options_under_their_other_names() -> None:
    config = published.MvpConfig(hidden_size=32, decoder_layers=3)
    assert (config.hidden_size, config.d_model, config.num_attention_heads) == (32, 32, config.encoder_attention_heads)
    with pytest.raises(AttributeError, match="'MvpConfig' has no option 'hidden_sise'"):
        _ = config.hidden_sise


def test_parts_are_made_by_classes_of_their_own() -> None:
    part = published.T5GemmaModuleConfig(hidden_size=16, num_hidden_layers=1)
    config = T5GemmaConfig(encoder=part, vocab_size=50)
    assert config == T5GemmaConfig(encoder={"hidden_size": 16, "num_hidden_layers": 1}, vocab_size=50)
    with pytest.raises(UserError, match="hidden_sise: not an option"):
        published.T5GemmaModuleConfig(hidden_sise=16)


def test_the_example_of_the_docstring() -> None:
    found = doctest.testmod(published)
    assert found.attempted >= 4
    assert not found.failed
