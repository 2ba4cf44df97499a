"""The union of a kind's encoders: typed options by `model_type`, and architectures of the catalogue beside them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError, create_model

from eir_seq.config import kinds
from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.config.encoders import EncoderBase
from eir_seq.config.errors import faults_of
from eir_seq.config.strict import Strict
from eir_seq.errors import UserError
from eir_seq.registry import Registry


class Options(Strict):
    layers: int = Field(2, ge=1)


class Small(EncoderBase):
    IMPLEMENTATION: ClassVar[str] = "small:Small"
    model_type: Literal["small"] = "small"
    model_init_config: Options = Options()


class Wide(EncoderBase):
    IMPLEMENTATION: ClassVar[str] = "wide:Wide"
    model_type: Literal["wide"] = "wide"
    width: int = 8


class Library(EncoderBase):
    IMPLEMENTATION: ClassVar[str] = "library:Library"
    model_type: str = Field(pattern="^lib/")


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Any:
    def register(**entries: type) -> None:
        registry = Registry(
            "encoders", {f"toy.{name}": f"{__name__}:{kind.__name__}" for name, kind in entries.items()}
        )
        monkeypatch.setattr(kinds, "ENCODERS", registry)

    return register


def said(annotation: Any, value: Any) -> list[str]:
    model: Any = create_model("Toy", model=(annotation, ...))
    given = {"model": value}
    try:
        model.model_validate(given)
    except ValidationError as error:
        return [str(fault) for fault in faults_of(error, model, given)]
    return []


def test_options_are_typed_by_name(register: Any) -> None:
    register(small=Small, wide=Wide)
    annotation = kinds.encoders("toy", default="small")
    assert said(annotation, {}) == []
    assert said(annotation, {"model_type": "wide", "width": 3}) == []
    (line,) = said(annotation, {"model_type": "small", "model_init_config": {"layers": 0}})
    assert line == "model.model_init_config.layers: 0 is not an integer >= 1"
    (line,) = said(annotation, {"model_type": "smal"})
    assert line.startswith("model.model_type: 'smal' is not one of 'small', 'wide'; did you mean 'small'")
    (line,) = said(annotation, {"model_type": "small", "width": 3})
    assert line.startswith("model.width: unknown key")


def test_other_names_belong_to_the_catalogue(register: Any) -> None:
    register(small=Small, lib=Library)
    annotation = kinds.encoders("toy", otherwise=SequenceModelConfig)
    for name, kind in {"small": Small, "lib/resnet": Library, "bert": SequenceModelConfig}.items():
        config = TypeAdapter(annotation).validate_python({"model_type": name})
        assert type(config) is kind
        assert TypeAdapter(annotation).validate_python(config.model_dump()) == config
        assert (config.backbone is config) == (name == "bert")
    assert said(annotation, {"model_type": "bert", "pool": "sum"})[0].startswith("model.pool: 'sum' is not one of")
    assert said(annotation, {"model_type": "small", "pool": "avg"})[0].startswith("model.pool: unknown key")


def test_of_a_kind_without_encoders_only_the_catalogue_is_left(register: Any) -> None:
    register()
    assert kinds.encoders("toy", otherwise=SequenceModelConfig) is SequenceModelConfig


def test_an_entry_must_carry_its_name(register: Any) -> None:
    register(other=Small)
    with pytest.raises(UserError, match="needs a field model_type"):
        kinds.encoders("toy")
