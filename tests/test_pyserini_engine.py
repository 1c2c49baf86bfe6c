"""Lucene's engine with a module in pyserini's place: what is handed over and what becomes of the answers, no Lucene."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from kardlib.bm25 import BM25
from kardlib.errors import KardError
from kardlib.passage_source import PassageList
from kardlib.pyserini_engine import LuceneEngine, build_lucene_index
from kardlib.records import Passage

PASSAGES = [Passage(id=f"p{i:04d}", text=f"word{i % 7} common{i % 2} passage") for i in range(30)]


class _Indexer:
    def __init__(self, folder: str, threads: int) -> None:
        self._folder, self._documents = Path(folder), []

    def add_batch_dict(self, documents: list[dict[str, str]]) -> None:
        self._documents += documents

    def close(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "documents").write_text("\n".join(f"{d['id']}\t{d['contents']}" for d in self._documents))


class _Searcher:
    """Finds what has a word of the query, as Lucene does: fewer than k, and never a score of 0."""

    def __init__(self, folder: str) -> None:
        rows = [row.split("\t") for row in (Path(folder) / "documents").read_text().split("\n")]
        self._ids = [row[0] for row in rows]
        self._engine = BM25([Passage(id=row[0], text=row[1]) for row in rows])
        self.num_docs = len(rows)

    def set_bm25(self, k1: float, b: float) -> None:
        self.weights = (k1, b)

    def search(self, query: str, k: int) -> list[SimpleNamespace]:
        hits = [hit for hit in self._engine.search(query, k) if hit.score > 0]
        return [SimpleNamespace(docid=self._ids[hit.index], score=hit.score) for hit in hits]

    def batch_search(
        self, queries: list[str], ids: list[str], k: int, threads: int
    ) -> dict[str, list[SimpleNamespace]]:
        return {one: self.search(query, k) for one, query in zip(ids, queries, strict=True)}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in (("index", {"LuceneIndexer": _Indexer}), ("search", {"LuceneSearcher": _Searcher})):
        module = ModuleType(f"pyserini.{name}.lucene")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def engine(fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LuceneEngine:
    monkeypatch.setattr("kardlib.pyserini_engine._AT_ONCE", 7)
    source = PassageList(PASSAGES)
    build_lucene_index(source, tmp_path / "lucene")
    return LuceneEngine(source, tmp_path / "lucene")


@pytest.mark.parametrize("query", ["word3", "word1 common0", "unknown", "", "passage"])
@pytest.mark.parametrize("k", [1, 5, 29, 30, 50])
def test_hits_are_places_and_the_rest_follows_with_score_0(engine: LuceneEngine, query: str, k: int) -> None:
    expected = BM25(PASSAGES).search(query, k)
    assert engine.search(query, k) == expected
    assert engine.search_many([query, "", query], k) == [expected, BM25(PASSAGES).search("", k), expected]


@pytest.mark.parametrize("query", ["word3", "word1 common0", "unknown", ""])
def test_it_stands_where_a_searcher_does(engine: LuceneEngine, query: str) -> None:
    reference = BM25(PASSAGES)
    assert engine.scores(query).tolist() == reference.scores(query).tolist()
    assert engine.score(query, [29, 3, 3]).tolist() == reference.score(query, [29, 3, 3]).tolist()
    assert engine.texts == reference.texts


def test_the_papers_weights_are_set(engine: LuceneEngine) -> None:
    assert engine._lucene.weights == (0.9, 0.4)


def test_what_cannot_be_asked_is_said(engine: LuceneEngine) -> None:
    with pytest.raises(KardError, match="k = 0"):
        engine.search("word1", 0)
    with pytest.raises(KardError, match="k = 0"):
        engine.search_many(["word1"], 0)


def test_an_index_of_other_passages_is_refused(engine: LuceneEngine, tmp_path: Path) -> None:
    with pytest.raises(KardError, match="it holds 30 passages, the source has 29"):
        LuceneEngine(PassageList(PASSAGES[1:]), tmp_path / "lucene")
    with pytest.raises(KardError, match="something is there already"):
        build_lucene_index(PassageList(PASSAGES), tmp_path / "lucene")
    with pytest.raises(KardError, match="there is none"):
        LuceneEngine(PassageList(PASSAGES), tmp_path / "elsewhere")


def test_absence_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyserini.index.lucene", None)
    with pytest.raises(
        KardError, match=r"engine pyserini: it cannot be imported \(.*\); pip install pyserini"
    ) as caught:
        build_lucene_index(PassageList(PASSAGES), tmp_path / "lucene")
    assert "\n" not in str(caught.value)
