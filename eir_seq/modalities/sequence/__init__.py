"""Text and other sequences of symbols, read as tokens."""
