"""The analysers: the plain one is the one that bm25.py has, and the two steps are the whole."""

from __future__ import annotations

import pytest

from kardlib.analysis import PLAIN, Analysis
from kardlib.bm25 import Analyzer

TEXTS = [
    "",
    "The Bumblebees' wings don't FLY; is it so?",
    "U.S. passengers paid $3.50 or 1,000 ¥ in O'Neil's café_bar (Zürich) - 日本 ideas",
    "generalization relational hopping skies dying agreed a b",
]


@pytest.mark.parametrize("text", TEXTS)
def test_plain_is_the_analyser_of_the_mini_sets(text: str) -> None:
    assert PLAIN.terms(text) == Analyzer()(text)


@pytest.mark.parametrize(
    "analysis", [PLAIN, Analysis(stemmer="none"), Analysis(possessives=True, token_pattern=r"\S+")]
)
@pytest.mark.parametrize("text", TEXTS)
def test_terms_are_words_stopped_and_stemmed_one_by_one(analysis: Analysis, text: str) -> None:
    assert analysis.terms(text) == [t for t in map(analysis.term, analysis.words(text)) if t is not None]


@pytest.mark.parametrize("analysis", [PLAIN, Analysis(possessives=True)])
def test_an_analysis_survives_being_stored(analysis: Analysis) -> None:
    assert Analysis.model_validate_json(analysis.model_dump_json()) == analysis
