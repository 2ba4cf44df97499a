"""Which rows of an input are explained, and how: what each of its parts adds to what an output predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from eir_seq.config.strict import Positive, Strict

ROWS = 10
"""Rows of each class where neither `rows` nor `ids` is given."""

BASELINE_TOKENS = 4
"""Tokens that take the place of those of a row, one after another."""


def _texts(value: Any) -> Any:
    """Ids that YAML reads as numbers are texts, too."""
    if not isinstance(value, list):
        return value
    return [str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in value]


class ExplanationBase(Strict):
    """What every method of attribution has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:name`` of an `eir_seq.explanations.method.Method`."""

    if TYPE_CHECKING:
        method: str
    rows: Positive | None = Field(
        None,
        description="how many rows of each class or label are explained, evenly spaced in the test rows, or in the "
        f"validation rows where there are no others; of numbers, that many, evenly spaced by value. {ROWS} if neither "
        "this nor ids is given",
    )
    ids: Annotated[list[str], BeforeValidator(_texts, json_schema_input_type=list[str | int])] = Field(
        default_factory=list, description="in place of rows, the ids of test and validation rows"
    )
    baseline: Literal["tokens", "mean", "padding", "zero"] = Field(
        "tokens",
        description="what stands for no information in place of each token: tokens, the mean of the results for "
        f"{BASELINE_TOKENS} tokens of the vocabulary, one after another; mean, the mean of all token vectors; padding, "
        "the vector of the padding token; zero",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.rows is not None and self.ids:
            raise ValueError("rows and ids exclude each other; keep one of them")
        return self

    @property
    def per_class(self) -> int:
        """How many rows of each class are explained."""
        return ROWS if self.rows is None else self.rows

    @property
    def baselines(self) -> int:
        """How many baselines results are averaged over."""
        return BASELINE_TOKENS if self.baseline == "tokens" else 1

    @property
    def most_gradients(self) -> int:
        """How many gradients one row takes at most, from one baseline."""
        raise NotImplementedError
