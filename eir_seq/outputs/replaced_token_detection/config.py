"""What an experiment may say about a detection of replaced tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from eir_seq.config.corruption import HiddenTokens
from eir_seq.config.metrics import LOSS, Metric
from eir_seq.config.strict import Strict
from eir_seq.errors import Fault
from eir_seq.outputs.language.config import MaskedOutputBase

if TYPE_CHECKING:
    from eir_seq.modalities.sequence.config import SequenceInputConfig


class GeneratorConfig(Strict):
    """The small model that proposes tokens for hidden ones."""

    model_init_config: dict[str, Any] = Field(
        default_factory=dict,
        description="options by which it differs from the backbone; by default a quarter of its width, heads and inner "
        "width",
    )


class ReplacedTokenDetectionOutputConfig(MaskedOutputBase):
    """Which tokens of a text a small masked language model has put there (https://arxiv.org/abs/2003.10555)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.replaced_token_detection.output:ReplacedTokenDetection"
    METRICS: ClassVar[tuple[Metric, ...]] = (
        LOSS,
        Metric("generator_loss", "Loss of the generator", "min", "losses of both models"),
        Metric("detection_loss", "Loss of the detection", "min", "losses of both models"),
        Metric("accuracy", "Accuracy", "max", aliases=("acc", "token_accuracy", "accuracy_score")),
        Metric("precision", "Precision", "max"),
        Metric("recall", "Recall", "max"),
        Metric("f1", "F1", "max", aliases=("f1_score", "fscore", "f_score", "f_measure")),
    )
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = (("accuracy", "f1"),)
    TASK: ClassVar[str] = "pretraining"
    FILLS: ClassVar[bool] = False

    type: Literal["replaced_token_detection"] = "replaced_token_detection"
    detection_weight: float = Field(50.0, gt=0, description="weight of the detection loss relative to the generator's")
    generator: GeneratorConfig = Field(
        GeneratorConfig(), description="the small masked language model that proposes replacements"
    )

    @property
    def corruption(self) -> HiddenTokens:
        """Hidden tokens become the mask token; the generator draws what is in their places."""
        return HiddenTokens(self.mask_probability, self.mean_span_length, self.whole_words, draws=True)

    @property
    def generator_options(self) -> dict[str, Any]:
        """Options by which the generator differs from the backbone."""
        return self.generator.model_init_config

    def backbone_faults(self, source: SequenceInputConfig, place: str, output: str) -> Iterator[Fault]:
        """Architectures that do not learn to detect, and options that their generators do not have."""
        from eir_seq.models.catalogue import CATALOGUE, REPLACED_TOKENS
        from eir_seq.models.option_checks import check_options

        name = source.model.model_type
        if source.model.pretrained_model or (name not in CATALOGUE and name != "auto"):
            return  # what it is shows when it is loaded; what is none is refused elsewhere
        if name not in REPLACED_TOKENS:
            message = f"{name!r} does not learn to detect replaced tokens; these do: {', '.join(REPLACED_TOKENS)}"
            yield Fault(place, message)
            return
        faults = check_options(name, self.generator_options)
        yield from (fault.under(f"{output}.generator.model_init_config") for fault in faults)
