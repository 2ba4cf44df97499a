"""``embed``: the vectors of an input, or the fused features, of the rows of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field

from eir_seq.commands.keys import described_keys, local_run, local_test, read_keys
from eir_seq.commands.predict import PredictDataConfig
from eir_seq.config.schema import Strict
from eir_seq.config.strict import Positive
from eir_seq.machine import importing
from eir_seq.remote import named_by_url

_HELP = """\
  python -m eir_seq embed run=RUN [data.test=FILE] [input=NAME] [output=FILE] [KEY=VALUE ...]

Writes a vector for each row, from the bundle of any run: of an input, as its encoder gives it (and a similarity output
projects it), or the fused features. NAME.npy has (rows, size) and NAME.ids.csv their ids; FILE.parquet has both.

{keys}
"""


class EmbedConfig(Strict):
    """The keys of `embed`."""

    run: str = Field(description="run folder, or the bundle in it")
    data: PredictDataConfig = PredictDataConfig()
    input: str | None = Field(
        None,
        description="the input, or fusion (fusion.OUTPUT where each output has features of its own); by default the "
        "only input, or the first one of a similarity output. The file needs the columns of that input alone",
    )
    output: str | None = Field(
        None, description="file to write, .npy or .parquet; vectors/STEM.INPUT.npy in the run folder if absent"
    )
    normalize: bool | None = Field(
        None, description="make vectors of length 1; by default those that a similarity output compares"
    )
    batch_size: Positive | None = Field(None, description="rows per batch; that of the run if absent")
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field("auto", description="device")


def run(arguments: list[str]) -> int:
    """Write the vectors, and say where they are."""
    if "--help" in arguments or "-h" in arguments or not arguments:
        print(_HELP.format(keys=described_keys(EmbedConfig, PredictDataConfig)))
        return 0
    config = read_keys(arguments, EmbedConfig, ("run", "data.test", "output"), ("run", "data.test"))
    with importing():
        from eir_seq.inference.embed import embed

    with named_by_url():
        written = _embedded(config, embed)
    print(f"vectors: {written}")
    return 0


def _embedded(config: EmbedConfig, embed: Callable[..., Path]) -> Path:
    return embed(
        local_run(config.run),
        test=local_test(config.data.test),
        input=config.input,
        output=None if config.output is None else Path(config.output),
        normalize=config.normalize,
        batch_size=config.batch_size,
        accelerator=config.accelerator,
        reading=config.data.reading,
    )
