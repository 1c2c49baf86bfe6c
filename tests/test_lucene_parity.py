"""Agreement with Lucene: on a hundred passages that Lucene searched, and on all of Simple Wikipedia.

``data/lucene_parity_small.json`` holds what Lucene itself found among its passages, with scores, and its licences.
The long version runs where KARD_LONG is set and KARD_DATA names the folder with the real data.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from kardlib.analysis import LUCENE, PLAIN, Analysis
from kardlib.bm25 import BM25, K1, B, Hit, rank
from kardlib.documents import read_documents
from kardlib.errors import KardError
from kardlib.index import Index
from kardlib.index_build import build_index
from kardlib.lucene_lengths import lossy
from kardlib.lucene_parity import LuceneTop, number_of, parity, read_lucene_top
from kardlib.passage_rules import WINDOWS
from kardlib.passage_source import PassageList
from kardlib.records import Passage

SMALL = Path(__file__).parent / "data" / "lucene_parity_small.json"
ROW = json.loads(SMALL.read_text(encoding="utf-8"))
PASSAGES = [Passage(id=identifier, text=text) for identifier, text in ROW["passages"]]


class _BruteForce:
    """BM25 by its definition, one passage at a time."""

    def __init__(self, passages: list[Passage], analysis: Analysis, lossy_lengths: bool) -> None:
        self.passages = sorted(passages, key=lambda passage: passage.id)
        self._analysis, self._terms = analysis, [analysis.terms(passage.text) for passage in self.passages]
        exact = np.array([len(terms) for terms in self._terms])
        self._lengths, self._mean = lossy(exact) if lossy_lengths else exact, exact.mean()

    def scores(self, query: str) -> np.ndarray:
        total = np.zeros(len(self.passages))
        for term in self._analysis.terms(query):
            frequency = np.array([terms.count(term) for terms in self._terms])
            holding = np.count_nonzero(frequency)
            idf = np.log1p((len(frequency) - holding + 0.5) / (holding + 0.5))
            total += idf * frequency / (frequency + K1 * (1 - B + B * self._lengths / self._mean))
        return total.astype(np.float32)

    def search(self, query: str, k: int) -> list[Hit]:
        return rank(self.scores(query), k)


@pytest.fixture(scope="module")
def lucene() -> LuceneTop:
    return read_lucene_top(SMALL)


def test_the_fixture_is_small_and_names_its_licences() -> None:
    assert SMALL.stat().st_size < 100_000
    assert "MIT" in ROW["licence"] and "CC BY-SA 3.0" in ROW["licence"]


def test_lucenes_analysis_and_lengths_give_lucenes_ranking_and_scores(lucene: LuceneTop) -> None:
    ours = _BruteForce(PASSAGES, LUCENE, lossy_lengths=True)
    assert parity(ours, lucene, [10, 20]).overlap == {10: 1.0, 20: 1.0}
    for query, numbers, scores in zip(lucene.queries, lucene.top, ROW["scores"], strict=True):
        place = {number_of(passage): i for i, passage in enumerate(ours.passages)}
        np.testing.assert_allclose(ours.scores(query)[[place[n] for n in numbers]], scores, atol=1e-4)


def test_each_half_alone_misses_lucenes_scores(lucene: LuceneTop) -> None:
    for ours in (_BruteForce(PASSAGES, LUCENE, False), _BruteForce(PASSAGES, PLAIN, True)):
        best = [max(ours.scores(query)) for query in lucene.queries]
        assert not np.allclose(best, [scores[0] for scores in ROW["scores"]], rtol=1e-3)


def test_the_plain_engine_can_be_compared_too(lucene: LuceneTop) -> None:
    found = parity(BM25(PASSAGES), lucene)
    same = parity(_BruteForce(PASSAGES, PLAIN, False), lucene)
    assert found.overlap == same.overlap and set(found.overlap) == {10}
    assert 0.8 < found.overlap[10] < 1
    assert f"{found.overlap[10]:.4f}" in str(found)


def test_an_index_gives_lucenes_ranking(lucene: LuceneTop, tmp_path: Path) -> None:
    build, index, manifest = (pytest.importorskip(f"kardlib.index{end}") for end in ("_build", "", "_manifest"))
    assert manifest.LENGTHS["lucene"] is lossy
    source = PassageList(PASSAGES)
    build.build_index(source, tmp_path / "index", LUCENE, lengths="lucene", shard_passages=33, progress=False)
    assert parity(index.Index.open(tmp_path / "index", source), lucene).overlap == {10: 1.0}


def test_overlap_and_order_are_counted_by_depth() -> None:
    truth = LuceneTop(engine="none", n_passages=3, queries=("a b", "c"), top100=((0, 1), (2, 0)))
    passages = [Passage(id=f"p-{i}", text=text) for i, text in enumerate(["x b", "x b a", "y"])]
    found = parity(BM25(passages), truth, [1, 2, 100])
    assert found.overlap == {1: 0.5, 2: 0.75}  # equal scores, and a word that none has, find 0 and 1
    assert found.same_order == {1: 0.5, 2: 0.5}


def test_other_passages_and_depths_are_refused(lucene: LuceneTop) -> None:
    with pytest.raises(KardError, match="Lucene searched 100 passages, this searcher has 99"):
        parity(BM25(PASSAGES[1:]), lucene)
    with pytest.raises(KardError, match="depths: Lucene's best 20"):
        parity(BM25(PASSAGES), lucene, [50])
    with pytest.raises(KardError, match="passage abc: its id ends in no number"):
        number_of(Passage(id="abc", text="x"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "cannot be read"),
        ("[]", "file"),
        (json.dumps({"engine": "e", "n_passages": 1, "queries": ["a"], "top100": []}), "1 queries and 0 lists"),
        (json.dumps({"engine": "e", "n_passages": 1, "queries": ["a", "b"], "top100": [[1], []]}), "differ in length"),
        (json.dumps({"engine": "e", "n_passages": 1, "queries": ["a"]}), "top100"),
    ],
)
def test_a_faulty_file_is_named(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "top.json"
    path.write_text(text)
    with pytest.raises(KardError, match=rf"top\.json: .*{fault}"):
        read_lucene_top(path)


@pytest.mark.skipif(not os.environ.get("KARD_LONG"), reason="KARD_LONG is not set")
def test_all_of_simple_wikipedia_is_ranked_as_lucene_ranks_it(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "lucene_parity.json"
    lucene = read_lucene_top(path)
    articles = read_documents(data_dir / "wikipedia_simple" / "articles.jsonl.gz")
    texts = [text for article in articles for text in WINDOWS.cut(article.title, article.text)]
    joined = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    assert joined == json.loads(path.read_text())["sha256_of_passages_joined_by_newline"]
    # equal scores go by the id as a string
    source = PassageList([Passage(id=str(number), text=text) for number, text in enumerate(texts)])
    build_index(source, tmp_path / "index", LUCENE, lengths="lucene", progress=False)
    found = parity(Index.open(tmp_path / "index", source), lucene)
    print(found)
    assert found.overlap[10] >= 0.98 and found.overlap[100] >= 0.98
    assert found.same_order[10] >= 0.98 and found.same_order[100] >= 0.98
