"""Options of mamba."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.options import ACTIVATIONS, ModelConfig, layers, option, size


@dataclass(frozen=True, kw_only=True)
class MambaConfig(ModelConfig):
    """Options of mamba."""

    model_type: ClassVar[str] = "mamba"

    vocab_size: int = size(50280, "number of tokens in the vocabulary")
    hidden_size: int = size(768, "width of the token states")
    use_mambapy: bool = option(
        False, "scan of published code where its kernels are missing; results do not change: here is one scan"
    )
    state_size: int = size(16, "numbers that each inner channel remembers")
    num_hidden_layers: int = layers(32, "number of layers")
    layer_norm_epsilon: float = option(1e-5, "added to the mean square in norms", minimum=0.0)
    pad_token_id: int | None = option(0, "id of the padding token")
    bos_token_id: int | None = option(0, "id of the token that begins a text")
    eos_token_id: int | None = option(0, "id of the token that ends a text")
    expand: int = size(2, "inner channels per channel of the token states")
    conv_kernel: int = size(4, "kernel size of the convolution before the scan, the current token included")
    use_bias: bool = option(False, "the projections into and out of the mixer have biases")
    use_conv_bias: bool = option(True, "the convolution has a bias")
    hidden_act: str = option("silu", "activation after the convolution and of the gate", choices=ACTIVATIONS)
    initializer_range: float = option(0.1, "standard deviation of fresh weights (normal distribution)", minimum=0.0)
    residual_in_fp32: bool = option(True, "sums over layers are kept in float32 where weights are narrower")
    time_step_rank: int | str = option("auto", "inner width of the projection to time steps; auto: hidden_size / 16")
    time_step_scale: float = option(1.0, "factor on fresh weights of that projection", minimum=0.0)
    time_step_min: float = option(0.001, "smallest time step of initial biases", minimum=0.0)
    time_step_max: float = option(0.1, "largest time step of initial biases", minimum=0.0)
    time_step_init_scheme: str = option(
        "random",
        "fresh weights of that projection: evenly distributed (random, uniform) or all alike (constant)",
        choices=("random", "uniform", "constant"),
    )
    time_step_floor: float = option(1e-4, "fresh time steps below this one count as it", minimum=0.0)
    rescale_prenorm_residual: bool = option(
        False, "fresh weights out of the mixer are divided by the root of num_hidden_layers"
    )
    use_cache: bool = option(True, "return the state after the last token on request")

    @property
    def inner_size(self) -> int:
        """Channels of the scan."""
        return self.expand * self.hidden_size

    @property
    def rank(self) -> int:
        """`time_step_rank` as a number."""
        return math.ceil(self.hidden_size / 16) if isinstance(self.time_step_rank, str) else self.time_step_rank

    def problems(self) -> Iterator[tuple[str, str]]:
        if isinstance(self.time_step_rank, str) and self.time_step_rank != "auto":
            yield "time_step_rank", f"{self.time_step_rank!r} is neither 'auto' nor an integer"
        elif self.rank < 1:
            yield "time_step_rank", f"{self.time_step_rank} is below the least value 1"
        if not 0 < self.time_step_min <= self.time_step_max:
            yield "time_step_min", f"{self.time_step_min} is not above 0 and at most time_step_max {self.time_step_max}"
        if not self.time_step_floor > 0:
            yield "time_step_floor", f"{self.time_step_floor} is not above 0"
