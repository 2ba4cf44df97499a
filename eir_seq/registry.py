"""What experiments can name, each registered by one line: its name, and ``module:Name`` of what stands for it.

A line imports nothing; the module is imported when its entry is looked up. Other packages add entries, see
`eir_seq.plugins`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from eir_seq.errors import Fault, UserError, nearest


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
        self._origins = dict.fromkeys(entries, "eir_seq")
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

    def __getitem__(self, name: str) -> Any:
        """The entry, imported.

        Raises:
            KeyError: there is no such entry.
            UserError: an entry from outside cannot be imported.
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
        except (ImportError, AttributeError) as error:
            if origin == "eir_seq":
                raise
            message = f"{self.group}.{name} ({target}) cannot be imported: {error}"
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
    },
)
"""Config classes of inputs."""

OUTPUTS = Registry(
    "outputs",
    {
        "classification": "eir_seq.outputs.classification.config:ClassificationOutputConfig",
        "regression": "eir_seq.outputs.regression.config:RegressionOutputConfig",
        "causal_lm": "eir_seq.outputs.causal_lm.config:CausalLmOutputConfig",
        "token_classification": "eir_seq.outputs.token_classification.config:TokenClassificationOutputConfig",
        "seq2seq_lm": "eir_seq.outputs.seq2seq_lm.config:Seq2SeqLmOutputConfig",
        "masked_lm": "eir_seq.outputs.masked_lm.config:MaskedLmOutputConfig",
        "replaced_token_detection": (
            "eir_seq.outputs.replaced_token_detection.config:ReplacedTokenDetectionOutputConfig"
        ),
        "span_corruption": "eir_seq.outputs.span_corruption.config:SpanCorruptionOutputConfig",
        "denoising": "eir_seq.outputs.denoising.config:DenoisingOutputConfig",
    },
)
"""Config classes of outputs."""

METRICS = Registry("metrics", {})
"""Metrics that others add to kinds of outputs, as ``TYPE.NAME``; each kind has its own in its config class."""

CALLBACKS = Registry(
    "callbacks",
    {
        "rich_progress": "eir_seq.config.callbacks:RichProgressConfig",
        "learning_rate_monitor": "eir_seq.config.callbacks:LearningRateMonitorConfig",
        "device_stats": "eir_seq.config.callbacks:DeviceStatsConfig",
    },
)
"""Config classes of Lightning callbacks."""

GROUPS: dict[str, Registry] = {registry.group: registry for registry in (INPUTS, OUTPUTS, METRICS, CALLBACKS)}
"""All registries by the name of their group."""


def unknown(registry: Registry, name: str) -> str:
    """That an entry does not exist, with all there are and the nearest of them."""
    return f"{name!r} is not one of {', '.join(registry)}{nearest(name, registry)}"
