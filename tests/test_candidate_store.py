"""Candidates found once are those of a search, survive kills, and are never another index's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from index_corpora import corpus, queries

from kardlib import candidate_store
from kardlib.analysis import Analysis
from kardlib.bm25 import BM25
from kardlib.candidate_queries import dataset_queries, file_queries
from kardlib.candidate_store import CandidateStore
from kardlib.candidates import question_candidates, rationale_candidates, rationale_key, training_pool
from kardlib.dataset import DataSet
from kardlib.errors import KardError
from kardlib.index import Index
from kardlib.index_build import build_index
from kardlib.index_key import index_key
from kardlib.mini import MiniSet
from kardlib.passage_source import PassageList
from kardlib.prompts import query_of
from kardlib.records import Question, Rationale
from kardlib.stored_candidates import StoredSearcher
from kardlib.teacher import ScriptedTeacher

DEPTH = 20
PASSAGES = corpus(5, 150)
QUERIES = {f"q{i}": text for i, text in enumerate(dict.fromkeys(queries(5, PASSAGES, 30)))}


class Counting:
    """An index that remembers what it was asked for."""

    def __init__(self, index: Index) -> None:
        self._index, self.passages = index, index.passages
        self.searched: list[str] = []
        self.scored: list[tuple[str, list[int]]] = []

    def search_many(self, queries: Sequence[str], k: int) -> list[tuple[np.ndarray, np.ndarray]]:
        self.searched += queries
        return self._index.search_many(queries, k, threads=1)

    def score(self, query: str, places: Sequence[int] | np.ndarray) -> np.ndarray:
        self.scored.append((query, list(places)))
        return self._index.score(query, places)

    def scores(self, query: str) -> np.ndarray:
        return self._index.scores(query)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Index:
    source, folder = PassageList(PASSAGES), tmp_path_factory.mktemp("index") / "index"
    build_index(source, folder, shard_passages=64, workers=0, progress=False)
    return Index.open(folder, source)


@pytest.fixture
def index(opened: Index) -> Counting:
    return Counting(opened)


@pytest.fixture
def store(tmp_path: Path, opened: Index) -> CandidateStore:
    return CandidateStore(tmp_path / "candidates", index_key(opened.manifest))


@pytest.fixture(params=[1, 7, 256], ids=["one a part", "seven a part", "all in a part"])
def filled(
    store: CandidateStore, index: Counting, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> CandidateStore:
    monkeypatch.setattr(candidate_store, "QUERIES_A_PART", request.param)
    monkeypatch.setattr(candidate_store, "QUERIES_A_GROUP", 3)
    monkeypatch.setattr(candidate_store, "GROUPS_HELD", 2)
    assert store.add_missing(QUERIES, index, DEPTH) == len(QUERIES)
    return store


def test_every_prefix_of_what_is_stored_is_a_search(filled: CandidateStore, opened: Index) -> None:
    again = CandidateStore(filled.folder.parent, filled.index_key)
    for key, text in QUERIES.items():
        for k in (1, 2, 7, DEPTH):
            hits = opened.search(text, k)
            for held in (filled, again):
                places, scores = held.hits(text, k)
                assert (places.dtype, scores.dtype) == (np.int64, np.float32)
                assert places.tolist() == [hit.index for hit in hits] and scores.tolist() == [h.score for h in hits]
                top = held.top(text, k)
                assert top.key == key and top.scores == tuple(hit.score for hit in hits)
                assert top.passages == tuple(opened.passages[hit.index].id for hit in hits)


def test_what_is_stored_is_not_searched_for_again(filled: CandidateStore, index: Counting) -> None:
    assert sorted(index.searched) == sorted(QUERIES.values())
    index.searched.clear()
    assert filled.add_missing(QUERIES, index, DEPTH) == filled.add_missing(QUERIES, index, DEPTH - 5) == 0
    other = {"again": QUERIES["q3"], "new": "w1 w2", "twin": "w1 w2"}
    assert filled.missing(other, DEPTH) == {"new": "w1 w2"}
    assert filled.add_missing(other, index, DEPTH) == 1 and index.searched == ["w1 w2"]
    assert len(filled) == len(QUERIES) + 1


def test_deeper_takes_the_place_of_what_was_there(filled: CandidateStore, index: Counting, opened: Index) -> None:
    text = QUERIES["q0"]
    assert filled.add_missing({"q0": text}, index, DEPTH + 5) == 1
    for held in (filled, CandidateStore(filled.folder.parent, filled.index_key)):
        assert held.depth(text) == DEPTH + 5 and len(held) == len(QUERIES)
        assert held.hits(text, DEPTH + 5)[0].tolist() == [hit.index for hit in opened.search(text, DEPTH + 5)]


def test_more_than_there_are_gives_all(store: CandidateStore, index: Counting) -> None:
    store.add_missing({"q": "w1"}, index, 10**6)
    assert sorted(store.hits("w1", 10**5)[0].tolist()) == list(range(len(PASSAGES)))


def test_what_is_not_stored_is_told(filled: CandidateStore, index: Counting) -> None:
    with pytest.raises(KardError, match="'never seen': its candidates are not stored"):
        filled.hits("never seen", 1)
    with pytest.raises(KardError, match=f"{DEPTH} candidates are stored, {DEPTH + 1} were asked for"):
        filled.top(QUERIES["q1"], DEPTH + 1)
    for call in (lambda: filled.hits(QUERIES["q1"], 0), lambda: filled.add_missing({"a": "b"}, index, 0)):
        with pytest.raises(KardError, match="at least one"):
            call()


def test_a_searcher_that_breaks_its_word_is_refused(store: CandidateStore, opened: Index) -> None:
    good = opened.search_many(["w1"], 5)[0]

    class Broken(Counting):
        answer = good

        def search_many(self, queries: Sequence[str], k: int) -> list[tuple[np.ndarray, np.ndarray]]:
            return [self.answer]

    broken = Broken(opened)
    bad = [
        (good[0][:4], good[1][:4]),
        (good[0], good[1][::-1] + np.arange(5, dtype=np.float32)),
        (good[0], good[1] * np.nan),
        (np.full(5, 3), np.ones(5)),
        (np.array([4, 3, 2, 1, 0]), np.ones(5)),
    ]
    for broken.answer in bad:
        with pytest.raises(KardError, match="query q: the index gave"):
            store.add_missing({"q": "w1"}, broken, 5)
    assert not len(store) and not store.folder.exists()


def test_another_index_has_its_own_candidates(filled: CandidateStore, opened: Index, tmp_path: Path) -> None:
    """Whatever moves a score moves the key; how an index lies on disk does not."""
    source, keys = opened.passages, set()
    for number, settings in enumerate(({}, {"k1": 1.2}, {"b": 0.5}, {"analysis": Analysis(stemmer="none")})):
        manifest = build_index(source, tmp_path / str(number), workers=0, progress=False, **settings)
        keys.add(index_key(manifest))
    changed = PassageList([*PASSAGES[:-1], PASSAGES[-1].model_copy(update={"text": "another"})])
    keys.add(index_key(build_index(changed, tmp_path / "changed", workers=0, progress=False)))
    assert len(keys) == 5 and filled.index_key in keys  # of one shard here, of three there
    for key in keys - {filled.index_key}:
        assert not len(CandidateStore(filled.folder.parent, key))
    with pytest.raises(KardError, match="key of their index"):
        CandidateStore(tmp_path, "")


def test_files_of_another_index_and_damaged_ones_are_named(filled: CandidateStore) -> None:
    file = filled.folder / "part-000000.parquet"
    whole = file.read_bytes()
    other = CandidateStore(filled.folder.parent, "another index")
    other.folder.mkdir()
    (other.folder / file.name).write_bytes(whole)
    with pytest.raises(KardError, match=r"part-000000.parquet: it belongs to the index passages="):
        other.refresh()
    for damaged in (whole[: len(whole) // 2], b""):
        file.write_bytes(damaged)
        with pytest.raises(KardError, match=r"part-000000.parquet: no whole file of candidates; remove it"):
            CandidateStore(filled.folder.parent, filled.index_key)


def test_what_others_add_is_seen_and_nothing_is_lost(
    store: CandidateStore, index: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate_store, "QUERIES_A_PART", 2)
    stores = [CandidateStore(store.folder.parent, store.index_key) for _ in range(4)]
    share = [dict(list(QUERIES.items())[i::4]) for i in range(4)]
    threads = [
        threading.Thread(target=held.add_missing, args=(part, index, DEPTH))
        for held, part in zip(stores, share, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.refresh()
    assert len(store) == len(QUERIES) and not store.missing(QUERIES, DEPTH)


FILL = """
import json, sys, time
sys.modules["numba"] = None  # slow to import, and nothing here is searched with it
from pathlib import Path
import numpy as np
import pyarrow.parquet as pq
from kardlib import candidate_store
from kardlib.passage_source import PassageList
from kardlib.records import Passage
folder, queries, half = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3] == "half a file"
candidate_store.QUERIES_A_PART = 4
class Slow:
    passages = PassageList([Passage(id=f"p{i}", text="x") for i in range(5)])
    asked = 0
    def search_many(self, queries, k):
        self.asked += 1
        if self.asked == 3 and not half:
            print("here", flush=True)
            time.sleep(60)
        return [(np.arange(5), np.full(5, len(q), np.float32)) for q in queries]
write = pq.write_table
def stop(table, target, **options):
    if Slow.asked == 3 or searcher.asked == 3:
        target.write(b"PAR1 and a piece")
        target.flush()
        print("here", flush=True)
        time.sleep(60)
    write(table, target, **options)
searcher = Slow()
if half:
    pq.write_table = stop
candidate_store.CandidateStore(folder, "key").add_missing(queries, searcher, 5)
"""


@pytest.mark.parametrize("moment", ["searching", "half a file"])
def test_kill_keeps_what_was_finished(tmp_path: Path, index: Counting, moment: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FILL, str(tmp_path), json.dumps(QUERIES), moment], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout and child.stdout.readline() == "here\n"
        os.kill(child.pid, signal.SIGKILL)
    held = CandidateStore(tmp_path, "key")
    assert len(held) == 8
    assert held.add_missing(QUERIES, index, 5) == len(QUERIES) - 8
    assert not list(held.folder.glob(".part-*")) and len(CandidateStore(tmp_path, "key")) == len(QUERIES)


def test_the_files_are_plain_parquet(filled: CandidateStore) -> None:
    rows = [row for file in filled.folder.glob("part-*.parquet") for row in pq.read_table(file).to_pylist()]
    assert {row["key"] for row in rows} == set(QUERIES)
    assert all(len(row["places"]) == len(row["ids"]) == len(row["scores"]) == DEPTH for row in rows)


def test_searching_by_looking_up(filled: CandidateStore, index: Counting, opened: Index) -> None:
    index.searched.clear()
    stored = StoredSearcher(filled, index)
    for text in QUERIES.values():
        assert stored.search(text, 9) == opened.search(text, 9)
        places = [3, 0, 149, 77]
        assert stored.score(text, places).tolist() == opened.score(text, places).tolist()
        assert np.array_equal(stored.scores(text), opened.scores(text))
    assert stored.passages is index.passages and not index.searched


def test_only_unknown_scores_are_computed(filled: CandidateStore, index: Counting) -> None:
    text = QUERIES["q2"]
    found = filled.hits(text, DEPTH)[0].tolist()
    other = next(place for place in range(len(PASSAGES)) if place not in found)
    stored = StoredSearcher(filled, index)
    assert stored.score(text, []).shape == (0,)
    stored.score(text, found)
    assert not index.scored
    stored.score(text, [*found, other])
    assert index.scored == [(text, [other])]


def test_live_search_needs_no_folder(tmp_path: Path, index: Counting, opened: Index) -> None:
    """As where the index lies in a place that cannot be written."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    held = CandidateStore(blocked / "candidates", "key")
    live = StoredSearcher(held, index, live=True)
    for text in list(QUERIES.values())[:5]:
        assert live.search(text, 6) == opened.search(text, 6)
        assert live.score(text, [5, 1]).tolist() == opened.score(text, [5, 1]).tolist()
    with pytest.raises(KardError, match="candidates cannot be written"):
        held.add_missing(QUERIES, index, 5)
    with pytest.raises(KardError, match="not stored"):
        StoredSearcher(held, index).search("w1", 1)
    with pytest.raises(KardError, match="at least one"):
        live.search("w1", 0)


def test_live_searches_deeper_than_what_is_stored(filled: CandidateStore, index: Counting, opened: Index) -> None:
    index.searched.clear()
    live, text = StoredSearcher(filled, index, live=True), QUERIES["q1"]
    assert live.search(text, DEPTH) == opened.search(text, DEPTH) and not index.searched
    assert live.search(text, DEPTH + 1) == opened.search(text, DEPTH + 1) and index.searched == [text]


@pytest.fixture(scope="module")
def told(mini: MiniSet) -> list[tuple[Question, Rationale]]:
    questions = {question.id: question for question in mini.splits["train"][:12]}
    return [(questions[r.question_id], r) for r in ScriptedTeacher(mini).rationales([*questions.values()], 2, True)]


def test_pools_and_candidates_are_those_of_a_search_in_memory(
    search: BM25, mini: MiniSet, told: list[tuple[Question, Rationale]], tmp_path: Path
) -> None:
    source = PassageList(mini.passages)
    build_index(source, tmp_path / "index", shard_passages=50, workers=0, progress=False)
    index = Counting(Index.open(tmp_path / "index", source))
    held = CandidateStore(tmp_path / "candidates", "key")
    wanted = {q.id: query_of(q) for q, _ in told} | {rationale_key(r): r.text for _, r in told}
    held.add_missing(wanted, index, 30)
    index.searched.clear()
    stored = StoredSearcher(held, index)
    for question, rationale in told:
        assert training_pool(stored, question, rationale, 8, 24) == training_pool(search, question, rationale, 8, 24)
        assert question_candidates(stored, question, 30) == question_candidates(search, question, 30)
        assert rationale_candidates(stored, rationale, 3) == rationale_candidates(search, rationale, 3)
    assert not index.searched and index.scored, "pools are look-ups and single scores"


def test_queries_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text('{"id": "a", "text": "one"}\n\n{"id": "b", "text": "two", "more": 1}\n')
    assert file_queries(path) == {"a": "one", "b": "two"}
    bad = [
        ('{"id": "a"}\n', r"queries.jsonl:1: field text"),
        ('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', r"queries.jsonl:2: field id: 'a' occurs a second"),
        ("\n", "it holds no queries"),
        ('{"id": "a", "text": "x"\n', "queries.jsonl:1: not JSON"),
    ]
    for content, line in bad:
        path.write_text(content)
        with pytest.raises(KardError, match=line):
            file_queries(path)


def test_queries_of_a_data_set(mini: MiniSet) -> None:
    splits = mini.splits
    told = {
        question.id: Rationale(question_id=question.id, index=0, text=f"because of {question.id}", saw_gold=True)
        for question in (*splits["train"], *splits["test"][:5])
    }
    data = DataSet(
        name="mini",
        paper_name="",
        train=splits["train"],
        dev=splits["dev"],
        test=splits["test"],
        test_split="test",
        passages=mini.passages,
        annotations=told,
    )
    questions = [*splits["train"], *splits["dev"], *splits["test"]]
    found = dataset_queries(data, "none")
    assert found == {question.id: query_of(question) for question in questions}
    found = dataset_queries(data)
    assert set(found) - {q.id for q in questions} == {rationale_key(told[q.id]) for q in splits["train"]}
    assert len(dataset_queries(data, "all")) == len(questions) + len(told)
