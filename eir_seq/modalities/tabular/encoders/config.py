"""What an experiment may say about the encoders of a table's rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from eir_seq.config.encoders import EncoderBase
from eir_seq.config.strict import Positive, Strict, ignored
from eir_seq.errors import Fault

Probability = Annotated[float, Field(ge=0, lt=1)]


class NumericOptions(Strict):
    """How numbers are embedded (Gorishniy et al. 2022, arXiv:2203.05556)."""

    numeric_embedding: Literal["linear", "piecewise-linear", "periodic"] = Field(
        "linear",
        description="what is made of a number: itself (mlp) or its product with a vector (ft-transformer); its place "
        "among bins of the training rows; sines and cosines of learned frequencies. The latter two pass a linear layer "
        "per column and a ReLU",
    )
    bins: Annotated[int, Field(ge=2, le=1000)] = Field(
        32, description="piecewise-linear: bins per column, between quantiles of the training rows"
    )
    frequencies: Positive = Field(16, description="periodic: frequencies per column")
    frequency_scale: float = Field(
        0.1, gt=0, description="periodic: standard deviation of the first frequencies; the higher, the rougher"
    )

    @property
    def used_bins(self) -> int:
        """Bins per column that are to be found in the training rows."""
        return self.bins if self.numeric_embedding == "piecewise-linear" else 0

    def faults(self, place: str) -> Iterator[Fault]:
        """Options of embeddings that are not chosen."""
        chosen = self.numeric_embedding
        if chosen != "piecewise-linear":
            yield from ignored(place, self, "bins", f"with numeric_embedding: {chosen}")
        if chosen != "periodic":
            yield from ignored(place, self, "frequencies frequency_scale", f"with numeric_embedding: {chosen}")


class TabularMlpOptions(NumericOptions):
    """Options of `mlp`."""

    num_layers: int = Field(2, ge=0, description="residual blocks")
    hidden_size: Positive = Field(128, description="width of the blocks and of the feature vector")
    dropout: Probability = Field(0.1, description="dropout within each block, and on what it adds")
    stochastic_depth: Probability = Field(0.0, description="probability that a row of a training batch skips a block")
    embedding_size: Positive = Field(8, description="size of the vector of a category")
    numeric_embedding_size: Positive = Field(16, description="size of the vector of a number; not with linear")

    def faults(self, place: str) -> Iterator[Fault]:
        """Options of embeddings that are not chosen."""
        yield from super().faults(place)
        if self.numeric_embedding == "linear":
            yield from ignored(place, self, "numeric_embedding_size", "with numeric_embedding: linear")


class TabularMlpConfig(EncoderBase):
    """Residual feed-forward blocks on the vectors of all columns side by side."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.tabular.encoders.mlp:MlpEncoder"

    model_type: Literal["mlp"] = "mlp"
    model_init_config: TabularMlpOptions = Field(TabularMlpOptions(), description="its options")

    @property
    def bins(self) -> int:
        """Bins per column that are to be found in the training rows."""
        return self.model_init_config.used_bins

    def faults(self, place: str) -> Iterator[Fault]:
        """Those of its options."""
        yield from self.model_init_config.faults(f"{place}.model_init_config")


class FtTransformerOptions(NumericOptions):
    """Options of `ft-transformer`."""

    num_layers: Positive = Field(3, description="transformer layers")
    hidden_size: Positive = Field(192, description="size of the token of a column, and of the feature vector")
    num_heads: Positive = Field(8, description="attention heads; they divide hidden_size")
    intermediate_size: Positive | None = Field(
        None, description="width of the feed-forward layers (ReGLU); 4/3 of hidden_size if absent"
    )
    attention_dropout: Probability = Field(0.2, description="dropout on attention weights")
    feed_forward_dropout: Probability = Field(0.1, description="dropout within feed-forward layers")
    residual_dropout: Probability = Field(0.0, description="dropout on what each sublayer adds")


class FtTransformerConfig(EncoderBase):
    """FT-Transformer: a token per column, read out at a CLS token (Gorishniy et al. 2021, arXiv:2106.11959)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.tabular.encoders.ft_transformer:FtTransformerEncoder"

    model_type: Literal["ft-transformer"] = "ft-transformer"
    model_init_config: FtTransformerOptions = Field(FtTransformerOptions(), description="its options")

    @property
    def bins(self) -> int:
        """Bins per column that are to be found in the training rows."""
        return self.model_init_config.used_bins

    def faults(self, place: str) -> Iterator[Fault]:
        """Those of its options."""
        options = self.model_init_config
        yield from options.faults(f"{place}.model_init_config")
        if options.hidden_size % options.num_heads:
            message = f"{options.num_heads} heads do not divide hidden_size {options.hidden_size}"
            yield Fault(f"{place}.model_init_config.num_heads", message)


class TabularLinearOptions(Strict):
    """Options of `linear`."""

    hidden_size: Positive = Field(128, description="size of the feature vector")


class TabularLinearConfig(EncoderBase):
    """A linear layer on numbers and one-hot categories."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.tabular.encoders.mlp:LinearEncoder"

    model_type: Literal["linear"] = "linear"
    model_init_config: TabularLinearOptions = Field(TabularLinearOptions(), description="its options")
