"""Denoising diffusion: what outputs share that generate arrays and pictures."""
