"""What a finished run left, as ``sha256sum -c checksums.sha256`` checks it.

The file is written last. A run without it (an earlier version's, or one that was killed on its last step) is taken as
it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

from eir_seq.files import MEGABYTE, open_regular, read_text, reason

CHECKSUMS = "checksums.sha256"
_COVERED = (
    "config.yaml",
    "manifest.json",
    "result.json",
    "metrics.csv",
    "samples.csv",
    "predictions/*.csv",
    "report/*",
)
"""Bundle, adapters and published models have their own manifests."""


def checksums(run: Path) -> str:
    """The lines for the files that are there."""
    files = sorted(path for pattern in _COVERED for path in run.glob(pattern) if path.is_file())
    return "".join(f"{_sha256(path)}  {path.relative_to(run).as_posix()}\n" for path in files)


def wrong_files(run: Path, names: Collection[str] | None = None) -> Iterator[tuple[str, str]]:
    """Files of a run that are not as they were written (of all, or of `names`), each with what is wrong with it."""
    try:
        lines = read_text(run / CHECKSUMS).splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        yield CHECKSUMS, reason(error) if isinstance(error, OSError) else "damaged"
        return
    for line in lines:
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not any(Path(name).match(pattern) for pattern in _COVERED):
            yield CHECKSUMS, "damaged"
        elif names is None or name in names:
            try:
                if _sha256(run / name) != digest:
                    yield name, "not what was written (its sha256 differs)"
            except OSError as error:
                yield name, "missing" if isinstance(error, FileNotFoundError) else reason(error)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(MEGABYTE):
            digest.update(block)
    return digest.hexdigest()
