"""``check``: validate an experiment, scan its data and try one step."""

from __future__ import annotations

from eir_seq.commands.preflight import preflight
from eir_seq.commands.train import parse_flags
from eir_seq.config.compose import compose_experiment
from eir_seq.errors import UserError
from eir_seq.machine import importing
from eir_seq.training.redaction import redact

_HELP = """\
  python -m eir_seq check experiment=NAME [GROUP=OPTION ...] [KEY=VALUE ...]

Validates the config, checks the data, fits tokenizers, runs one step on two rows and prints parameters, token
counts and an estimate of memory and time. Takes the same words as `train` and leaves no files.
"""


def run(arguments: list[str]) -> int:
    """Check, and print what was found."""
    if "--help" in arguments or "-h" in arguments:
        print(_HELP)
        return 0
    flags = parse_flags(arguments)
    composed = compose_experiment(flags.overrides, preflight)
    for line in filter(None, (composed.config.note, *composed.notes)):
        print(redact(line), flush=True)
    with importing():
        from eir_seq.training.check import check

    try:
        print(check(composed.config))
    except UserError as error:
        raise composed.with_sources(error) from error
    return 0
