"""Rows of encoders with inputs or arithmetic of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.parity.cases.base import Case, Inputs, bertish, segments


def boxes(ids: Tensor, generator: torch.Generator) -> Inputs:
    corner = torch.randint(0, 30, (*ids.shape, 2), generator=generator)
    extent = torch.randint(1, 20, (*ids.shape, 2), generator=generator)
    return {"bbox": torch.cat((corner, corner + extent), -1), **segments(ids, generator)}


def xpaths(ids: Tensor, generator: torch.Generator) -> Inputs:
    steps = (*ids.shape, 5)
    return {
        "xpath_tags_seq": torch.randint(0, 20, steps, generator=generator),
        "xpath_subs_seq": torch.randint(0, 20, steps, generator=generator),
    }


XPATHS = {
    "max_xpath_tag_unit_embeddings": 24,
    "max_xpath_subs_unit_embeddings": 26,
    "tag_pad_id": 22,
    "subs_pad_id": 24,
    "xpath_unit_hidden_size": 8,
    "max_depth": 5,
}
IDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}

CASES = [
    Case("layoutlm", bertish(max_2d_position_embeddings=64), boxes),
    Case("layoutlm@no_boxes", bertish(max_2d_position_embeddings=64), segments),
    Case("markuplm", bertish(**XPATHS, **IDS), xpaths),
    Case("markuplm@no_xpaths", bertish(**XPATHS, **IDS)),
]
