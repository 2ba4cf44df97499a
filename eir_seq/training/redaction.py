"""Passwords stay out of what a run writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
_SECRET = re.compile(
    r"((?:^|[.+\s])(?:(?:hf|hub|auth|access|wandb|api)_?)?(?i:token|secret|password|passwd|key)="
    r"|[A-Z0-9_]+_(?:TOKEN|SECRET|PASSWORD|KEY)=)\S+"
)


def redact(value: Any) -> Any:
    """The same data without passwords: user-info in URLs, and values given to keys such as ``api_key=``."""
    if isinstance(value, str):
        return _SECRET.sub(r"\1***", _USER_INFO.sub("***@", value))
    if isinstance(value, Mapping):
        return {key: redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value
