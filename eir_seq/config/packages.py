"""Packages that only some experiments need."""

from __future__ import annotations

import importlib.util


def is_installed(package: str) -> bool:
    """Whether a package can be imported; it is not.

    A folder of that name in the working directory (the one that Weights & Biases writes into, say) is no package.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def missing_package(package: str) -> str:
    """What to say about an extra of this project that is not installed."""
    return f"{package} is not installed; run: pip install 'eir_seq[{package}]'"
