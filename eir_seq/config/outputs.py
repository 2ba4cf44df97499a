"""What is predicted, as typed data: the keys of each kind of output, and what may be monitored of it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import Field

from eir_seq.config.strict import Name, Strict

Better = Literal["min", "max"]


class OutputBase(Strict):
    """What every output has."""

    loss_weight: float = Field(1.0, gt=0, description="weight of this output in the sum of losses")


class ColumnOutputBase(OutputBase):
    """What every output has whose target stands in a column."""

    column: str = Field(description="column that holds the target")


class LinearOutputBase(ColumnOutputBase):
    """What every output has whose own head is a linear layer."""

    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the last linear layer")


class TokenOutputBase(OutputBase):
    """What every output has that reads the states of one input's tokens instead of the fused vector."""

    input: Name | None = Field(None, description="the sequence input; needed where there are several")


class ClassificationOutputConfig(LinearOutputBase):
    """One class out of several."""

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


OutputConfig = Annotated[
    Union[  # noqa: UP007
        ClassificationOutputConfig,
        RegressionOutputConfig,
        CausalLmOutputConfig,
        TokenClassificationOutputConfig,
        Seq2SeqLmOutputConfig,
    ],
    Field(discriminator="type"),
]
