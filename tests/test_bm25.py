"""BM25: the formula, the analyser, ties, and queries that know no word of the passages."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from kardlib.bm25 import BM25, STOP_WORDS, Analyzer, RankBM25, rank
from kardlib.errors import KardError
from kardlib.mini import MiniSet
from kardlib.prompts import query_of
from kardlib.records import Passage


def knowledge(count: int, seed: int = 0) -> list[Passage]:
    """Random passages of uneven length over a small vocabulary, in no order."""
    rng = random.Random(seed)
    words = [f"word{chr(97 + i)}" for i in range(26)] + ["the", "of"]
    passages = [
        Passage(id=f"p{i:03d}", text=" ".join(rng.choices(words, range(1, 29), k=rng.randint(3, 40))))
        for i in range(count)
    ]
    rng.shuffle(passages)
    return passages


def brute_force(passages: list[Passage], query: str, k1: float, b: float) -> list[float]:
    """The formula, word by word."""
    docs = [Analyzer()(p.text) for p in sorted(passages, key=lambda p: p.id)]
    mean, scores = sum(map(len, docs)) / len(docs), []
    for doc in docs:
        score = 0.0
        for word in Analyzer()(query):
            n, f = sum(word in other for other in docs), doc.count(word)
            idf = math.log(1 + (len(docs) - n + 0.5) / (n + 0.5))
            score += idf * f / (f + k1 * (1 - b + b * len(doc) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize("k1, b", [(0.9, 0.4), (1.5, 0.75), (0.5, 0.0)])
@pytest.mark.parametrize("query", ["worda wordz the wordk", "wordb", "wordq wordq wordq worda", "wordy unknown the"])
def test_scores_are_the_formula(query: str, k1: float, b: float) -> None:
    passages = knowledge(40)
    expected = brute_force(passages, query, k1, b)
    assert max(expected) > 0
    for engine in (BM25, RankBM25):
        assert np.allclose(engine(passages, k1=k1, b=b).scores(query), expected, rtol=1e-4, atol=1e-5)


def test_the_defaults_are_the_papers() -> None:
    passages, query = knowledge(30), "worda wordb wordz"
    assert np.allclose(BM25(passages).scores(query), brute_force(passages, query, k1=0.9, b=0.4), atol=1e-5)


def test_both_engines_agree_on_a_mini_knowledge_base(mini: MiniSet, search: BM25) -> None:
    reference = RankBM25(mini.passages)
    for question in mini.splits["test"]:
        query = query_of(question)
        assert np.allclose(search.scores(query), reference.scores(query), rtol=1e-4, atol=1e-4)
        fast, slow = search.search(query, 10), reference.search(query, 10)
        assert np.allclose([h.score for h in fast], [h.score for h in slow], atol=1e-4)
        clear = {h.index for h in fast if h.score > fast[-1].score + 1e-3}
        assert clear and clear <= {h.index for h in slow}


def test_rank_bm25s_own_idf_is_another() -> None:
    passages, query = knowledge(40), "worda wordz"
    assert not np.allclose(
        RankBM25(passages, lucene_idf=False).scores(query), RankBM25(passages).scores(query), atol=1e-2
    )


def test_a_repeated_query_word_counts_again() -> None:
    search = BM25(knowledge(40))
    assert np.allclose(search.scores("wordb wordb"), 2 * search.scores("wordb"), rtol=1e-5)


@pytest.mark.parametrize("engine", [BM25, RankBM25])
def test_ties_go_by_id_whatever_the_order_of_the_passages(engine: type) -> None:
    passages = [Passage(id=i, text="grey cats sleep" if i in "bdf" else "dogs bark") for i in "fdbace"]
    for order in (passages, passages[::-1], sorted(passages, key=lambda p: p.id)):
        search = engine(order)
        found = [search.passages[h.index].id for h in search.search("cats", 5)]
        assert found == ["b", "d", "f", "a", "c"]


@pytest.mark.parametrize("engine", [BM25, RankBM25])
@pytest.mark.parametrize("query", ["zebra", "", "the of and", "!?", "日本"])
def test_a_query_without_a_known_word_gets_the_first_passages(engine: type, query: str) -> None:
    search = engine(knowledge(10))
    hits = search.search(query, 4)
    assert [(h.index, h.score) for h in hits] == [(i, 0.0) for i in range(4)]
    assert search.scores(query).shape == (10,)


@pytest.mark.parametrize("engine", [BM25, RankBM25])
def test_more_than_all_passages_are_all_of_them_once(engine: type) -> None:
    search = engine(knowledge(7))
    everything = search.search("worda wordz", 100)
    assert sorted(h.index for h in everything) == list(range(7))
    assert everything[:3] == search.search("worda wordz", 3)


@pytest.mark.parametrize("engine", [BM25, RankBM25])
def test_nothing_to_search_is_refused(engine: type) -> None:
    with pytest.raises(KardError, match="empty"):
        engine([])
    for k in (0, -1):
        with pytest.raises(KardError, match="k = "):
            engine(knowledge(3)).search("worda", k)


def test_passages_of_stop_words_only_score_nothing() -> None:
    search = BM25([Passage(id="a", text="the of and"), Passage(id="b", text="a rash")])
    assert search.scores("the rash")[0] == 0 < search.scores("the rash")[1]


def test_rank_is_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.integers(0, 4, size=rng.integers(1, 30)).astype(np.float32)
        expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        for k in range(len(scores) + 3):
            assert [h.index for h in rank(scores, k)] == expected[:k]


@pytest.mark.parametrize(
    "query, text",
    [
        ("Treated diseases", "It treats a disease"),
        ("running", "runs"),
        ("SPREADING", "what spreads it"),
        ("enzymes blocked", "a drug blocks an enzyme"),
    ],
)
def test_inflected_words_match_in_any_case(query: str, text: str) -> None:
    search = BM25([Passage(id="a", text="nothing of it"), Passage(id="b", text=text)])
    assert [h.index for h in search.search(query, 1)] == [1] and search.scores(query)[1] > 0


def test_the_analyser_drops_stop_words_and_only_those() -> None:
    assert Analyzer()(" ".join(sorted(STOP_WORDS))) == []
    assert len(STOP_WORDS) == 33
    assert Analyzer()("Which of THE drugs, then?") == ["which", "drug"]
