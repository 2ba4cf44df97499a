"""A toy kind of input: columns of numbers."""
