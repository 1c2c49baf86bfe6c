"""Small generated corpora for the tests of the index, and BM25 in ten lines."""

from __future__ import annotations

import math
import random

import numpy as np

from kardlib.analysis import PLAIN, Analysis
from kardlib.records import Passage


def corpus(seed: int, passages: int, words: int = 60, longest: int = 25) -> list[Passage]:
    """Passages of words drawn by Zipf's law, with stop words, inflections, duplicates and empty ones among them."""
    draw = random.Random(seed)
    known = [f"w{i}{ending}" for i in range(words) for ending in ("", "s", "ing")] + ["the", "of", "Étude", "naïve"]
    weights = [1 / (i + 1) for i in range(len(known))]
    texts = [" ".join(draw.choices(known, weights, k=draw.randint(1, longest))) for _ in range(passages)]
    for _ in range(passages // 8):
        texts[draw.randrange(passages)] = draw.choice(texts)
    texts[draw.randrange(passages)] = "the of !"
    return [Passage(id=f"p{i:05d}", text=text) for i, text in enumerate(texts)]


def queries(seed: int, passages: list[Passage], count: int) -> list[str]:
    """Queries of words that passages have, words that none has, and repeated words."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        words = " ".join(draw.choice(passages).text for _ in range(draw.randint(1, 3))).split()
        found.append(" ".join([*draw.choices(words, k=draw.randint(1, 12)), *draw.sample(["nowhere", "the", ""], 2)]))
    return [*found, "", "nowhere"]


def brute_force(passages: list[Passage], query: str, analysis: Analysis = PLAIN) -> np.ndarray:
    """BM25 (Lucene's idf, k1 .9, b .4) of every passage, float64."""
    held = [analysis.terms(passage.text) for passage in passages]
    mean, scores = sum(map(len, held)) / len(held), np.zeros(len(held))
    for term in analysis.terms(query):
        n = sum(term in terms for terms in held)
        idf = math.log(1 + (len(held) - n + 0.5) / (n + 0.5))
        for i, terms in enumerate(held):
            tf = terms.count(term)
            scores[i] += idf * tf / (tf + 0.9 * (1 - 0.4 + 0.4 * len(terms) / mean))
    return scores
