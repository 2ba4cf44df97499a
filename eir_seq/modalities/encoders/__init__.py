"""What reads preprocessed rows: backbones of the catalogue and what stands around them."""
