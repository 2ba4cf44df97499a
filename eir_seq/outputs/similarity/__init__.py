"""How similar the vectors of two inputs are: bi-encoders, with one encoder or two."""
