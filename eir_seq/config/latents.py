"""Latent states: what layers make of rows, written to files."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from eir_seq.config.packages import is_installed
from eir_seq.config.strict import Strict


class LatentsConfig(Strict):
    """Which layers' states are written, and how."""

    layers: list[str] = Field(
        min_length=1, description="inputs.NAME, fusion, outputs.NAME, or any module within, e.g. fusion.blocks.0"
    )
    pool: Literal["mean", "max", "first", "last", "none"] = Field(
        "mean", description="of the states of a row's tokens, padding left out; none: each token has its row"
    )
    plots: list[Literal["pca", "tsne"]] = Field(
        default=["pca"], description="pictures of the states in two dimensions; tsne needs scikit-learn"
    )
    colour: str | None = Field(
        None, description="output by whose true values (else its predictions) points are coloured; the first if absent"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_layers(cls, value: Any) -> Any:
        return {"layers": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _can_be_drawn(self) -> LatentsConfig:
        if "tsne" in self.plots and not is_installed("sklearn"):
            raise ValueError("tsne needs scikit-learn, which is not installed; run: pip install 'eir_seq[latents]'")
        return self
