"""What `predict` needs for a sequence-to-sequence output: texts that stand in no table, other ways to write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eir_seq.data.rows import ID
from eir_seq.inference.complete import read_prompts
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.generation.completion import check_generation
from eir_seq.training.bundle import Bundle

if TYPE_CHECKING:
    from eir_seq.rows import Rows


def text_writer(bundle: Bundle) -> FittedOutput | None:
    """The sequence-to-sequence output of a bundle."""
    return next((output for output in bundle.outputs.values() if output.config.target_text is not None), None)


def writing(bundle: Bundle, output: FittedOutput, generation: Mapping[str, Any]) -> Bundle:
    """The bundle with other options of generation; raises `UserError` for those that `generate` does not have."""
    changed = output.writing_with(generation)
    check_generation(changed.config.generation_options or {}, "generation")
    return replace(bundle, outputs={**bundle.outputs, output.name: changed})


def rows_of_texts(bundle: Bundle, output: FittedOutput, prompt: str | None, test: str | None) -> Rows:
    """A source text, or those that stand in a file line by line, as rows without targets."""
    from eir_seq.rows import Rows

    texts = {"1": prompt} if prompt is not None else read_prompts(str(test))
    fitted = bundle.inputs[output.input]
    columns = {ID: list(texts), fitted.config.column: list(texts.values())}
    return Rows.of({**columns, fitted.target_column: [None] * len(texts)})
