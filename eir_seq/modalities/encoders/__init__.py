"""What reads preprocessed rows: backbones of the catalogue and what is around them."""
