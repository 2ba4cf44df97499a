"""Text generation: greedy, by chance, or by beams, under the documented names."""

from eir_seq.models.generation.options import GenerationOptions
from eir_seq.models.generation.search import GenerationOutput
from eir_seq.models.generation.streaming import Streamer, pieces

__all__ = ["GenerationOptions", "GenerationOutput", "Streamer", "pieces"]
