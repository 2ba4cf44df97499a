"""How near written texts are to the true ones: BLEU, chrF, ROUGE, exact match."""

from __future__ import annotations

import re
from collections.abc import Sequence

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
_WORD = re.compile(r"[^\W_]+")


class _Words:
    """Runs of letters and digits in lower case: on English what ROUGE is published with, and any script."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        return _WORD.findall(text.lower())


def text_metrics(written: Sequence[str], true: Sequence[str], *, bleu_tokenizer: str = "13a") -> dict[str, float]:
    """Metrics of whole corpora by name; each written text has one true one.

    `bleu` (https://aclanthology.org/P02-1040) and `chrf` (https://aclanthology.org/W15-3049) go from 0 to 100, as
    sacrebleu has them. From 0 to 1: `rouge1`, `rouge2`, `rougeL` (F1 of words, pairs of words, the longest common
    subsequence; https://aclanthology.org/W04-1013) and `rougeLsum` (the last one line by line), means over the texts
    and without stemming; and `exact_match`, the share of texts that are the same but for outer spaces.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    assert len(written) == len(true) > 0
    references = [list(true)]
    scorer = RougeScorer(list(ROUGE), tokenizer=_Words())
    scores = [scorer.score(reference, text) for text, reference in zip(written, true, strict=True)]
    same = sum(text.strip() == reference.strip() for text, reference in zip(written, true, strict=True))
    return {
        "bleu": BLEU(tokenize=bleu_tokenizer).corpus_score(list(written), references).score,
        "chrf": CHRF().corpus_score(list(written), references).score,
        **{name: sum(score[name].fmeasure for score in scores) / len(scores) for name in ROUGE},
        "exact_match": same / len(written),
    }
