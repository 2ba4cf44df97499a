"""A warm start: a run begins with weights of another one's bundle, and with what these weights depend on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.start_from import StartFromConfig, module_of, modules_of
from eir_seq.data.readers.base import FaultLog
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.modalities.base import FittedModality, Modality
from eir_seq.outputs.base import FittedOutput
from eir_seq.remote import by_url, fetched_bundle, is_url
from eir_seq.training.bundle import WEIGHTS, Bundle, read_bundle
from eir_seq.training.checkpoints import MANIFEST
from eir_seq.training.network import Network

PLACE = "start_from"


@dataclass
class WarmStart:
    """The bundle that a run begins with.

    Example:
        >>> renamed("inputs.text.backbone.layers.3.bias", "inputs.*.layers.*", "inputs.*.blocks.*")
        'inputs.text.backbone.blocks.3.bias'
    """

    config: StartFromConfig
    bundle: Bundle
    folder: Path
    record: dict[str, Any] = field(default_factory=dict)
    """For the manifest: the run, hashes of its files, what was loaded."""

    @classmethod
    def open(cls, config: ExperimentConfig) -> WarmStart | None:
        """Read the bundle that `start_from` names; None if there is no such section.

        Raises:
            UserError: there is none, or it is damaged, or one of the modules does not exist.
        """
        start = config.start_from
        if start is None:
            return None
        run = start.run
        if is_url(run):
            run = str(fetched_bundle(run, f"{PLACE}.run", config.cache_dir))
        folder = bundle_of(run)
        bundle = read_bundle(folder)
        own, other = (modules_of(part.inputs, part.outputs) for part in (config, bundle.config))
        if faults := list(start.faults(own, other)):
            raise UserError(*faults)
        hashes = {name: _sha256(folder / name) for name in (WEIGHTS, MANIFEST) if (folder / name).is_file()}
        record = {
            "run": by_url(str(folder.absolute())),
            "sha256": hashes,
            "load": dict(start.load),
            "fitted": start.fitted,
        }
        return cls(start, bundle, folder, record)

    def pairs(self, own: Mapping[str, object], section: str) -> Iterator[tuple[str, str]]:
        """Inputs or outputs of this run and those of the other whose weights they get; `section` names which."""
        for name in own:
            module = f"{section}.{name}"
            for here, there in self.config.load.items():
                found = renamed(module, module_of(here), module_of(there))
                kind, _, other = (found or "").partition(".")
                if kind == section and other in getattr(self.bundle, section):
                    yield name, other

    def prepared(self, modalities: Mapping[str, Modality]) -> dict[str, Modality]:
        """The inputs, of which those take over what was fitted that are to."""
        found = dict(modalities)
        if self.config.fitted == "take":
            for name, other in self.pairs(modalities, "inputs"):
                self._check_type(f"inputs.{name}", modalities[name].config, self.bundle.inputs[other].config)
                found[name] = modalities[name].adopting(self.bundle.inputs[other])
        return found

    def output(self, name: str, fitted: FittedOutput) -> FittedOutput:
        """An output, with the classes or the scale of the other run where it is to take them over."""
        for own, other in self.pairs({name: fitted}, "outputs") if self.config.fitted == "take" else ():
            source = self.bundle.outputs[other]
            self._check_type(f"outputs.{own}", fitted.config, source.config)
            if fitted.FITTED_FIELDS != ():
                fitted = source.renamed(name, fitted.config)
        return fitted

    def check(self, inputs: Mapping[str, FittedModality], outputs: Mapping[str, FittedOutput]) -> None:
        """Raise `UserError` for inputs and outputs whose weights depend on something that they learned otherwise."""
        if self.config.fitted != "same":
            return
        faults = []
        for section, own, others in (("inputs", inputs, self.bundle.inputs), ("outputs", outputs, self.bundle.outputs)):
            for name, other in self.pairs(own, section):
                fitted: Any = own[name]
                if fitted.config.type != others[other].config.type or not fitted.same_state(others[other]):
                    sizes = [part.describe().get("vocab_size") for part in (fitted, others[other])]
                    shown = f" ({sizes[0]:,} and {sizes[1]:,} tokens)" if None not in sizes else ""
                    what = "vocabulary, categories or normalization" if section == "inputs" else "classes or scale"
                    message = f"{what}, on which the loaded weights depend, differ from those of {section}.{other} of"
                    hint = "start_from.fitted=take takes them over, own keeps these"
                    faults.append(Fault(f"{section}.{name}", f"{message} {self.config.run}{shown}; {hint}"))
        if faults:
            raise UserError(*faults)

    def load_into(self, network: Network) -> None:
        """Put the weights in their places and freeze what is to be frozen.

        Raises:
            UserError: tensors without a counterpart of their shape, patterns that fit nothing.
        """
        own, faults = network.public_tensors(), FaultLog()
        other, shared = self.bundle.network.public_tensors(), self.bundle.network.public_tensors(shared=True)
        loaded: dict[str, str] = {}
        left: list[str] = []
        hinted: set[str] = set()

        def note(name: str, place: str, message: str) -> None:
            if self._may_miss(name):
                left.append(name)
            else:
                hint = "" if place in hinted else f"; start_from.allow_missing=[{name}] accepts that"
                hinted.add(place)
                faults.add(f"tensors of {place}", place, message + hint)

        for here, there in self.config.load.items():
            place, run = f"{PLACE}.load.{here}", self.config.run
            wanted = {name: found for name in own if (found := renamed(name, here, there)) is not None}
            if not wanted:
                faults.add("patterns", place, f"{here!r} fits no tensor{nearest(here, own)}")
            given = [name for name in other if renamed(name, there, there) is not None]
            if not given and not any(name in shared for name in wanted.values()):
                faults.add("patterns", place, f"{there!r} fits no tensor of {run}{nearest(there, other)}")
                continue
            for name, found in wanted.items():
                if name in loaded:
                    faults.add("twice", place, f"{name} is loaded twice: of {loaded[name]} and of {found}")
                elif found not in shared:
                    note(name, place, f"{name} has no counterpart {found} in {run}")
                elif shared[found].shape != own[name].shape:
                    shapes = f"{tuple(own[name].shape)}, and {found} of {run} is {tuple(shared[found].shape)}"
                    note(name, place, f"{name} is {shapes}")
                else:
                    loaded[name] = found
            taken = {id(shared[name]) for name in wanted.values() if name in shared}
            for name in given:
                if id(other[name]) not in taken:
                    note(name, place, f"{name} of {run} has no counterpart here")
        faults.raise_any()
        with torch.no_grad():
            for name, found in loaded.items():
                own[name].copy_(shared[found])
        frozen = self._freeze(network, {name: own[name] for name in loaded})
        self.record |= {"tensors": len(loaded), "frozen": frozen, "missing": sorted(set(left))}

    def _freeze(self, network: Network, loaded: Mapping[str, torch.Tensor]) -> int:
        chosen, freeze = dict(loaded), self.config.freeze
        place = f"{PLACE}.freeze"
        if isinstance(freeze, list):
            patterns = {pattern: [name for name in loaded if renamed(name, pattern, pattern)] for pattern in freeze}
            faults = [
                Fault(place, f"{pattern!r} fits no loaded tensor{nearest(pattern, loaded)}")
                for pattern, found in patterns.items()
                if not found
            ]
            if faults:
                raise UserError(*faults)
            chosen = {name: loaded[name] for found in patterns.values() for name in found}
        if freeze is False:
            return 0
        network.freeze({id(tensor) for tensor in chosen.values()})
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise UserError(Fault(place, "nothing is left to train"))
        return len(chosen)

    def _may_miss(self, name: str) -> bool:
        allowed = self.config.allow_missing
        return allowed if isinstance(allowed, bool) else any(renamed(name, text, text) for text in allowed)

    def _check_type(self, place: str, own: Any, other: Any) -> None:
        if own.type != other.type:
            message = f"is of type {own.type}, and what it is loaded from in {self.config.run} of type {other.type}"
            raise UserError(Fault(place, message))


def renamed(name: str, pattern: str, target: str) -> str | None:
    """The name with `target` in the place of `pattern`, a module or a pattern with *; None if it does not fit."""
    if "*" not in pattern:
        fits = name == pattern or name.startswith(f"{pattern}.")
        return target + name[len(pattern) :] if fits else None
    found = re.fullmatch("(.*)".join(map(re.escape, pattern.split("*"))), name)
    if found is None:
        return None
    parts: Sequence[str] = target.split("*")
    return "".join(part + text for part, text in zip(parts, (*found.groups(), ""), strict=True))


def bundle_of(run: str) -> Path:
    """The folder of the bundle that a path means.

    Raises:
        UserError: there is none.
    """
    folder = Path(run).expanduser()
    for found in (folder, folder / "bundle"):
        if (found / MANIFEST).is_file() and (found / WEIGHTS).is_file():
            return found
    hint = f"; name one of its folds, such as {folder / 'fold_0'}" if (folder / "fold_0").is_dir() else ""
    raise UserError(Fault(f"{PLACE}.run", f"{run} is neither a finished run with its bundle nor a bundle{hint}"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
