"""Which of two answers is preferred."""
