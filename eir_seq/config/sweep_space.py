"""The space of a search: its keys, their values, and the settings that these give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from eir_seq.config.errors import yaml_text
from eir_seq.config.quoting import COMMAND_LINE
from eir_seq.errors import Fault, UserError

GROUP = "sweep"


@dataclass(frozen=True)
class Dimension:
    """A key of the space and the values that it may have.

    Attributes:
        kind: `choices` are texts in Hydra's grammar; `integer` and `float` lie from `low` to `high`, both included.
        values: the choices as Python has them.
        when: the choices that other keys must have; all of them.
        source: the file and line, or the command line.
    """

    key: str
    kind: Literal["choice", "integer", "float"]
    source: str
    choices: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where faults of it are."""
        return self.key if self.source == COMMAND_LINE else f"{GROUP}.space.{self.key}"

    @property
    def ends(self) -> tuple[str, ...]:
        """Values that must all be valid: the choices, or the two ends."""
        return self.choices or tuple(dict.fromkeys(map(self.text, (self.low, self.high))))

    @property
    def points(self) -> tuple[Any, ...] | None:
        """All values, as `text` takes them; None if there are infinitely many."""
        if self.kind == "choice":
            return self.choices
        if self.step is None:
            return tuple(range(int(self.low), int(self.high) + 1)) if self.kind == "integer" else None
        count = round((self.high - self.low) / self.step) + 1
        points = [self.low + index * self.step for index in range(count)]
        return tuple(int(point) if self.kind == "integer" else point for point in points)

    def text(self, value: Any) -> str:
        """A value in Hydra's grammar."""
        if self.kind == "choice":
            return str(value)
        if self.kind == "integer":
            return str(int(value))
        return repr(float(value)) if self.step is None else repr(float(f"{value:.12g}"))

    def is_active(self, chosen: Mapping[str, Any]) -> bool:
        """Whether the key is set, where others have been `chosen`."""
        return all(chosen.get(key) in allowed for key, allowed in self.when.items())

    def find(self, value: Any) -> Any:
        """A value of a config as this dimension has it.

        Raises:
            ValueError: it has not.
        """
        if self.kind == "choice":
            for text, known in zip(self.choices, self.values, strict=True):
                if known == value and isinstance(known, bool) == isinstance(value, bool):
                    return text
            raise ValueError(f"{yaml_text(value)} is not one of {', '.join(self.choices)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{yaml_text(value)} is not a number")
        if not self.low <= value <= self.high:
            raise ValueError(f"{value} is not from {self.text(self.low)} to {self.text(self.high)}")
        if self.kind == "integer" and value != int(value):
            raise ValueError(f"{value} is not an integer")
        return int(value) if self.kind == "integer" else float(value)


def grid(space: Sequence[Dimension], most: int) -> list[dict[str, Any]]:
    """Every combination of the values of a space, keys whose condition does not hold left out.

    Raises:
        UserError: there are more than `most`.
    """
    found: list[dict[str, Any]] = [{}]
    for item in space:
        assert item.points is not None
        found = [
            {**chosen, **extra}
            for chosen in found
            for extra in ([{item.key: point} for point in item.points] if item.is_active(chosen) else [{}])
        ]
        if len(found) > most:
            raise UserError(Fault("sweep.sampler", f"the grid has more than {most} points; choose another sampler"))
    return found


def ends(space: Sequence[Dimension]) -> list[dict[str, str]]:
    """Settings, as texts, that have each end of each dimension once, the others at their first."""
    by_key = {item.key: item for item in space}
    found = [_completed(space, {})]
    for item in space:
        for text in item.ends:
            forced = {item.key: text}
            _require(item, by_key, forced)
            found.append(_completed(space, forced))
    unique = {tuple(sorted(setting.items())): setting for setting in reversed(found)}
    return list(reversed(unique.values()))


def _require(item: Dimension, by_key: Mapping[str, Dimension], forced: dict[str, str]) -> None:
    """Have the conditions of a dimension hold, and those of the keys that these are about."""
    for key, allowed in item.when.items():
        forced.setdefault(key, allowed[0])
        _require(by_key[key], by_key, forced)


def _completed(space: Sequence[Dimension], forced: Mapping[str, str]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for item in space:
        if item.is_active(chosen):
            chosen[item.key] = forced.get(item.key, item.ends[0])
    return chosen
