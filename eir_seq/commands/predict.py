"""``predict``: rows of a file through the bundle of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from eir_seq.commands.keys import described_keys, local_run, local_test, read_keys
from eir_seq.commands.preflight import prediction_faults
from eir_seq.config.kinds import ExplanationConfig
from eir_seq.config.latents import LatentsConfig
from eir_seq.config.schema import Strict
from eir_seq.config.strict import Delimiter, Positive
from eir_seq.errors import UserError
from eir_seq.machine import importing
from eir_seq.remote import named_by_url

_HELP = """\
  python -m eir_seq predict run=RUN [data.test=FILE] [KEY=VALUE ...]

Writes a CSV with ids, predictions and probabilities, from the bundle of the run alone. A language model completes
prompts: the lines of a text file, the rows of a table, or prompt=TEXT. A pretrained model fills the gaps ([MASK],
<extra_id_0>) of such lines.

{keys}
"""


class PredictDataConfig(Strict):
    """What to predict, and how it is read: as the run's files are, but for the keys that are given."""

    test: str | None = Field(None, description="file or folder with the rows; those of the run's data.test if absent")
    on_bad_row: Literal["error", "skip"] | None = Field(
        None, description="skip: rows that cannot be used get no prediction, and a column says why"
    )
    id: str | None = Field(None, description="column of ids; null: rows are numbered")
    file_dir: str | None = Field(None, description="folder of the files that cells name; null: that of the file")
    rename: dict[str, str] | None = Field(None, description="old column name: new one")
    delimiter: Delimiter | None = Field(None, description=r"field separator of CSV files (a tab is \t)")
    quote: str | None = Field(None, min_length=1, max_length=1, description="quote of CSV and TSV files")
    missing_labels: list[str] | None = Field(None, description="values that stand for a missing label")

    @property
    def reading(self) -> dict[str, Any]:
        """The keys that were given besides `test`. null stands for itself where the run's config has it, too."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"test"}}
        return {
            name: x for name, x in given.items() if x is not None or name in ("id", "file_dir", "delimiter", "quote")
        }


class PredictConfig(Strict):
    """The keys of `predict`."""

    run: str = Field(description="run folder, or the bundle in it")
    data: PredictDataConfig = PredictDataConfig()
    output: str | None = Field(
        None, description="CSV file to write; predictions/STEM.predicted.csv in the run folder if absent"
    )
    batch_size: Positive | None = Field(None, description="rows per batch; that of the run if absent")
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field("auto", description="device")
    prompt: str | None = Field(
        None, description="a text to complete, translate or summarize, or with gaps to fill; instead of a file"
    )
    generation: dict[str, Any] = Field(
        {},
        description="options of generate, or of the sampler of a diffusion output, that override the run's, e.g. "
        "generation.temperature=0.5 or generation.guidance=3",
    )
    latents: LatentsConfig | None = Field(
        None, description="layers whose states are written next to the table, e.g. latents=[fusion]"
    )
    interpretation: dict[str, ExplanationConfig] = Field(
        {},
        description="by input, rows whose predictions are explained next to the table, e.g. "
        "interpretation.review.rows=5",
    )
    csv_safe: bool = Field(
        False, description="put ' before cells that a spreadsheet would take for a formula (= + - @)"
    )


def run(arguments: list[str]) -> int:
    """Predict, and say where the predictions are."""
    if "--help" in arguments or "-h" in arguments or not arguments:
        print(_HELP.format(keys=described_keys(PredictConfig, PredictDataConfig)))
        return 0
    with named_by_url():
        return _predict(predict_config(arguments))


def _predict(config: PredictConfig) -> int:
    run_dir, test = local_run(config.run), local_test(config.data.test)
    bundle = run_dir / "bundle" if (run_dir / "bundle").is_dir() else run_dir
    if faults := list(prediction_faults(bundle, test, config.data.reading)):
        raise UserError(*faults)
    with importing():
        from eir_seq.inference.predict import predict

    written = predict(
        run_dir,
        test=test,
        output=None if config.output is None else Path(config.output),
        batch_size=config.batch_size,
        accelerator=config.accelerator,
        prompt=config.prompt,
        generation=config.generation,
        reading=config.data.reading,
        csv_safe=config.csv_safe,
        latents=config.latents,
        interpretation=config.interpretation,
    )
    print(f"predictions: {written}")
    return 0


def predict_config(arguments: Sequence[str]) -> PredictConfig:
    """The keys of a command line.

    Raises:
        UserError: unknown keys, wrong values, no such run or file.
    """
    return read_keys(arguments, PredictConfig, ("run", "data.test", "output"), ("run", "data.test"))
