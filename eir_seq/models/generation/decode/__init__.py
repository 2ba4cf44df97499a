"""Reading texts one token at a time: light copies of a model, weights for few rows, and keys of earlier tokens."""
