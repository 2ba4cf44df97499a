"""Train sequence and multimodal models on your own data from one YAML file."""

__version__ = "0.2.0"
