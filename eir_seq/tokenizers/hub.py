"""From the name of a folder or of a Hub repository to a folder on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from eir_seq.errors import Fault, UserError
from eir_seq.hub import unlocatable


def local_folder(
    folder_or_hub_id: str | os.PathLike[str],
    *,
    allow_patterns: list[str],
    revision: str | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder itself, or the Hub's files of that id that match `allow_patterns`, downloaded if need be.

    Raises:
        UserError: no such folder or repository, or it is not in the cache and the Hub is out of reach.
    """
    name = os.fspath(folder_or_hub_id)
    if not name.strip():
        raise UserError(Fault("", "the name of a tokenizer's folder or Hub repository is empty"))
    if (problem := unlocatable(name)) is not None:
        raise UserError(Fault("", problem))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder

    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=allow_patterns, local_files_only=local_files_only)
        )
    except GatedRepoError as error:
        raise UserError(Fault(name, "access is restricted: accept its terms on the Hub and set HF_TOKEN")) from error
    except RepositoryNotFoundError as error:
        message = "neither a folder here nor a repository on the Hub (a private one needs HF_TOKEN)"
        raise UserError(Fault(name, message)) from error
    except RevisionNotFoundError as error:
        raise UserError(Fault(name, f"the Hub has no revision {revision!r} of it")) from error
    except HFValidationError as error:
        raise UserError(Fault(name, "neither a folder here nor a possible Hub id (OWNER/NAME)")) from error
    except LocalEntryNotFoundError as error:
        raise UserError(Fault(name, _OUT_OF_REACH)) from error
    except Exception as error:
        # What the network raises: an OSError up to release 0.36 of the Hub's client, later httpx's own classes.
        if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in ("httpx", "httpcore"):
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(Fault(name, f"{_OUT_OF_REACH} [{type(error).__name__}: {reason}]")) from error


_OUT_OF_REACH = (
    "no such folder, not in the Hub's cache, and the Hub is out of reach or switched off; "
    "download it on a machine with network, or give the folder of a copy"
)
