"""Heads of outputs, as typed data: what is between the fused features and an output's last linear layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from eir_seq.config.strict import Name, Positive, Strict
from eir_seq.errors import nearest


class LinearHeadConfig(Strict):
    """Nothing: the linear layer reads the fused features."""

    type: Literal["linear"] = "linear"


class MlpResidualHeadConfig(Strict):
    """Residual feed-forward blocks of the output's own."""

    type: Literal["mlp-residual"] = "mlp-residual"
    num_layers: Positive = Field(2, description="residual blocks")
    hidden_size: Positive | None = Field(None, description="width of the blocks; that of the features if absent")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in each block")
    stochastic_depth: float = Field(0.1, ge=0, lt=1, description="probability of leaving a block out in training")
    output_norm: bool = Field(
        False, description="normalise what the blocks give; slows learning where that of all rows is much alike"
    )


class SharedHeadConfig(MlpResidualHeadConfig):
    """Residual feed-forward blocks that several outputs share, as experts with a gate per output (Ma et al. 2018)."""

    type: Literal["shared"] = "shared"  # type: ignore[assignment]
    num_experts: Positive = Field(4, description="experts, each of num_layers blocks; with one there are no gates")
    group: Name = Field("shared", description="outputs with shared heads of one group share their experts")


def of_earlier_version(output: Any) -> Any:
    """The stored config of an output with the key that says what blocks of an earlier version ended in.

    Example:
        >>> of_earlier_version({"head": {"type": "mlp-residual", "num_layers": 1}})
        {'head': {'output_norm': True, 'type': 'mlp-residual', 'num_layers': 1}}
    """
    head = output.get("head") if isinstance(output, Mapping) else None
    if isinstance(head, Mapping) and head.get("type") in ("mlp-residual", "shared"):
        return {**output, "head": {"output_norm": True, **head}}
    return output


def _named(value: Any) -> Any:
    """The mapping that a name stands for."""
    names = ("linear", "mlp-residual", "shared")
    if not isinstance(value, str):
        return value
    if value not in names:
        raise ValueError(f"{value!r} is not one of {', '.join(map(repr, names))}{nearest(value, names)}")
    return {"type": value}


class _ByName:
    """Takes the name of a head for a head of that type with its defaults."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_named, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        names: Mapping[str, Any] = found["discriminator"]["mapping"]
        return {"anyOf": [{"enum": list(names), "type": "string"}, found]}


if TYPE_CHECKING:
    HeadConfig = LinearHeadConfig | MlpResidualHeadConfig | SharedHeadConfig
else:
    HeadConfig = Annotated[
        Annotated[LinearHeadConfig | MlpResidualHeadConfig | SharedHeadConfig, Field(discriminator="type")], _ByName()
    ]
