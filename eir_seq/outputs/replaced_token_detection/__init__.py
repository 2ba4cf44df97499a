"""Which tokens of a text a small masked language model has proposed."""
