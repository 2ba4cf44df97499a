"""What an experiment may say about a similarity output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.metrics import LOSS, Metric
from eir_seq.config.outputs import OutputBase
from eir_seq.config.strict import Name, Positive, ignored
from eir_seq.errors import Fault, nearest

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections

Loss = Literal["cosine", "contrastive", "triplet", "margin"]

RECALL_AT = (1, 5, 10)
CORRELATIONS, TWO_CLASSES = ("spearman", "pearson"), ("auroc", "average_precision")
RANKS = (*(f"recall_at_{k}" for k in RECALL_AT), "mrr")
TRIPLETS = "triplet_accuracy"
_MEASURED: dict[Loss, tuple[str, ...]] = {
    "cosine": (*CORRELATIONS, *TWO_CLASSES),
    "contrastive": (*RANKS, TRIPLETS),
    "triplet": (*RANKS, TRIPLETS),
    "margin": (*TWO_CLASSES, *RANKS),
}
"""Metrics by loss."""
_OPTIONS: dict[str, tuple[Loss, ...]] = {
    "column": ("cosine", "margin"),
    "range": ("cosine",),
    "negatives": ("contrastive", "triplet"),
    "group": ("contrastive", "triplet", "margin"),
    "temperature": ("contrastive",),
    "learn_temperature": ("contrastive",),
    "symmetric": ("contrastive",),
    "margin": ("triplet", "margin"),
    "online": ("margin",),
    "ranks": ("contrastive", "triplet", "margin"),
}
"""By option, the losses that it has an effect on."""
_MARGINS = {"triplet": 0.2, "margin": 0.5}


class SimilarityOutputConfig(OutputBase):
    """How similar two inputs are: the cosine of their vectors (a bi-encoder)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.outputs.similarity.output:Similarity"
    REPORT: ClassVar[str] = "eir_seq.outputs.similarity.report:section"
    METRICS: ClassVar[tuple[Metric, ...]] = (
        LOSS,
        Metric("spearman", "Spearman correlation", "max", "correlation", aliases=("spearmanr", "cosine_spearman")),
        Metric("pearson", "Pearson correlation", "max", "correlation", aliases=("pearsonr", "cosine_pearson")),
        *(
            Metric(f"recall_at_{k}", f"Recall at {k}", "max", "recall", share_of_rows=True, aliases=(f"recall@{k}",))
            for k in RECALL_AT
        ),
        Metric("mrr", "Mean reciprocal rank", "max", "recall", aliases=("mean_reciprocal_rank", "mrr@10")),
        Metric("triplet_accuracy", "Accuracy of triplets", "max", share_of_rows=True, aliases=("cosine_accuracy",)),
        Metric("auroc", "AUROC", "max", "two classes", aliases=("auc", "roc_auc")),
        Metric("average_precision", "Average precision", "max", "two classes", aliases=("ap", "map", "cosine_ap")),
    )
    HEADLINES: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("spearman", "pearson", "auroc"),
        ("recall_at_1", "recall_at_10", "mrr", "triplet_accuracy"),
        ("auroc", "average_precision", "recall_at_1", "mrr"),
    )
    TARGET: ClassVar[str] = "score"

    type: Literal["similarity"] = "similarity"
    inputs: Annotated[list[Name], Field(min_length=2, max_length=2)] | None = Field(
        None, description="the two inputs that are compared; not needed where there are only two"
    )
    column: str | None = Field(
        None,
        description="column of the score of a pair: from -1 to 1 with loss cosine, true or false with loss margin",
    )
    loss: Loss | None = Field(
        None,
        description="cosine: squared difference of cosine and score; contrastive: cross-entropy of the row's own "
        "second input among those of the batch (InfoNCE); triplet: it is nearer than `negatives`; margin: pairs "
        "that match are near, others at least `margin` apart. By default cosine with a column, else contrastive",
    )
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        None, description="lowest and highest score of the column, e.g. [0, 5]; they become the cosines 0 and 1"
    )
    negatives: list[Name] = Field([], description="further inputs that do not match the first one (hard negatives)")
    group: str | None = Field(
        None, description="column of groups: rows of one group match each other and are no negatives of each other"
    )
    projection: Positive | None = Field(
        None, description="width to which vectors are projected, a linear layer for each encoder; by default none"
    )
    temperature: float = Field(0.05, gt=0, description="by which the cosines of loss contrastive are divided")
    learn_temperature: bool = Field(False, description="learn the temperature, which begins with `temperature`")
    symmetric: bool = Field(False, description="loss contrastive also finds the first input by the second one")
    margin: float | None = Field(
        None, gt=0, le=2, description="difference of cosines (triplet, 0.2), or of a cosine from 1 (margin, 0.5)"
    )
    online: bool = Field(
        False, description="loss margin learns only from pairs of a batch that others of the other kind overlap"
    )
    ranks: bool = Field(
        True,
        description="search each row's first input among the second inputs of all rows, for recall and ranks; the cost "
        "grows with the square of the rows",
    )

    @property
    def kind(self) -> Loss:
        """The loss."""
        return self.loss or ("contrastive" if self.column is None else "cosine")

    @property
    def distance(self) -> float:
        """The margin."""
        return self.margin or _MARGINS[self.kind]

    def pair(self, inputs: Sequence[str]) -> Sequence[str]:
        """The inputs that are compared: the two of these that are no negatives, unless they are named."""
        return [name for name in inputs if name not in self.negatives] if self.inputs is None else self.inputs

    def vector_inputs(self, inputs: Sequence[str]) -> Sequence[str]:
        """The pair, then the negatives."""
        return [*self.pair(inputs), *self.negatives]

    def needed_inputs(self, inputs: Sequence[str]) -> Sequence[str]:
        """The pair; rows may lack negatives."""
        return self.pair(inputs)

    @property
    def has_row_losses(self) -> bool:
        """No: vectors are compared, and targets are about pairs."""
        return False

    @property
    def compares_rows(self) -> bool:
        """Contrastive losses and online margins do, whose negatives are the other rows of the batch."""
        return self.kind == "contrastive" or (self.kind == "margin" and self.online)

    @property
    def AVERAGED(self) -> tuple[str, ...]:  # type: ignore[override]  # noqa: N802
        """What all losses of one kind measure."""
        first: dict[Loss, str] = {"cosine": "spearman", "margin": "average_precision", "triplet": "triplet_accuracy"}
        return (first.get(self.kind, "mrr" if self.ranks else "loss"),)

    def unmeasured(self) -> dict[str, str]:
        """Metrics of other losses."""
        measured = ("loss", *_MEASURED[self.kind])
        reason = f"with loss {self.kind!r}"
        found = {name: reason for name in self.metrics() if name in _OWN and name not in measured}
        if not self.ranks:
            found |= dict.fromkeys((name for name in RANKS if name in measured), "with ranks: false")
        if not self.negatives:
            found.setdefault(TRIPLETS, "without negatives")
        return found

    def columns(self) -> dict[str, Column]:
        """Scores and groups."""
        kind = ColumnType.BOOLEAN if self.kind == "margin" else ColumnType.NUMBER
        found = {} if self.column is None else {self.column: Column(kind)}
        return found if self.group is None else {**found, self.group: Column(ColumnType.CATEGORY, "group")}

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Inputs that are not there, options of other losses, a loss that has nothing to compare."""
        place, kind = f"outputs.{name}", self.kind
        yield from self._input_faults(place, sections)
        if self.column is None and kind in _OPTIONS["column"]:
            what = "the score of each pair" if kind == "cosine" else "whether a pair matches"
            yield Fault(f"{place}.column", f"is missing; loss {kind!r} needs the column with {what}")
        for option, losses in _OPTIONS.items():
            if kind not in losses:
                has = " and ".join(map(repr, losses))
                yield from ignored(
                    place, self, option, f"with loss {kind!r} ({has} {'have' if losses[1:] else 'has'} it)"
                )
        if self.range is not None and self.range[0] >= self.range[1]:
            yield Fault(f"{place}.range", f"{self.range} does not rise; give the lowest score first")
        if self.group is not None and self.group == self.column:
            yield Fault(f"{place}.group", f"column {self.group!r} holds the scores already")
        if kind == "triplet" and not self.negatives:
            yield Fault(f"{place}.negatives", "is missing; a triplet is the pair of `inputs` and a negative")
        lonely = sections.data is not None and sections.data.batch_size == 1
        if lonely and kind == "contrastive" and not self.negatives:
            yield Fault("data.batch_size", f"is 1; outputs.{name} (loss contrastive) compares the rows of a batch")

    def _input_faults(self, place: str, sections: Sections) -> Iterator[Fault]:
        names = sections.input_names
        listed = ", ".join(map(repr, names))
        given = {f"inputs[{number}]": source for number, source in enumerate(self.inputs or ())}
        given |= {f"negatives[{number}]": source for number, source in enumerate(self.negatives)}
        for number, (key, source) in enumerate(given.items()):
            if source not in names:
                yield Fault(f"{place}.{key}", f"{source!r} is no input (there are: {listed}){nearest(source, names)}")
            elif source in list(given.values())[:number]:
                yield Fault(f"{place}.{key}", f"{source!r} is compared with itself; name two inputs")
        if self.inputs is None and len(self.pair(names)) != 2:
            pair = "name the two that are compared" if len(names) > 1 else "a second input is needed"
            yield Fault(f"{place}.inputs", f"is missing; {pair} (there are: {listed})")
        writing = {sections.token_inputs[other] for other, x in sections.outputs.items() if x.target_text is not None}
        for key, source in given.items():
            if source in writing:
                yield Fault(f"{place}.{key}", f"the states of {source!r} are those of a text that is written from it")


_OWN = frozenset(metric.name for metric in SimilarityOutputConfig.METRICS)
