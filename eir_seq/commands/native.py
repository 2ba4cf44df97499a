"""``native build|status|clean``: optional kernels in C++, compiled on this machine."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from eir_seq.commands.parser import UserParser
from eir_seq.commands.tables import size_text
from eir_seq.config.packages import is_installed, missing_package
from eir_seq.errors import Fault, UserError

PACKAGES = ("ninja", "setuptools")
"""What torch compiles extensions with."""


def run(arguments: list[str]) -> int:
    """Build, show or remove the kernels."""
    parser = UserParser(
        prog="python -m eir_seq native",
        description="Optional kernels in C++ for the CPU: faster attention, with and without dropout. Runs use a build "
        "of this version for this torch and processor by themselves; EIR_SEQ_NATIVE=0 keeps them from it.",
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="build|status|clean", parser_class=UserParser
    )
    commands.add_parser("build", help="compile them into the cache folder, which takes about a minute")
    commands.add_parser("status", help="whether a run would use them, and what is built")
    cleaning = commands.add_parser("clean", help="remove builds of other versions, torches and processors")
    cleaning.add_argument("--all", action="store_true", help="all builds")
    flags = parser.parse_args(arguments)
    {"build": _build, "status": _status, "clean": _clean}[flags.command](flags)
    return 0


def _build(flags: argparse.Namespace) -> None:  # noqa: ARG001
    faults = [
        Fault(package, missing_package(package, extra="native"), "packages")
        for package in PACKAGES
        if not (is_installed(package) or (package == "ninja" and shutil.which("ninja")))
    ]
    if faults:
        raise UserError(*faults)
    from eir_seq.native.build import build

    built, new = build()
    print(f"{built.folder}: {'built' if new else 'was built before'} by {built.compiler}")


def _status(flags: argparse.Namespace) -> None:  # noqa: ARG001
    from eir_seq.native import library

    used = library.chosen()
    for build in library.builds():
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(build.made))
        where = "this processor" if build.key.processor == library.Key.here().processor else "another processor"
        version = "" if build.key.source == library.Key.here().source else ", another version of eir_seq"
        print(
            f"{build.name}: built {when} by {build.compiler} for torch {build.key.torch} on {where}{version}, "
            f"{size_text(_size(build.folder))}"
        )
    if used is not None:
        print(f"runs use {used.name} in {library.folder_of_builds()}")
    elif library.demanded() is False:
        print(f"runs use torch's operations: {library.SWITCH}=0")
    else:
        print(f"runs use torch's operations; to build native kernels: {library.BUILD}")


def _clean(flags: argparse.Namespace) -> None:
    from eir_seq.native import library

    chosen = [build for build in library.builds() if flags.all or build.key != library.Key.here()]
    for build in chosen:
        shutil.rmtree(build.folder)
    count = len(chosen)
    print(f"{library.folder_of_builds()}: removed {count:,} {'build' if count == 1 else 'builds'}")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
