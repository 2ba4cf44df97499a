"""Names of what others published: a folder here, or an id on the Hub."""

from __future__ import annotations

from pathlib import Path

from eir_seq.errors import nearest


def unlocatable(name: str) -> str | None:
    """Why a name is neither a folder nor a Hub id, without asking the Hub; None if it may be one of them.

    >>> unlocatable("s3://bucket/adapter")
    's3://... is a URL; the path of a folder or a Hub id (OWNER/NAME) is expected'
    >>> unlocatable("./nowhere")
    './nowhere: no such folder'
    >>> unlocatable("OWNER/NAME")
    """
    scheme, is_url, _ = name.partition("://")
    if is_url:  # the rest may hold a password
        return f"{scheme}://... is a URL; the path of a folder or a Hub id (OWNER/NAME) is expected"
    folder = Path(name).expanduser()
    if folder.is_dir():
        return None
    if folder.exists():
        return f"{name}: a folder is expected, this is a file"
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        return f"{name}: no such folder{nearest(folder.name, _siblings(folder))}"
    return None


def _siblings(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.parent.iterdir() if entry.is_dir()]
    except OSError:
        return []
