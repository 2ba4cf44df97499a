"""Text generation: greedy, sampling and beam search, with the options of transformers."""

from eir_seq.models.generation.options import GenerationOptions
from eir_seq.models.generation.search import GenerationOutput
from eir_seq.models.generation.streaming import Streamer, pieces

__all__ = ["GenerationOptions", "GenerationOutput", "Streamer", "pieces"]
