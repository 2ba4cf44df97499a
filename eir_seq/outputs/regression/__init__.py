"""One real number."""
