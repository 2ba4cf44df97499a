"""The commands of ``python -m eir_seq`` and what the process ends with.

Exit codes: 0 done; 1 a bug in eir_seq (with the traceback); 2 the user's config or data; 3 the run failed (non-finite
loss, memory, disk); 130 and 143 stopped by a signal. ``--debug`` shows the traceback of codes 2 and 3, too.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from eir_seq import plugins
from eir_seq.deferred import defer_pandas
from eir_seq.errors import EXIT_RUN_FAILED, EXIT_USER, Fault, RunFailed, UserError, nearest, printable
from eir_seq.machine import failure_of, importing, raise_file_limit, silence

COMMANDS = {
    "train": "train an experiment (the default command)",
    "check": "validate an experiment and its data, and try one step",
    "predict": "predict rows of a file with a finished run",
    "chat": "talk with a model that was trained on conversations",
    "embed": "write vectors of rows of a file with a finished run",
    "models": "list the architectures, or show the options of one",
    "bench": "measure how fast architectures are on this machine",
    "sweep": "search for the best values of config keys",
    "runs": "list, show, compare or clean runs",
    "cache": "list or clean cached rows and tokenizers",
    "native": "build, show or remove optional kernels for the CPU",
    "schema": "print the JSON schema of an experiment, for editors",
}
"""Each is a module of this package with ``run(arguments: list[str]) -> int``, or that in `MODULES`."""
MODULES = {"sweep": "search"}
READING = ("train", "check", "predict", "chat", "embed", "sweep", "bench")
"""Commands that read rows, with pyarrow."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if "--plugins" in words[:-1]:
        at = words.index("--plugins")
        words[at : at + 2] = [f"--plugins={words[at + 1]}"]
    # Torch's threads wait for each other at full speed by default. Where other work shares the cores (jobs of a sweep,
    # say), that was measured to cost ten times the whole step. Asleep at once they wait at no cost, but waking them
    # costs small models half a step on an idle machine. A thousand turns (some microseconds) lie between, see
    # docs/guide/training.md. It is read once, by torch.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Torch's C++ code prints advice about DDP that a user of this command cannot follow. It is read once, too.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    raise_file_limit()
    try:
        plugins.load(named_plugins(words))
        code = _dispatch([word for word in words if not word.startswith("--plugins=")])
        sys.stdout.flush()
        return code
    except UserError as error:
        return _report(error, EXIT_USER, debug)
    except RunFailed as error:
        return _report(error, EXIT_RUN_FAILED, debug)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` closed our output; nobody reads it any more
        silence(sys.stdout)
        return 0
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        silence(sys.stdout)  # what it still holds would fail again at the end of the process
        return _report(failure.with_traceback(error.__traceback__), EXIT_RUN_FAILED, debug)


def named_plugins(words: Sequence[str]) -> list[str]:
    """The modules of ``--plugins=MODULE,MODULE``, and those of ``plugins:`` in the user's own config.yaml.

    Raises:
        UserError: what is there is no list of modules.
    """
    named = [word.removeprefix("--plugins=").split(",") for word in words if word.startswith("--plugins=")]
    if "--plugins" in words or any("" in modules for modules in named):
        raise UserError(Fault("--plugins", "name modules, such as --plugins my_project.plugins", "command line"))
    modules = [module for modules in named for module in modules]
    if os.environ.get("EIR_SEQ_CONF") or "--config-dir" in " ".join(words) or os.path.isfile("conf/config.yaml"):
        from eir_seq.config.primary import modules_in_conf

        modules += modules_in_conf(words)
    return list(dict.fromkeys(modules))


def _dispatch(words: list[str]) -> int:
    if words and words[0] in ("help", "--help", "-h") and len(words) == 1:
        from eir_seq.commands.help import overview

        print(overview(COMMANDS))
        return 0
    if words == ["--version"]:
        from eir_seq import __version__

        print(f"eir_seq {__version__}")
        return 0
    command = "train"
    if words and words[0] in COMMANDS:
        command = words.pop(0)
    elif words and words[0].replace("_", "").replace("-", "").isalpha() and not words[0].startswith("-"):
        from eir_seq.config.folders import options_of

        listed, word = ", ".join(COMMANDS), words[0]
        hint = f"; did you mean experiment={word}?" if word in options_of("experiment") else nearest(word, COMMANDS)
        raise UserError(Fault(word, f"not a command; choose from {listed}{hint}"))
    with importing():
        module = importlib.import_module(f"eir_seq.commands.{MODULES.get(command, command)}")
        if command in READING:
            importlib.import_module("pyarrow")
    if not plugins.registered():
        defer_pandas()
    code: int = module.run(words)
    return code


def _report(error: Exception, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    else:
        from eir_seq.training.redaction import redact

        with contextlib.suppress(OSError):  # it may be a file on the disk that is full
            print(printable(str(redact(str(error)))), file=sys.stderr, flush=True)
    return code
