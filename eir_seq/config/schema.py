"""The experiment as typed data: every key that a YAML file may hold, its type, range, default and meaning.

The composed YAML is validated against `ExperimentConfig`. Unknown keys are refused at every depth. Nothing here imports
torch, so that a config error is reported in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from eir_seq.config.broker import AdversaryConfig, MessageConfig
from eir_seq.config.cache import CacheConfig
from eir_seq.config.callbacks import CallbackBase
from eir_seq.config.fusion import AutoFusionConfig
from eir_seq.config.inputs import InputBase, with_shared
from eir_seq.config.kinds import FusionConfig, OptimizerConfig, TrackerConfig, union
from eir_seq.config.kinds import SchedulerConfig as AnySchedulerConfig
from eir_seq.config.latents import LatentsConfig
from eir_seq.config.mixing import MixingConfig
from eir_seq.config.optimization import AdamWConfig, SchedulerConfig
from eir_seq.config.outputs import Conversation, DocumentLayout, OutputBase, Questions, TargetText
from eir_seq.config.start_from import StartFromConfig
from eir_seq.config.strict import Delimiter, Fraction, Name, Positive, Several
from eir_seq.config.strict import Strict as Strict
from eir_seq.config.trackers import CsvTrackerConfig
from eir_seq.config.training import AveragingConfig, FixedWeightingConfig, WeightingConfig
from eir_seq.registry import CALLBACKS, INPUTS, OUTPUTS, SOURCES

# ---------------------------------------------------------------------------------------------------------- data


if TYPE_CHECKING:
    SourceName = str
else:
    SourceName = Literal[tuple(SOURCES)]


class DataConfig(Strict):
    """Where the rows come from, how they are split, and how they become batches."""

    source: SourceName = Field("table", description="a shipped sample, files, or a Hub dataset")
    name: str | None = Field(None, description="name of the shipped sample or id of the Hub dataset")
    subset: str | None = Field(None, description="configuration of the Hub dataset")
    revision: str | None = Field(None, description="revision of the Hub dataset")
    train: str | None = Field(
        None,
        description="file (csv, tsv, jsonl, parquet, arrow; txt is one text) or folder of one text file per id; a "
        "split for hub; in place of the sample if that is the source",
    )
    validation: str | Fraction | Several | None = Field(
        0.1,
        description="fraction of the training rows (0.1; of a single text, its last part), number of them (500), file "
        "of their ids (.txt with one per line, or a table of ids alone), file of other rows, or Hub split",
    )
    test: str | Fraction | Several | None = Field(
        None,
        description="as `validation`, or a folder; a fraction or number of the training rows is drawn as that of "
        "`validation`",
    )
    folds: Several | None = Field(
        None,
        description="cross-validation: number of folds of the training rows; each is the test set of one run",
    )
    fold: int | None = Field(None, ge=0, description="train only this fold, counted from 0")
    file_dir: str | None = Field(
        None,
        description="folder of the files that cells name: names are relative to it, and files outside of it are "
        "refused; by default that of the data file",
    )
    labels: str | None = Field(None, description="table of labels by id, for a folder of one text file per id")
    rename: dict[str, str] = Field(
        default_factory=dict,
        description="old column name: new one, applied right after reading, so that data with other names suit an "
        "experiment",
    )
    id: str | None = Field(None, description="column that names each row; row numbers if absent")
    group: str | None = Field(None, description="column of groups whose rows stay in the same split")
    stratify: str | None = Field(
        "auto",
        description="column to stratify splits and folds by; auto: the first output of classes, levels or events",
    )
    split_seed: int = Field(0, ge=0, description="seed of the random splits; the same for every `seed`")
    delimiter: Delimiter | None = Field(
        None, description=r"field separator of CSV files (a tab is \t); by file suffix if absent"
    )
    quote: str | None = Field(
        '"', min_length=1, max_length=1, description="quote of CSV and TSV files; null: quotes are ordinary characters"
    )
    missing_labels: list[str] = Field(
        default=["", "NA", "N/A", "NaN", "nan", "None", "null", "NULL"],
        description="values of a target column that stand for a missing label",
    )
    on_bad_row: Literal["error", "skip"] = Field(
        "error", description="skip leaves out rows without text or with an unusable label, counts and lists them"
    )
    on_missing: Literal["error", "keep"] = Field(
        "error",
        description="keep: a row may lack inputs (a learned vector takes their place) and targets (they have no part "
        "in losses and metrics); it has at least one of each",
    )
    limit: Positive | None = Field(None, description="use only that many training rows")
    batch_size: Positive = Field(32, description="rows per batch")
    eval_batch_size: Positive | None = Field(None, description="rows per batch outside training; batch_size if absent")
    max_tokens: Positive | None = Field(None, description="upper bound of padded tokens per batch (over all inputs)")
    length_buckets: bool = Field(True, description="batches of rows of similar length, to save padding")
    packing: Literal["auto", "never"] = Field(
        "auto", description="skip padding where the architecture supports it (block-diagonal attention)"
    )
    weighted_sampling: str | list[str] | None = Field(
        None,
        description="classification output whose classes are sampled equally often; of several outputs, rows are "
        "sampled by the mean of the inverse frequencies of their classes",
    )
    num_workers: int = Field(0, ge=0, le=256, description="processes that prepare batches")
    streaming: bool = Field(
        False,
        description="read the training rows again in each epoch instead of keeping them: `train` names files (parquet, "
        "arrow, csv, tsv, jsonl, txt with a row per line), a folder or a pattern of them, or a Hub split",
    )
    shuffle_buffer: Positive = Field(
        10_000, description="streamed rows that are held, shuffled, and batched by length at a time"
    )
    fit_rows: Positive = Field(
        50_000, description="size of the random sample of streamed rows that inputs and outputs are fitted on"
    )
    cache_dir: str | None = Field(None, description="the earlier name of cache.dir")

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _is_share(cls, value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and not (0 < value < 1 or (isinstance(value, int) and 2 <= value < 2**63)):
            raise ValueError(
                f"{value} is neither a fraction of the rows, such as 0.1, nor a number of rows, such as 500"
            )
        return value

    @property
    def sampled_by(self) -> list[str]:
        """The outputs by whose classes rows are sampled."""
        given = self.weighted_sampling
        return [given] if isinstance(given, str) else given or []

    @property
    def reads_files(self) -> bool:
        """Whether `train`, `validation` and `test` name files and folders."""
        return self.source in ("sample", "table")

    @property
    def reads_sample(self) -> bool:
        """Whether the training rows are those of a shipped sample; a file in its place is read as any other."""
        return self.source == "sample" and self.train is None


# -------------------------------------------------------------------------------------------------------- inputs

if TYPE_CHECKING:
    InputConfig = InputBase
else:
    InputConfig = union(INPUTS, InputBase, "sequence")


# ------------------------------------------------------------------------------------------------------- outputs

if TYPE_CHECKING:
    OutputConfig = OutputBase
else:
    OutputConfig = union(OUTPUTS, OutputBase)


# ------------------------------------------------------------------------------------------------------- trainer


class EarlyStoppingConfig(Strict):
    """Stop when the monitored value no longer improves."""

    patience: Positive = Field(3, description="evaluations without improvement")
    min_delta: float = Field(0.0, ge=0, description="smallest change that counts as an improvement")
    after_steps: int = Field(0, ge=0, description="evaluations up to this step use up no patience")
    after_epochs: int = Field(0, ge=0, description="the same up to the end of this epoch")


class MonitorConfig(Strict):
    """The value by which the best checkpoint is chosen."""

    output: str | None = Field(None, description="output name; absent: the sum of losses, or the average")
    metric: str = Field(
        "loss", description="metric of that output on the validation rows; average: the mean over all outputs"
    )
    mode: Literal["min", "max"] | None = Field(None, description="by the metric if absent")


Monitored = Annotated[
    MonitorConfig,
    BeforeValidator(
        lambda value: {"metric": value} if isinstance(value, str) else value, json_schema_input_type=MonitorConfig | str
    ),
]
"""What is monitored; a name alone is that of the metric."""


GPU_PRECISIONS = ("tf32", "16-mixed")
"""Values of `trainer.precision` that need a GPU."""
BatchLimit = Positive | Annotated[float, Field(gt=0, le=1)]


class TrainerConfig(Strict):
    """How long, how precisely and where to train."""

    max_epochs: Positive | None = Field(10, description="passes over the training rows")
    max_steps: Positive | None = Field(None, description="optimizer steps; whichever limit is hit first ends the run")
    precision: Literal["32", "tf32", "bf16-mixed", "16-mixed", 32] = Field(
        "32",
        description="floating-point precision; mixed keeps the weights in 32 bits, tf32 multiplies 32-bit matrices "
        "on a GPU's tensor cores",
    )
    gradient_clip: float | None = Field(1.0, gt=0, description="upper bound of the gradient norm")
    gradient_noise: float | None = Field(
        None, gt=0, description="standard deviation of normal noise that is added to the (clipped) gradient"
    )
    accumulate: Positive = Field(1, description="batches per optimizer step")
    averaging: AveragingConfig | None = Field(
        None, description="an average of the weights, which is evaluated and kept in place of the last ones"
    )
    loss_weighting: WeightingConfig = Field(
        FixedWeightingConfig(), description="how the losses of several outputs are weighted"
    )
    compile: bool = Field(False, description="compile the network by torch.compile; the first steps are slow")
    mixing: MixingConfig | None = Field(None, description="mix training rows, and their targets, in pairs")
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field("auto", description="device; auto: the fastest available")
    devices: Positive | Literal["auto"] = Field(
        1, description="processes on each machine, one per device; they share each batch. auto: all GPUs"
    )
    num_nodes: Positive = Field(1, description="number of machines")
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="how several processes hold the weights: ddp, a copy each (auto), or fsdp, a shard each",
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads; if absent, as many as pay for steps of this size"
    )
    validate_every: Positive | None = Field(None, description="steps between evaluations; each epoch if absent")
    checkpoint_every: Positive | None = Field(None, description="steps between checkpoints; each evaluation if absent")
    keep_checkpoints: Positive = Field(2, description="number of most recent checkpoints kept until the run finishes")
    keep_optimizer_state: bool = Field(
        False,
        description="keep the last checkpoint of a finished run, so that it can be extended; by default only its best "
        "weights stay, in the bundle",
    )
    monitor: Monitored = Field(MonitorConfig(), description="metric that selects the best checkpoint")
    early_stopping: EarlyStoppingConfig | None = Field(None, description="stop a run that no longer improves")
    train_metrics: bool = Field(
        False,
        description="also measure the training rows of the last steps, as they were when trained on; not mixed ones",
    )
    limit_train_batches: BatchLimit | None = Field(
        None, description="use that many batches of each epoch (an integer), or that share of them; all if absent"
    )
    limit_val_batches: BatchLimit | None = Field(None, description="the same for evaluations of validation rows")
    limit_test_batches: BatchLimit | None = Field(None, description="the same for test rows")
    overfit_batches: BatchLimit | None = Field(
        None,
        description="train on the same batches in every epoch, a number or a share of them, and use as many "
        "validation batches: a correct model overfits them",
    )
    profiler: Literal["simple", "advanced"] | None = Field(
        None, description="profile by hook or by function; written to RUN/profile/"
    )
    detect_anomaly: bool = Field(False, description="report the operation that gives a NaN gradient; slow")
    deterministic: bool | Literal["warn"] = Field(
        False, description="use deterministic algorithms only; an operation without one ends the run, or warns"
    )
    latents: LatentsConfig | None = Field(
        None,
        description="layers whose states are written for validation and test rows, by the best weights, to "
        "RUN/latents/; or just a list of layers",
    )
    benchmark: bool = Field(False, description="let cuDNN try its algorithms and take the fastest; for fixed sizes")

    def limit_of(self, split: str) -> int | float | None:
        """How many batches of a split are used, or which share; None: all."""
        limits = {"train": self.limit_train_batches, "validation": self.limit_val_batches}
        if split in limits and self.overfit_batches is not None:
            return self.overfit_batches
        return limits.get(split, self.limit_test_batches)


# ---------------------------------------------------------------------------------------------------------- run


if TYPE_CHECKING:
    CallbackConfig = CallbackBase
else:
    CallbackConfig = union(CALLBACKS, CallbackBase)


class RunConfig(Strict):
    """Where the run's files go."""

    dir: str | None = Field(None, description="run folder; by default ROOT/EXPERIMENT/TIME-HASH")
    root: str = Field("runs", description="folder that holds the run folders")


class ExperimentConfig(Strict):
    """One experiment: inputs, fusion, outputs, data, optimization and the run."""

    name: str = Field(
        "experiment",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="name of the experiment; by default that of its file",
    )
    note: str | None = Field(None, description="printed first, e.g. what the data are and how to get the real ones")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of every random decision of the run")
    data: DataConfig = Field(description="source of the rows")
    inputs: dict[Name, InputConfig] = Field(min_length=1)
    fusion: FusionConfig = Field(AutoFusionConfig(), description="how the inputs are fused")
    outputs: dict[Name, OutputConfig] = Field(min_length=1)
    broker: list[MessageConfig] = Field(default_factory=list, description="messages between layers, in this order")
    adversaries: list[AdversaryConfig] = Field(
        default_factory=list, description="networks whose reversed gradients take information out of layers"
    )
    optimizer: OptimizerConfig = Field(AdamWConfig(), description="optimizer and learning rate")
    scheduler: AnySchedulerConfig = Field(SchedulerConfig(), description="learning-rate schedule")
    trainer: TrainerConfig = Field(TrainerConfig(), description="length of training, precision, device, evaluation")
    callbacks: dict[Name, CallbackConfig] = Field(
        default_factory=dict, description="Lightning callbacks by names of your choice, called in this order"
    )
    tracker: TrackerConfig = Field(
        CsvTrackerConfig(), description="where metrics are logged in addition to metrics.csv"
    )
    start_from: StartFromConfig | None = Field(None, description="weights of another run to start from")
    run: RunConfig = Field(RunConfig(), description="the run folder")
    cache: CacheConfig = Field(CacheConfig(), description="where encoded rows and trained tokenizers are cached")

    @model_validator(mode="before")
    @classmethod
    def _with_shared(cls, given: Any) -> Any:
        """Inputs that share an encoder have the options of the one whose it is."""
        return {**given, "inputs": with_shared(given["inputs"], INPUTS)} if _has(given, "inputs") else given

    @model_validator(mode="after")
    def _with_questions(self) -> Self:
        """Inputs read the questions that outputs ask about them, and these outputs know the column of the text."""
        for name, output in list(self.outputs.items()):
            source = self.inputs.get(self.token_inputs.get(name, ""))
            if output.questions is not None and source is not None and source.text is not None:
                self.inputs[self.token_inputs[name]] = source.with_question(output.questions.column)
                self.outputs[name] = output.with_text(source.text.column)
        return self

    @property
    def source(self) -> str:
        """What rows are of, for people: the experiment and its training data."""
        data = self.data
        name = data.name if data.source == "hub" or data.reads_sample else PurePath(data.train or "").name
        return f"{self.name} ({name})" if name else self.name

    @property
    def cache_dir(self) -> str | None:
        """The cache folder, by either of its names; None: the user's one."""
        return self.cache.dir or self.data.cache_dir

    @property
    def token_inputs(self) -> dict[str, str]:
        """For each output that reads token states, the input that they are of."""
        return token_inputs(self.inputs, self.outputs)

    @property
    def state_inputs(self) -> dict[str, tuple[str, ...]]:
        """For each output whose head reads states of inputs by itself, these inputs."""
        found = {name: tuple(config.state_inputs(list(self.inputs))) for name, config in self.outputs.items()}
        return {name: inputs for name, inputs in found.items() if inputs}

    @property
    def vector_inputs(self) -> dict[str, tuple[str, ...]]:
        """For each output whose head reads vectors of inputs by itself, these inputs."""
        found = {name: tuple(config.vector_inputs(list(self.inputs))) for name, config in self.outputs.items()}
        return {name: inputs for name, inputs in found.items() if inputs}

    @property
    def grid_inputs(self) -> dict[str, tuple[str, ...]]:
        """For each output whose head reads values of inputs position by position, these inputs."""
        return {name: tuple(config.grid_inputs) for name, config in self.outputs.items() if config.grid_inputs}

    @property
    def owners(self) -> dict[str, str]:
        """For each input the one whose encoder reads it: itself, or what its `share` names."""
        return {name: config.share or name for name, config in self.inputs.items()}

    @property
    def written(self) -> dict[str, TargetText]:
        """By input, the texts that a decoder learns to write from it."""
        found = {name: text for name, config in self.outputs.items() if (text := config.target_text) is not None}
        return {self.token_inputs[name]: text for name, text in found.items()}

    @property
    def questions(self) -> dict[str, Questions]:
        """By input, the questions about its texts."""
        found = {name: asked for name, config in self.outputs.items() if (asked := config.questions) is not None}
        return {self.token_inputs[name]: asked for name, asked in found.items()}

    @property
    def conversations(self) -> dict[str, Conversation]:
        """By input, the conversations that are its text."""
        found = {name: spoken for name, config in self.outputs.items() if (spoken := config.conversation) is not None}
        return {self.token_inputs[name]: replace(spoken, output=name) for name, spoken in found.items()}

    @property
    def sentinels(self) -> dict[str, int]:
        """By input, the tokens for gaps that a tokenizer gets which is trained on it."""
        return {read: self.outputs[name].SENTINELS for name, read in self.token_inputs.items()}

    @property
    def document_layout(self) -> DocumentLayout | None:
        """How the rows of a language model hold its texts; None if rows are not those of a language model."""
        return document_layout(self.inputs, self.outputs)


def token_inputs(inputs: Mapping[str, InputConfig], outputs: Mapping[str, OutputBase]) -> dict[str, str]:
    """For each output that reads token states, the input that they are of; one that does not say which has the only."""
    sequences = [name for name, config in inputs.items() if config.HAS_TOKENS]
    only = sequences[0] if len(sequences) == 1 else ""
    reading = {name: config for name, config in outputs.items() if config.reads_tokens}
    return {name: getattr(config, "input", None) or only for name, config in reading.items()}


def document_layout(inputs: Mapping[str, InputConfig], outputs: Mapping[str, OutputBase]) -> DocumentLayout | None:
    """How rows hold texts if a language model is the only output; None if rows have other targets, too."""
    if not len(inputs) == len(outputs) == 1:
        return None
    (source,), (config,) = inputs.values(), outputs.values()
    return config.layout if source.fits_blocks else None


def _has(given: Any, key: str) -> bool:
    return isinstance(given, Mapping) and key in given
