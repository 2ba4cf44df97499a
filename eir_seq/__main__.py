"""``python -m eir_seq COMMAND ...``: see `eir_seq.commands`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping

TRACKER_THREAD = "tracker "
"""How the names of threads of trackers begin (`eir_seq.training.trackers.background`)."""
TUNABLES = {
    "glibc.malloc.tcache_count": "0",
    "glibc.malloc.mmap_threshold": str(2**25),
    "glibc.malloc.trim_threshold": str(2**30),
    "glibc.malloc.hugetlb": "1",
}
"""How glibc manages memory while a command runs.

By default each thread keeps small freed blocks for itself, wherever they lie. What a step leaves of these in the region
of its activations cuts it up, large blocks no longer fit, and the heap grows. Without them freed neighbours merge.

By default, too, the free end of the heap goes back to the system when a step frees its activations, and the next step
gets it back page by page, filled with zeros. Now up to trim_threshold bytes stay. To set it fixes mmap_threshold, too:
the size from which on a block is mapped on its own, which glibc would raise to the same 32 MiB as blocks are freed.

With hugetlb=1 the heap asks for pages of 2 MiB (where the system gives them to those that ask, and glibc is 2.35 or
later): passes over activations wait less for the translation of addresses.
"""


def run_command() -> int:
    """Run the command of the command line; it is imported once the process has its environment."""
    from eir_seq.commands import main as run

    return run()


def main() -> int:
    """Run the command of the command line and return its exit code."""
    environment = tuned(os.environ)
    if environment is not None and sys.executable and sys.orig_argv:
        with contextlib.suppress(OSError):  # glibc reads them when a process starts: this one starts again
            os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606
    code = run_command()

    import logging  # not before the process has started again
    import threading

    if any(thread.name.startswith(TRACKER_THREAD) for thread in threading.enumerate()):
        # A tracker hangs. Its client may wait for the same once more when the interpreter ends, some for minutes.
        logging.shutdown()
        sys.stderr.flush()
        with contextlib.suppress(OSError):  # `| head` closed our output
            sys.stdout.flush()
        os._exit(code)
    return code


def tuned(environment: Mapping[str, str]) -> dict[str, str] | None:
    """The environment with `TUNABLES`, where the process uses glibc and some are not set; else None."""
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}):
        return None
    given = [item for item in environment.get("GLIBC_TUNABLES", "").split(":") if item]
    names = {item.partition("=")[0] for item in given}
    missing = [f"{name}={value}" for name, value in TUNABLES.items() if name not in names]
    return {**environment, "GLIBC_TUNABLES": ":".join([*given, *missing])} if missing else None


if __name__ == "__main__":
    sys.exit(main())
