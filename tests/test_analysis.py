"""The analysers: the plain one is the one that bm25.py has, Lucene's cuts and stems as Lucene does."""

from __future__ import annotations

import copy
import pickle
import random

import pytest

from kardlib.analysis import LUCENE, PLAIN, Analysis
from kardlib.bm25 import Analyzer

TEXTS = [
    "",
    "The Bumblebees' wings don't FLY; is it so?",
    "U.S. passengers paid $3.50 or 1,000 ¥ in O'Neil's café_bar (Zürich) - 日本 ideas",
    "generalization relational hopping skies dying agreed a b",
    "Darwin’s It's \u2003 ice\u00a0cream\n\t_x_ ΣΟΦΟΣ İzmir x² ½ don''t 'quoted' a.b.c. 1.5.2,3 e\u0301te\u0301",
]
ANALYSES = [PLAIN, LUCENE, Analysis(stemmer="none"), Analysis(possessives=True, token_pattern=r"\S+")]


def _noise(seed: int) -> str:
    """Letters, digits, marks and joiners in any order."""
    return "".join(random.Random(seed).choices("aAbs sS'’.,:;_-19²\u0301日ひカ경🙂İ", k=400))


@pytest.mark.parametrize("text", [*TEXTS, *map(_noise, range(20))])
def test_plain_is_the_analyser_of_the_mini_sets(text: str) -> None:
    assert PLAIN.terms(text) == Analyzer()(text)


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize("text", [*TEXTS, *map(_noise, range(20))])
def test_terms_are_words_stopped_and_stemmed_one_by_one(analysis: Analysis, text: str) -> None:
    terms = [t for t in map(analysis.term, analysis.words(text)) if t is not None]
    assert analysis.terms(text) == terms
    assert [t for piece in analysis.pieces(text) for t in analysis.terms_of(piece)] == terms


@pytest.mark.parametrize("analysis", ANALYSES)
def test_an_analysis_survives_being_stored_sent_and_copied(analysis: Analysis) -> None:
    before = analysis.terms(TEXTS[2])
    for other in (
        Analysis.model_validate_json(analysis.model_dump_json()),
        pickle.loads(pickle.dumps(analysis)),
        copy.copy(analysis),
    ):
        assert other == analysis and other.terms(TEXTS[2]) == before


def test_a_copy_with_another_field_forgets_what_the_first_remembered() -> None:
    assert LUCENE.terms("Darwin's") == ["darwin"]
    assert LUCENE.model_copy(update={"possessives": False}).terms("Darwin's") == ["darwin'"]


def test_what_is_remembered_stays_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kardlib.analysis._REMEMBERED", 3)
    analysis = Analysis()
    text = "one two three four five two one"
    assert analysis.terms(text) == Analyzer()(text)
    assert len(analysis._remembered) <= 3


# The cut of Unicode's Annex 29, rule by rule, on the text in lower case.
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("U.S.", ["u.s"]),  # WB6, WB7: a full stop between letters
        ("the U.S.A", ["the", "u.s.a"]),
        ("3.5", ["3.5"]),  # WB11, WB12: between digits
        ("1,000", ["1,000"]),
        ("1,000.", ["1,000"]),
        ("a,b", ["a", "b"]),  # a comma does not hold letters
        ("3:5", ["3", "5"]),  # nor a colon digits
        ("p53.a", ["p53", "a"]),  # a digit and a letter are not held
        ("don't", ["don't"]),
        ("don''t", ["don", "t"]),
        ("'quoted'", ["quoted"]),
        ("O’Neil", ["o’neil"]),
        ("well-known", ["well", "known"]),
        ("B12 4x4", ["b12", "4x4"]),  # WB9, WB10
        ("snake_case _x_ __", ["snake_case", "_x_"]),  # WB13a, WB13b
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),  # WB4: marks belong to what they stand on
        ("日本", ["日", "本"]),
        ("ひら カタカナ", ["ひ", "ら", "カタカナ"]),
        ("경성 (서라벌)", ["경성", "서라벌"]),
        ("10m² x½", ["10m", "x"]),
        ("ice\u00a0cream", ["ice", "cream"]),
    ],
)
def test_lucene_cuts_where_the_annex_does(text: str, words: list[str]) -> None:
    assert LUCENE.words(text) == words


@pytest.mark.parametrize("mark", ["'", "’", "＇"])
def test_possessives_count_as_their_owner(mark: str) -> None:
    assert LUCENE.terms(f"Darwin{mark}s finches") == LUCENE.terms("Darwin finches")
    assert LUCENE.terms(f"It{mark}S") == []  # what is left is a stop word
    assert LUCENE.terms(f"bees{mark}") == LUCENE.terms("bees")
    assert PLAIN.terms(f"Darwin{mark}s") != LUCENE.terms("Darwin")


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("possibly", "possibl"),  # -bli loses its i
        ("psychology", "psycholog"),  # -logi, too
        ("biology", "biologi"),  # but not where no measured stem would be left
        ("is", "is"),
        ("as", "as"),
        ("us", "us"),  # two letters stay
        ("running", "run"),
        ("agreed", "agre"),
    ],
)
def test_lucene_stems_as_porters_own_program(word: str, stem: str) -> None:
    assert Analysis(stemmer="lucene", stop_words=()).term(word) == stem
