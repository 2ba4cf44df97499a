"""Have the models of a finished run write texts for prompts: continue them, or write from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.encoded import Progress
from eir_seq.data.readers import TEXT
from eir_seq.data.readers.base import check_file, open_text
from eir_seq.data.rows import ID, text_fault
from eir_seq.errors import Fault, UserError
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.generation.completion import check_generation, completer
from eir_seq.outputs.predictions import LeftOut, write_predictions
from eir_seq.randomness import derive_seed
from eir_seq.training.bundle import Bundle
from eir_seq.training.console import Console
from eir_seq.training.devices import pick_device
from eir_seq.training.samples import further_tensors

if TYPE_CHECKING:
    from eir_seq.rows import Rows


def language_model(bundle: Bundle) -> FittedOutput | None:
    """The language model of a bundle that is nothing else."""
    output = next(iter(bundle.outputs.values()))
    alone = len(bundle.inputs) == len(bundle.outputs) == 1
    return output if output.config.completes and alone else None


def reads_besides(bundle: Bundle) -> str | None:
    """What the language model of a bundle reads besides a text, such as pixel_values."""
    output = language_model(bundle)
    sources = {} if output is None else bundle.inputs[output.input].sources
    return next((kind for kind, source in sources.items() if source.per_row), None)


def is_prompt_file(path: str) -> bool:
    """Whether a file holds one prompt per line."""
    return path.lower().endswith((TEXT, f"{TEXT}.gz")) and Path(path).expanduser().is_file()


def read_prompts(path: str) -> dict[str, str]:
    """The lines of a text file by their numbers, blank ones left out; raises `UserError` if there is none."""
    path = str(Path(path).expanduser())
    check_file(path, "data.test")
    with open_text(path, "data.test") as file:
        lines = file.read().splitlines()
    prompts = {str(number): line for number, line in enumerate(lines, 1) if text_fault(line) is None}
    if not prompts:
        raise UserError(Fault("data.test", f"{path} has no line to complete"))
    return prompts


def complete(
    bundle: Bundle,
    config: ExperimentConfig,
    prompts: Mapping[str, str],
    generation: Mapping[str, Any],
    destination: Path,
    console: Console,
    rows: Rows | None = None,
    left_out: Sequence[LeftOut] | None = None,
    *,
    csv_safe: bool = False,
) -> list[str]:
    """What the model writes after each prompt, also as a table: id, NAME_prompt, NAME.

    The same prompts in batches of the same size give the same texts: what is drawn depends on the run's seed.

    Args:
        bundle: with a language model.
        config: of the run, for these prompts: its batch sizes, device and seed.
        prompts: by id.
        generation: options of `generate` that replace those of the run.
        rows: of the prompts, where the model reads more than a text.
        left_out: rows of the file that cannot be used.
        csv_safe: as of `write_predictions`.

    Raises:
        UserError: options that `generate` does not have, a table that cannot be written.
    """
    output = language_model(bundle)
    assert output is not None
    output = output.writing_with(generation)
    check_generation(output.config.generation_options or {}, "generation")
    texts = completions(bundle, output, config, list(prompts.values()), rows, console.progress)
    columns = {output.name: {f"{output.name}_prompt": list(prompts.values()), output.name: texts}}
    write_predictions(destination, list(prompts), columns, left_out, csv_safe=csv_safe)
    return texts


def completions(
    bundle: Bundle,
    output: FittedOutput,
    config: ExperimentConfig,
    prompts: Sequence[str],
    rows: Rows | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """What the model writes after each prompt; `rows` of them are needed where it reads more than a text."""
    write = completer(output, bundle.inputs, bundle.network.to(pick_device(config.trainer.accelerator)).eval())
    fitted: Any = bundle.inputs[output.input]
    size = config.data.eval_batch_size or config.data.batch_size
    texts: list[str] = []
    for start in range(0, len(prompts), size):
        seed = derive_seed(config.seed, "completions", start)
        own = {} if rows is None else further_tensors(fitted, rows[start : start + size])
        texts += write(prompts[start : start + size], seed=seed, tensors=own)
        if progress is not None:
            progress("completing", len(texts), len(prompts))
    return texts


def text_writer(bundle: Bundle) -> FittedOutput | None:
    """The output of a bundle that writes from texts: a sequence-to-sequence one, or one that answers."""
    return next((output for output in bundle.outputs.values() if output.config.writes_from_texts), None)


def text_writers(bundle: Bundle) -> list[FittedOutput]:
    """All outputs of a bundle that write a text for each row."""
    return [output for output in bundle.outputs.values() if output.config.writes_texts]


def writing(bundle: Bundle, outputs: Sequence[FittedOutput], generation: Mapping[str, Any]) -> Bundle:
    """The bundle with other options of generation of `outputs`; raises `UserError` for options that do not exist."""
    return _changed(bundle, outputs, generation)


def drawing(bundle: Bundle, generation: Mapping[str, Any]) -> Bundle:
    """The bundle, whose outputs that draw do so with other options; raises `UserError` for those there are not."""
    return _changed(bundle, [output for output in bundle.outputs.values() if output.config.generates], generation)


def _changed(bundle: Bundle, outputs: Sequence[FittedOutput], generation: Mapping[str, Any]) -> Bundle:
    """The bundle, of which `outputs` have other options; raises `UserError` with all that is wrong with these."""
    changed: dict[str, FittedOutput] = {}
    faults: dict[Fault, None] = {}
    for output in outputs:
        try:
            changed[output.name] = other = output.writing_with(generation)
            check_generation(other.config.generation_options or {}, "generation")
        except UserError as error:
            faults |= dict.fromkeys(error.faults)
    if faults:
        raise UserError(*faults)
    return replace(bundle, outputs={**bundle.outputs, **changed})


def rows_of_texts(bundle: Bundle, output: FittedOutput, prompt: str | None, test: str | None) -> Rows:
    """A source text, or those that are in a file line by line, as rows without targets."""
    from eir_seq.rows import Rows

    texts = {"1": prompt} if prompt is not None else read_prompts(str(test))
    return Rows.of({ID: list(texts), **bundle.inputs[output.input].columns_of_texts(list(texts.values()))})
