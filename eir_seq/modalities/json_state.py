"""Inputs whose fitted state is JSON: all but encoding, tensors and encoder is done here."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from eir_seq.config.inputs import InputBase
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.modalities.base import STATE_FILE, FittedModality, Modality
from eir_seq.registry import INPUTS
from eir_seq.rows import Rows


class JsonFittedModality(FittedModality):
    """A fitted input whose `state`, what `JsonModality.learn` gave, is plain data.

    It needs `encode` and `collator`, and `build_encoder` where the config has no `model`.
    """

    def __init__(self, name: str, config: InputBase, state: Any) -> None:
        self.name, self.config, self.state = name, config, state

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the config declares."""
        return tuple(self.config.columns())

    def fingerprint(self) -> str:
        """Hash of state and config but for what reads the encoded rows."""
        config = self.config.model_dump(mode="json", exclude={"model", "modality_dropout", "interpretation"})
        return hashlib.sha256(json.dumps([config, self.state], sort_keys=True).encode()).hexdigest()

    def show(self, rows: Mapping[str, Sequence[Any]]) -> list[str]:
        """The values of each row."""
        return [", ".join(map(str, row)) for row in zip(*(rows[name] for name in self.columns), strict=True)]

    def describe(self) -> dict[str, Any]:
        """The config."""
        return self.config.model_dump(mode="json")

    def save(self, folder: str | Path) -> None:
        """Write ``input.json`` into `folder`, which is made if absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"name": self.name, **self._content()}, indent=2)
        (folder / STATE_FILE).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` wrote; raises `UserError` if it is missing or damaged."""
        path = Path(folder) / STATE_FILE
        try:
            content = read_json(path)
            config = INPUTS[content["config"]["type"]].model_validate(content["config"])
            return cls(content["name"], config, content["state"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(Fault(str(path), f"no fitted input ({type(error).__name__}: {error})")) from None

    def _content(self) -> dict[str, Any]:
        return {"config": self.config.model_dump(mode="json"), "state": self.state}


class JsonModality(Modality):
    """An input as configured, which `learn` fits."""

    FITTED: ClassVar[type[JsonFittedModality]]

    def fit(self, train_rows: Rows, seed: int) -> JsonFittedModality:
        """The fitted input."""
        return self.FITTED(self.name, self.config, self.learn(train_rows, seed))

    @abstractmethod
    def learn(self, train_rows: Rows, seed: int) -> Any:
        """What encoding needs to know of the training rows, as plain data."""
