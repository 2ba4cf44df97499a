"""Architectures that differ from roberta in names only.

Sources: camembert https://arxiv.org/abs/1911.03894, xlm-roberta https://arxiv.org/abs/1911.02116, data2vec-text
https://arxiv.org/abs/2202.03555.
"""

from __future__ import annotations

from eir_seq.models.architectures.roberta import roberta_like

CAMEMBERT = roberta_like("Camembert", "roberta")
XLM_ROBERTA = roberta_like("XLMRoberta", "roberta")
DATA2VEC_TEXT = roberta_like("Data2VecText", "data2vec_text")
