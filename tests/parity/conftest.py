"""Every test here runs on filled memory."""

from tests.uninitialized import filled_memory

__all__ = ["filled_memory"]
