"""What experiments can name, each registered by one line: its name, and ``module:Name`` of what stands for it.

A line imports nothing; the module is imported when its entry is looked up. Other packages add entries, see
`eir_seq.plugins`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from eir_seq.errors import Fault, UserError, nearest

SHIPPED = "eir_seq"
"""Origin of the entries that ship."""


class Registry(Mapping[str, Any]):
    """Entries of one group by name, imported when they are looked up.

    Args:
        group: of the entries, such as ``outputs``.
        entries: ``module:Name`` by name; the order is that of listings.

    Example:
        >>> from eir_seq.registry import Registry
        >>> registry = Registry("numbers", {"fraction": "fractions:Fraction"})
        >>> registry["fraction"](1, 2)
        Fraction(1, 2)
    """

    def __init__(self, group: str, entries: Mapping[str, str]) -> None:
        self.group = group
        self._targets = dict(entries)
        self._origins = dict.fromkeys(entries, SHIPPED)
        self._loaded: dict[str, Any] = {}

    def add(self, name: str, target: str, origin: str) -> None:
        """Register an entry from outside; the same line twice is one entry.

        Args:
            name: what experiments call it.
            target: ``module:Name``.
            origin: the package or module that registers it.

        Raises:
            UserError: the name is taken, or the target is not of that form.
        """
        place = f"plug-in {origin}"
        module, _, attribute = target.partition(":")
        if not module or not attribute:
            raise UserError(Fault(place, f"{self.group}.{name}: {target!r} is not of the form module:Name"))
        if self._targets.get(name, target) != target:
            taken = f"{name!r} of {self.group} is already registered by {self._origins[name]} ({self._targets[name]})"
            raise UserError(Fault(place, f"{taken}; give yours another name"))
        self._targets[name] = target
        self._origins.setdefault(name, origin)

    def origin(self, name: str) -> str:
        """The package or module that registered the entry."""
        return self._origins[name]

    @property
    def added(self) -> dict[str, str]:
        """The entries from outside, and the package or module that registered each."""
        return {name: origin for name, origin in self._origins.items() if origin != SHIPPED}

    def __getitem__(self, name: str) -> Any:
        """The entry, imported.

        Raises:
            KeyError: there is no such entry.
            UserError: the module of an entry from outside is not there or raises.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def _load(self, name: str) -> Any:
        target, origin = self._targets[name], self._origins[name]
        try:
            return imported(target)
        except Exception as error:
            if origin == SHIPPED:
                raise
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            message = f"{self.group}.{name} ({target}) cannot be imported: {reason}"
            raise UserError(Fault(f"plug-in {origin}", message)) from error


def imported(target: str) -> Any:
    """What ``module:Name`` stands for."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


INPUTS = Registry(
    "inputs",
    {
        "sequence": "eir_seq.modalities.sequence.config:SequenceInputConfig",
        "image": "eir_seq.modalities.image.config:ImageInputConfig",
        "tabular": "eir_seq.modalities.tabular.config:TabularInputConfig",
        "bytes": "eir_seq.modalities.bytes.config:BytesInputConfig",
        "array": "eir_seq.modalities.array.config:ArrayInputConfig",
        "omics": "eir_seq.modalities.omics.config:OmicsInputConfig",
    },
)
"""Config classes of inputs."""

OUTPUTS = Registry(
    "outputs",
    {
        "classification": "eir_seq.outputs.classification.config:ClassificationOutputConfig",
        "regression": "eir_seq.outputs.regression.config:RegressionOutputConfig",
        "multi_label": "eir_seq.outputs.multi_label.config:MultiLabelOutputConfig",
        "ordinal": "eir_seq.outputs.ordinal.config:OrdinalOutputConfig",
        "survival": "eir_seq.outputs.survival.config:SurvivalOutputConfig",
        "similarity": "eir_seq.outputs.similarity.config:SimilarityOutputConfig",
        "causal_lm": "eir_seq.outputs.causal_lm.config:CausalLmOutputConfig",
        "preference": "eir_seq.outputs.preference.config:PreferenceOutputConfig",
        "token_classification": "eir_seq.outputs.token_classification.config:TokenClassificationOutputConfig",
        "span": "eir_seq.outputs.span.config:SpanOutputConfig",
        "seq2seq_lm": "eir_seq.outputs.seq2seq_lm.config:Seq2SeqLmOutputConfig",
        "masked_lm": "eir_seq.outputs.masked_lm.config:MaskedLmOutputConfig",
        "replaced_token_detection": (
            "eir_seq.outputs.replaced_token_detection.config:ReplacedTokenDetectionOutputConfig"
        ),
        "span_corruption": "eir_seq.outputs.span_corruption.config:SpanCorruptionOutputConfig",
        "denoising": "eir_seq.outputs.denoising.config:DenoisingOutputConfig",
        "array": "eir_seq.outputs.array.config:ArrayOutputConfig",
        "image": "eir_seq.outputs.image.config:ImageOutputConfig",
    },
)
"""Config classes of outputs."""

ENCODERS = Registry(
    "encoders",
    {
        "tabular.mlp": "eir_seq.modalities.tabular.encoders.config:TabularMlpConfig",
        "tabular.ft-transformer": "eir_seq.modalities.tabular.encoders.config:FtTransformerConfig",
        "tabular.linear": "eir_seq.modalities.tabular.encoders.config:TabularLinearConfig",
        "image.cnn": "eir_seq.modalities.image.encoders.config:CnnConfig",
        "image.resnet": "eir_seq.modalities.image.encoders.config:ResNetConfig",
        "image.vit": "eir_seq.modalities.image.encoders.config:VitConfig",
        "image.identity": "eir_seq.modalities.image.encoders.config:PixelIdentityConfig",
        "image.timm": "eir_seq.modalities.image.encoders.config:TimmConfig",
        "array.cnn": "eir_seq.modalities.array.encoder_configs:ArrayCnnConfig",
        "array.lcl": "eir_seq.modalities.array.encoder_configs:ArrayLclConfig",
        "array.transformer": "eir_seq.modalities.array.encoder_configs:ArrayTransformerConfig",
        "array.linear": "eir_seq.modalities.array.encoder_configs:ArrayLinearConfig",
        "array.identity": "eir_seq.modalities.array.encoder_configs:ArrayIdentityConfig",
        "omics.genome-local-net": "eir_seq.modalities.omics.encoder_configs:GenomeLocalNetConfig",
        "omics.genome-local-net-informed-moe": "eir_seq.modalities.omics.encoder_configs:GroupedGenomeLocalNetConfig",
        "omics.lcl-simple": "eir_seq.modalities.omics.encoder_configs:OmicsSimpleLclConfig",
        "omics.cnn": "eir_seq.modalities.omics.encoder_configs:OmicsCnnConfig",
        "omics.linear": "eir_seq.modalities.omics.encoder_configs:OmicsLinearConfig",
        "omics.identity": "eir_seq.modalities.omics.encoder_configs:OmicsIdentityConfig",
    },
)
"""Config classes of encoders as ``INPUT.NAME``: what `model.model_type` of a kind of input may be besides the
architectures of the catalogue."""

DECODERS = Registry(
    "decoders",
    {
        **{f"{kind}.cnn": "eir_seq.outputs.arrays.decoder_configs:CnnDecoderConfig" for kind in ("array", "image")},
        **{f"{kind}.lcl": "eir_seq.outputs.arrays.decoder_configs:LclDecoderConfig" for kind in ("array", "image")},
        **{f"{kind}.unet": "eir_seq.outputs.arrays.decoder_configs:UNetDecoderConfig" for kind in ("array", "image")},
    },
)
"""Config classes of decoders as ``OUTPUT.NAME``: what `model.model_type` of an output of arrays or pictures may be."""

METRICS = Registry("metrics", {})
"""Metrics that others add to kinds of outputs, as ``TYPE.NAME``; each kind has its own in its config class."""

FUSIONS = Registry(
    "fusions",
    {
        "auto": "eir_seq.config.fusion:AutoFusionConfig",
        "concat": "eir_seq.config.fusion:ConcatFusionConfig",
        "identity": "eir_seq.config.fusion:IdentityFusionConfig",
        "linear": "eir_seq.config.fusion:LinearFusionConfig",
        "pass-through": "eir_seq.config.fusion:PassThroughFusionConfig",
        "mlp-residual": "eir_seq.config.fusion:MlpResidualFusionConfig",
        "mlp-residual-sum": "eir_seq.config.fusion:MlpResidualSumFusionConfig",
        "attention": "eir_seq.config.fusion:AttentionFusionConfig",
        "cross-attention": "eir_seq.config.fusion:CrossAttentionFusionConfig",
        "gated-experts": "eir_seq.config.fusion:GatedExpertsFusionConfig",
    },
)
"""Config classes of fusions."""

PROJECTIONS = Registry(
    "projections",
    {
        name: f"eir_seq.config.messages:{config}ProjectionConfig"
        for name, config in {
            "auto": "Auto",
            "identity": "Identity",
            "linear": "Linear",
            "pointwise": "Pointwise",
            "grouped-linear": "GroupedLinear",
            "mlp-residual": "MlpResidual",
            "lcl": "Lcl",
            "lcl-residual": "LclResidual",
            "lcl+mlp-residual": "LclMlpResidual",
            "pool": "Pool",
            "interpolate": "Interpolate",
            "cnn": "Cnn",
            "sequence": "Sequence",
        }.items()
    },
)
"""Config classes of projections of messages between layers."""

MESSAGE_FUSIONS = Registry(
    "message_fusions",
    {
        "additive": "eir_seq.config.messages:AdditiveConfig",
        "gated-sum": "eir_seq.config.messages:GatedSumConfig",
        "concat": "eir_seq.config.messages:ConcatConfig",
        "cross-attention": "eir_seq.config.messages:MessageCrossAttentionConfig",
    },
)
"""Config classes of fusions of messages with what a layer reads or gives."""

OPTIMIZERS = Registry(
    "optimizers",
    {
        "adamw": "eir_seq.config.optimization:AdamWConfig",
        "sgd": "eir_seq.config.optimization:SgdConfig",
        "adafactor": "eir_seq.config.optimization:AdafactorConfig",
        "adam": "eir_seq.config.optimizers:AdamConfig",
        "nadam": "eir_seq.config.optimizers:NAdamConfig",
        "radam": "eir_seq.config.optimizers:RAdamConfig",
        "adamax": "eir_seq.config.optimizers:AdamaxConfig",
        "adabelief": "eir_seq.config.optimizers:AdaBeliefConfig",
        "rmsprop": "eir_seq.config.optimizers:RmsPropConfig",
        "adagrad": "eir_seq.config.optimizers:AdagradConfig",
        "adadelta": "eir_seq.config.optimizers:AdadeltaConfig",
        "asgd": "eir_seq.config.optimizers:AsgdConfig",
        "muon": "eir_seq.config.optimizers:MuonConfig",
    },
)
"""Config classes of optimizers."""

SCHEDULERS = Registry(
    "schedulers",
    {
        **dict.fromkeys(("constant", "linear", "cosine", "one-cycle"), "eir_seq.config.optimization:SchedulerConfig"),
        "plateau": "eir_seq.config.optimization:PlateauConfig",
    },
)
"""Config classes of learning rate schedules."""

TRACKERS = Registry(
    "trackers",
    {
        "csv": "eir_seq.config.trackers:CsvTrackerConfig",
        "wandb": "eir_seq.config.trackers:WandbTrackerConfig",
        "mlflow": "eir_seq.config.trackers:MlflowTrackerConfig",
        "tensorboard": "eir_seq.config.trackers:TensorboardTrackerConfig",
    },
)
"""Config classes of experiment trackers."""

TOKENIZERS = Registry(
    "tokenizers",
    {
        "word": "eir_seq.config.tokenizers:WordTokenizerConfig",
        "character": "eir_seq.config.tokenizers:CharacterTokenizerConfig",
        "byte": "eir_seq.config.tokenizers:ByteTokenizerConfig",
        **dict.fromkeys(("bpe", "wordpiece", "unigram"), "eir_seq.config.tokenizers:TrainedTokenizerConfig"),
        "published": "eir_seq.config.tokenizers:PublishedTokenizerConfig",
    },
)
"""Config classes of tokenizers."""

SOURCES = Registry(
    "sources",
    {
        "sample": "eir_seq.data.readers:FILES",
        "table": "eir_seq.data.readers:FILES",
        "hub": "eir_seq.data.readers.hub:HUB",
    },
)
"""Where rows come from (`eir_seq.data.readers.base.Reader`), by the name that ``data.source`` uses."""

READERS = Registry(
    "readers",
    {
        **dict.fromkeys(("csv", "tsv", "tab"), "eir_seq.data.readers.delimited:DELIMITED"),
        **dict.fromkeys(("jsonl", "ndjson", "json"), "eir_seq.data.readers.jsonl:JSON_LINES"),
        **dict.fromkeys(("parquet", "pq"), "eir_seq.data.readers.columnar:PARQUET"),
        **dict.fromkeys(("arrow", "feather", "ipc"), "eir_seq.data.readers.columnar:ARROW"),
        **dict.fromkeys(("conll", "bio", "iob"), "eir_seq.data.readers.conll:CONLL"),
        "txt": "eir_seq.data.readers.text:TEXT",
    },
)
"""Readers of table files (`eir_seq.data.readers.base.Reader`) by the suffix of the file."""

ARCHITECTURES = Registry("architectures", {})
"""Catalogue entries (`eir_seq.models.entry.Entry`) added from outside; built-in ones are in ``entry.py``."""

EXPLANATIONS = Registry(
    "explanations", {"integrated-gradients": "eir_seq.explanations.config:IntegratedGradientsConfig"}
)
"""Config classes of methods of attribution, by the `method` of an input's `interpretation`."""

CALLBACKS = Registry(
    "callbacks",
    {
        "rich_progress": "eir_seq.config.callbacks:RichProgressConfig",
        "learning_rate_monitor": "eir_seq.config.callbacks:LearningRateMonitorConfig",
        "device_stats": "eir_seq.config.callbacks:DeviceStatsConfig",
    },
)
"""Config classes of Lightning callbacks."""

GROUPS: dict[str, Registry] = {
    registry.group: registry
    for registry in (
        INPUTS,
        ENCODERS,
        OUTPUTS,
        DECODERS,
        METRICS,
        FUSIONS,
        PROJECTIONS,
        MESSAGE_FUSIONS,
        OPTIMIZERS,
        SCHEDULERS,
        TRACKERS,
        TOKENIZERS,
        SOURCES,
        READERS,
        ARCHITECTURES,
        EXPLANATIONS,
        CALLBACKS,
    )
}
"""All registries by the name of their group."""


def encoders_of(kind: str) -> tuple[str, ...]:
    """The names of the encoders of a kind of input.

    >>> "cnn" in encoders_of("image")
    True
    """
    return tuple(name for entry in ENCODERS for of, _, name in [entry.partition(".")] if of == kind)


def unknown(registry: Registry, name: str) -> str:
    """That an entry does not exist, with all there are and the nearest of them."""
    return f"{name!r} is not one of {', '.join(registry)}{nearest(name, registry)}"
