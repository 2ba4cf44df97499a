"""A warm start: which weights of another run a run begins with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from pydantic import Field

from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, nearest


class StartFromConfig(Strict):
    """Weights of another run that this one begins with, by module or by tensor."""

    run: str = Field(description="run folder, or the bundle in it")
    load: dict[str, str] = Field(
        min_length=1,
        description="what is loaded: what of the other run; inputs.NAME, fusion, outputs.NAME, something within, or "
        "patterns of names of tensors in which * stands for the same text",
    )
    fitted: Literal["same", "take", "own"] = Field(
        "same",
        description="what loaded inputs and outputs learned from training rows (vocabulary, categories, "
        "normalization): same: it must be that of the other run; take: it is taken over; own: it is not checked",
    )
    allow_missing: bool | list[str] = Field(
        False,
        description="patterns of names of tensors that may have no counterpart of their shape (true: any); those of "
        "this run keep their first weights",
    )
    freeze: bool | list[str] = Field(
        False, description="modules and patterns of names of loaded tensors that are not trained (true: all of them)"
    )

    def faults(self, own: Iterable[str], other: Iterable[str] | None) -> Iterator[Fault]:
        """Modules that do not exist.

        Args:
            own: modules of this experiment.
            other: those of the other run; None if they are not known.
        """
        known = [("this experiment", set(own))]
        if other is not None:
            known.append((self.run, set(other)))
        for here, there in self.load.items():
            place = f"start_from.load.{here}"
            if here.count("*") != there.count("*"):
                yield Fault(place, f"{here!r} and {there!r} must have the same number of *")
            for name, (whose, modules) in zip((here, there), known, strict=False):
                module = module_of(name)
                if "*" not in module and module not in modules:
                    listed = ", ".join(sorted(modules))
                    message = f"{name!r} is in no module of {whose}, which has {listed}{nearest(module, modules)}"
                    yield Fault(place, message)


def module_of(name: str) -> str:
    """The module that a name is in: ``inputs.NAME``, ``outputs.NAME`` or ``fusion``; a pattern may name several.

    >>> module_of("inputs.text.backbone.layers.*"), module_of("fusion.blocks.0"), module_of("*")
    ('inputs.text', 'fusion', '*')
    """
    first, *rest = name.split(".")
    return ".".join([first, *rest[:1]]) if first in ("inputs", "outputs") or "*" in first else first


def modules_of(inputs: Mapping[str, object], outputs: Mapping[str, object]) -> list[str]:
    """The modules of an experiment; those of messages and adversaries may be there."""
    own = [*(f"inputs.{name}" for name in inputs), "fusion", *(f"outputs.{name}" for name in outputs)]
    return [*own, "broker", "adversaries"]
