"""The index on disk gives what BM25 in memory gives, however it is cut, stored, opened and computed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from index_corpora import brute_force, corpus, queries

from kardlib.analysis import PLAIN, Analysis
from kardlib.bm25 import BM25, Hit, RankBM25
from kardlib.errors import KardError
from kardlib.index import Index
from kardlib.index_build import build_index
from kardlib.passage_source import PassageList
from kardlib.records import Passage

BACKENDS = ["numpy", "numba"] if importlib.util.find_spec("numba") else ["numpy"]


def built(
    folder: Path, passages: list[Passage], backend: str = "auto", mapped: bool = True, **settings: object
) -> Index:
    """Build and open."""
    source = PassageList(passages)
    build_index(source, folder, **{"workers": 0, "progress": False, **settings})
    return Index.open(folder, source, mapped, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_engine_in_memory_to_the_bit(tmp_path: Path, seed: int, backend: str) -> None:
    """Places and scores are those of bm25s over the same passages, for any number of shards."""
    passages = corpus(seed, 20 + 37 * seed)
    plain = BM25(passages)
    for size in (7, 64, 1000):
        index = built(tmp_path / str(size), passages, backend, shard_passages=size)
        assert len(index.manifest.shards) == -(-len(passages) // size)
        for query in queries(seed, passages, 12):
            assert np.array_equal(index.scores(query), plain.scores(query))
            for k in (1, 10, len(passages) + 5):
                assert index.search(query, k) == plain.search(query, k)


@pytest.mark.parametrize("seed", range(3))
def test_equals_brute_force_and_rank_bm25_up_to_noise(tmp_path: Path, seed: int) -> None:
    """Scores are those of two independent computations in float64; places too, but for scores that noise parts."""
    passages = corpus(seed, 90)
    reference, index = RankBM25(passages), built(tmp_path / "index", passages, shard_passages=31)
    for query in queries(seed, passages, 15):
        truth = brute_force(passages, query)
        for scores in (truth, reference.scores(query)):
            np.testing.assert_allclose(index.scores(query), scores, rtol=2e-6, atol=1e-6)
            hits = index.search(query, 10)
            # A passage above its neighbour by more than noise stands above it.
            np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:10], rtol=2e-6, atol=1e-6)
            assert all(scores[hit.index] == pytest.approx(hit.score, rel=2e-6, abs=1e-6) for hit in hits)


def test_all_ways_to_search_agree(tmp_path: Path) -> None:
    """Mapped or in memory, either back end, one or several threads, one query or many: the same bits."""
    passages = corpus(5, 300)
    asked = queries(5, passages, 60)
    source = PassageList(passages)
    build_index(source, tmp_path / "index", shard_passages=64, workers=0, progress=False)
    expected = Index.open(tmp_path / "index", source, backend="numpy").search_many(asked, 25, threads=1)
    for backend in BACKENDS:
        for mapped in (True, False):
            index = Index.open(tmp_path / "index", source, mapped, backend=backend)
            for threads in (1, 3):
                for (places, scores), (right, best) in zip(
                    index.search_many(asked, 25, threads), expected, strict=True
                ):
                    assert np.array_equal(places, right) and np.array_equal(scores, best)
            hits = index.search(asked[0], 25)
            assert index.search_many([], 25) == []
            assert hits == [Hit(int(p), float(s)) for p, s in zip(*expected[0], strict=True)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_of_given_passages_need_no_search(tmp_path: Path, backend: str) -> None:
    """`score` is `scores` at the places asked for, in their order, repeats included."""
    passages = corpus(7, 200)
    index = built(tmp_path / "index", passages, backend, shard_passages=33)
    places = np.random.default_rng(7).integers(0, 200, 80)
    for query in queries(7, passages, 20):
        assert np.array_equal(index.score(query, places), index.scores(query)[places])
    assert len(index.score("w1", [])) == 0
    with pytest.raises(KardError, match="place 5 or 200: the index has 200 passages"):
        index.score("w1", [5, 200])


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_go_by_id_across_shards(tmp_path: Path, backend: str) -> None:
    """Equal passages come in the order of their ids, also where k cuts between them and where nothing matches."""
    passages = [Passage(id=f"{i:03d}", text="same words" if i % 3 else "other things") for i in range(50)]
    index = built(tmp_path / "index", passages, backend, shard_passages=8)
    same = [i for i in range(50) if i % 3]
    for k in (1, 5, 20, len(same), 40, 50):
        places = [hit.index for hit in index.search("same", k)]
        assert places == [*same, *(i for i in range(50) if not i % 3)][:k]
    assert [hit.index for hit in index.search("nothing known", 4)] == [0, 1, 2, 3]
    with pytest.raises(KardError, match="k = 0"):
        index.search("same", 0)


def test_other_settings_enter_the_scores(tmp_path: Path) -> None:
    """k1, b and the analyser are used: each gives the scores of an engine of that kind."""
    passages = corpus(3, 80)
    assert built(tmp_path / "a", passages, k1=1.5, b=0.7).search("w1 w2", 9) == BM25(passages, 1.5, 0.7).search(
        "w1 w2", 9
    )
    unstemmed = Analysis(stemmer="none", stop_words=())
    index = built(tmp_path / "b", passages, analysis=unstemmed)
    np.testing.assert_allclose(index.scores("the w2s"), brute_force(passages, "the w2s", unstemmed), rtol=2e-6)
    assert not np.allclose(index.scores("the w2s"), brute_force(passages, "the w2s", PLAIN))


def test_a_query_may_hold_anything(tmp_path: Path) -> None:
    """Unknown letters, a lone surrogate and very long queries are searched like any other."""
    passages = corpus(4, 40)
    index, plain = built(tmp_path / "index", passages), BM25(passages)
    for query in ("\ud800 w1", "Étude ÉTUDE étude", "w3 " * 3000, "\u0000 w1\n\tw2"):
        assert index.search(query, 5) == plain.search(query, 5)


def test_stands_where_an_engine_is_asked_for(tmp_path: Path) -> None:
    """It has what :class:`kardlib.bm25.Searcher` names, and its hits name passages."""
    passages = corpus(6, 30)
    index = built(tmp_path / "index", passages)
    assert len(index.passages) == len(index) == 30
    assert index.passages[index.search(passages[3].text, 1)[0].index].text == passages[3].text


def test_without_numba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where numba cannot be imported, numpy stands in; only who asks for numba is told."""
    passages = corpus(8, 30)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "kardlib.index_numba", raising=False)
    monkeypatch.delattr("kardlib.index_numba", raising=False)
    assert built(tmp_path / "index", passages).search("w1 w2", 5) == BM25(passages).search("w1 w2", 5)
    with pytest.raises(KardError, match="backend = numba: it cannot be used"):
        Index.open(tmp_path / "index", PassageList(passages), backend="numba")
