"""What is predicted, as typed data: the keys of each kind of output, and what may be monitored of it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.strict import Name, Strict

Better = Literal["min", "max"]


class OutputBase(Strict):
    """What every output has."""

    loss_weight: float = Field(1.0, gt=0, description="weight of this output in the sum of losses")

    def columns(self) -> dict[str, Column]:
        """The columns that hold the target, by name."""
        return {}


class ColumnOutputBase(OutputBase):
    """What every output has whose target stands in a column."""

    COLUMN_TYPE: ClassVar[ColumnType]
    """What the target is read as."""

    column: str = Field(description="column that holds the target")

    def columns(self) -> dict[str, Column]:
        """The column that holds the target."""
        return {self.column: Column(self.COLUMN_TYPE)}


class LinearOutputBase(ColumnOutputBase):
    """What every output has whose own head is a linear layer."""

    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the last linear layer")


class TokenOutputBase(OutputBase):
    """What every output has that reads the states of one input's tokens instead of the fused vector."""

    input: Name | None = Field(None, description="the sequence input; needed where there are several")


class ClassificationOutputConfig(LinearOutputBase):
    """One class out of several."""

    COLUMN_TYPE: ClassVar[ColumnType] = ColumnType.CATEGORY
    METRICS: ClassVar[dict[str, Better]] = {
        "loss": "min",
        "accuracy": "max",
        "balanced_accuracy": "max",
        "f1": "max",
        "mcc": "max",
        "auroc": "max",
        "average_precision": "max",
    }
    """What may be monitored, and which way it is better."""
    CLASS_METRICS: ClassVar[tuple[str, ...]] = ("precision", "recall", "f1", "auroc", "average_precision")
    """What may be monitored for a single class, as in ``recall(positive)``; greater is better."""

    type: Literal["classification"] = "classification"
    loss: Literal["cross-entropy", "focal"] = Field(
        "cross-entropy", description="focal counts rows less that are easy already"
    )
    focal_gamma: float = Field(2.0, ge=0, description="how strongly the focal loss discounts easy rows")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    class_weights: Literal["balanced"] | dict[str, float] | None = Field(
        None, description="balanced: inversely to the class frequency of the training rows; or by class name"
    )


class RegressionOutputConfig(LinearOutputBase):
    """One real number."""

    COLUMN_TYPE: ClassVar[ColumnType] = ColumnType.NUMBER
    METRICS: ClassVar[dict[str, Better]] = {
        "loss": "min",
        "mae": "min",
        "rmse": "min",
        "r2": "max",
        "pearson": "max",
        "spearman": "max",
    }
    """What may be monitored, and which way it is better."""

    type: Literal["regression"] = "regression"
    loss: Literal["mse", "mae", "huber"] = Field(
        "mse", description="squared, absolute, or squared near zero and absolute beyond"
    )
    standardize: bool = Field(True, description="learn the target in units of its deviation over the training rows")


DocumentLayout = Literal["packed", "separate"]


class CausalLmOutputConfig(TokenOutputBase):
    """Each token of a sequence input from those in front of it, by the backbone's own language-model head."""

    METRICS: ClassVar[dict[str, Better]] = {"loss": "min", "perplexity": "min", "bits_per_byte": "min"}
    """What may be monitored, and which way it is better."""

    type: Literal["causal_lm"] = "causal_lm"
    documents: DocumentLayout | None = Field(
        None,
        description="packed (default): all texts one behind the other, cut into blocks of max_length tokens that may "
        "span texts; separate: blocks of one text only. Beside other outputs, rows are read as those need them",
    )
    prompts: list[str] = Field(
        default=[""],
        description="beginnings of the texts that are generated at each evaluation; '' leaves all to the model",
    )
    generation: dict[str, Any] = Field(
        default={"max_new_tokens": 200, "do_sample": True},
        description="how texts are generated, there and by `predict`: options of generate by their documented names; "
        "models from scratch write texts of max_length tokens at most",
    )


class TokenClassificationOutputConfig(TokenOutputBase, LinearOutputBase):
    """A tag for each word of a sequence input, read at the word's first token."""

    COLUMN_TYPE: ClassVar[ColumnType] = ColumnType.LIST
    METRICS: ClassVar[dict[str, Better]] = {
        "loss": "min",
        "accuracy": "max",
        "f1": "max",
        "f1_micro": "max",
        "entity_f1": "max",
        "entity_precision": "max",
        "entity_recall": "max",
    }
    """What may be monitored, and which way it is better."""

    type: Literal["token_classification"] = "token_classification"


class Seq2SeqLmOutputConfig(TokenOutputBase, ColumnOutputBase):
    """A text written from that of a sequence input, by the backbone's own decoder: a translation, a summary."""

    COLUMN_TYPE: ClassVar[ColumnType] = ColumnType.TEXT
    METRICS: ClassVar[dict[str, Better]] = {
        "loss": "min",
        "perplexity": "min",
        "bleu": "max",
        "chrf": "max",
        "rouge1": "max",
        "rouge2": "max",
        "rougeL": "max",
        "rougeLsum": "max",
        "exact_match": "max",
    }
    """What may be monitored, and which way it is better."""
    OF_TOKENS: ClassVar[tuple[str, ...]] = ("loss", "perplexity")
    """Those of them that no text has to be written for."""

    type: Literal["seq2seq_lm"] = "seq2seq_lm"
    max_length: int = Field(
        512, ge=3, description="tokens per target, special tokens included; of longer ones the beginning is learnt"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target spread over the whole vocabulary, in training"
    )
    generation: dict[str, Any] = Field(
        default_factory=dict,
        description="how texts are written, in evaluations and by `predict`: options of generate by their documented "
        "names; max_new_tokens is by default the length of the longest training target",
    )
    generate_rows: int = Field(
        200, ge=0, description="validation rows, evenly spread, whose texts are written at each evaluation; of test all"
    )
    bleu_tokenizer: Literal["13a", "intl", "zh", "char", "none"] = Field(
        "13a", description="how BLEU cuts texts into words: as mteval does, by all of Unicode, for Chinese, ..."
    )


class CorruptedOutputBase(TokenOutputBase):
    """What every output has that learns from the texts of an input alone, by restoring what was changed in them."""

    TASK: ClassVar[str]
    """The task whose head the backbone has."""
    SENTINELS: ClassVar[int] = 0
    """Tokens for gaps that a tokenizer gets which is trained for this output."""

    @property
    def layout(self) -> DocumentLayout | None:
        """How texts stand in rows; None for one text per row."""
        return None


class MaskedOutputBase(CorruptedOutputBase):
    """What outputs have that hide single tokens."""

    mask_probability: float = Field(0.15, gt=0, lt=1, description="share of a text's tokens that are hidden")
    whole_words: bool = Field(False, description="hide all tokens of a word, or none")
    mean_span_length: float = Field(1.0, ge=1, description="tokens hidden side by side, on average; 1: one by one")
    documents: DocumentLayout | None = Field(
        None,
        description="as of causal_lm, full blocks of max_length tokens; by default one text per row, as other inputs",
    )

    @property
    def layout(self) -> DocumentLayout | None:
        """How texts stand in rows; None for one text per row."""
        return self.documents


class MaskedLmOutputConfig(MaskedOutputBase):
    """Tokens hidden in the texts of a sequence input, by the backbone's own head (https://arxiv.org/abs/1810.04805)."""

    METRICS: ClassVar[dict[str, Better]] = {"loss": "min", "perplexity": "min", "accuracy": "max"}
    """What may be monitored, and which way it is better."""
    TASK: ClassVar[str] = "masked-lm"

    type: Literal["masked_lm"] = "masked_lm"
    mask_share: float = Field(0.8, ge=0, le=1, description="share of the hidden tokens that become the mask token")
    random_share: float = Field(0.1, ge=0, le=1, description="share of them that become any token; the rest stays")


class GeneratorConfig(Strict):
    """The small model that proposes tokens for hidden ones."""

    model_init_config: dict[str, Any] = Field(
        default_factory=dict,
        description="options by which it differs from the backbone; by default a quarter of its width, heads and inner "
        "width",
    )


class ReplacedTokenDetectionOutputConfig(MaskedOutputBase):
    """Which tokens of a text a small masked language model has put there (https://arxiv.org/abs/2003.10555)."""

    METRICS: ClassVar[dict[str, Better]] = {
        "loss": "min",
        "generator_loss": "min",
        "detection_loss": "min",
        "accuracy": "max",
        "precision": "max",
        "recall": "max",
        "f1": "max",
    }
    """What may be monitored, and which way it is better."""
    TASK: ClassVar[str] = "pretraining"

    type: Literal["replaced_token_detection"] = "replaced_token_detection"
    detection_weight: float = Field(50.0, gt=0, description="weight of the detection beside the generator's loss")
    generator: GeneratorConfig = Field(GeneratorConfig(), description="the model that proposes tokens")


class RestoredOutputBase(CorruptedOutputBase):
    """What outputs have by which an encoder-decoder writes what was taken out of a text."""

    METRICS: ClassVar[dict[str, Better]] = {"loss": "min", "perplexity": "min"}
    """What may be monitored, and which way it is better."""
    TASK: ClassVar[str] = "seq2seq-lm"

    mean_span_length: float = Field(3.0, ge=1, description="tokens of a span that is taken out, on average")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target spread over the whole vocabulary, in training"
    )
    generation: dict[str, Any] = Field(
        default_factory=dict, description="how `predict` writes: options of generate by their documented names"
    )


class SpanCorruptionOutputConfig(RestoredOutputBase):
    """The spans that are taken out of a text, each behind its sentinel (https://arxiv.org/abs/1910.10683)."""

    SENTINELS: ClassVar[int] = 100

    type: Literal["span_corruption"] = "span_corruption"
    noise_density: float = Field(0.15, gt=0, lt=1, description="share of a text's tokens that are taken out")


class DenoisingOutputConfig(RestoredOutputBase):
    """A whole text from one with spans, tokens and the order of sentences lost (https://arxiv.org/abs/1910.13461)."""

    type: Literal["denoising"] = "denoising"
    mask_share: float = Field(
        0.3, ge=0, lt=1, description="share of tokens in spans that one mask token stands for (Poisson lengths)"
    )
    permute_sentences: bool = Field(True, description="put the sentences of a text into any order")
    delete_probability: float = Field(0.0, ge=0, lt=1, description="share of the other tokens that are left out")


OutputConfig = Annotated[
    Union[  # noqa: UP007
        ClassificationOutputConfig,
        RegressionOutputConfig,
        CausalLmOutputConfig,
        TokenClassificationOutputConfig,
        Seq2SeqLmOutputConfig,
        MaskedLmOutputConfig,
        ReplacedTokenDetectionOutputConfig,
        SpanCorruptionOutputConfig,
        DenoisingOutputConfig,
    ],
    Field(discriminator="type"),
]
