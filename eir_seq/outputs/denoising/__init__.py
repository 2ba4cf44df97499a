"""A whole text from a noisy one."""
