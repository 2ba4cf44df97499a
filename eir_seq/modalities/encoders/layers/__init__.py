"""Layers of encoders that several kinds of inputs use."""
