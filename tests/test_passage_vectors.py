"""Cached token vectors: the same ranking as without a cache, no padding, growth, kills, damage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kardlib import passage_vectors
from kardlib.candidates import Candidates
from kardlib.errors import KardError
from kardlib.passage_encoding import token_counts
from kardlib.passage_vectors import (
    CachedLateInteraction,
    PassageVectors,
    encoder_hash,
    store_folder,
    store_passages,
)
from kardlib.reranker import LateInteraction
from kardlib.reranker_precision import agreement


def quiet(_: str) -> None:
    pass


def groups_of(texts: dict[str, str], count: int = 6) -> tuple[list[str], list[Candidates]]:
    rng, names = np.random.default_rng(0), sorted(texts)
    chosen = [rng.choice(names, 20, replace=False).tolist() for _ in range(count)]
    queries = [texts[names[i]][: 20 + 30 * i] for i in range(count)]
    return queries, [Candidates(key=f"q{i}", passages=tuple(c), scores=(0.0,) * 20) for i, c in enumerate(chosen)]


def test_the_ranking_is_that_of_late_interaction(
    encoder: LateInteraction, texts: dict[str, str], tmp_path: Path
) -> None:
    queries, groups = groups_of(texts)
    plain = encoder.rank(queries, groups, texts)
    cached = CachedLateInteraction(encoder, tmp_path, tell=quiet).rank(queries, groups, texts)
    again = CachedLateInteraction(encoder, tmp_path, tell=quiet).rank(queries, groups, texts)
    assert [r.passages for r in cached] == [r.passages for r in plain] and [r.key for r in cached] == [
        f"q{i}" for i in range(6)
    ]
    for one, other in zip(plain, cached, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
    assert again == cached, "what is read from the disk a second time is the same to the last bit"
    assert min(np.ptp(r.scores) for r in plain) > 1e-2, "scores are far apart: the order means something"


def test_maxsim_is_brute_force_over_vectors(encoder: LateInteraction, texts: dict[str, str], tmp_path: Path) -> None:
    store = store_passages(tmp_path / "s", encoder.model, list(texts.values()), tell=quiet)
    query = encoder.model.encode(["Which drug is given?"], task="query", show_progress_bar=False)[0].numpy()
    names = list(texts.values())
    by_hand = [sum(max(float(q @ t) for t in store.of(text)) for q in query) for text in names[:8]]
    assert store.maxsim(query, names[:8]) == pytest.approx(by_hand, abs=1e-4)
    assert [len(store.of(text)) for text in names] == token_counts(encoder.model, names).tolist(), (
        "not one row of padding"
    )


def test_a_passage_that_occurs_twice_is_stored_once_and_ties_go_by_id(
    encoder: LateInteraction, texts: dict[str, str], tmp_path: Path
) -> None:
    same = {"b": "Bordol is a drug.", "a": "Bordol is a drug.", "c": texts["long1"], "d": "Bordol is a drug."}
    cached = CachedLateInteraction(encoder, tmp_path, tell=quiet)
    group = Candidates(key="q", passages=("d", "b", "c", "a"), scores=(0.0,) * 4)
    ranked = cached.rank(["Is bordol a drug?"], [group], same)[0]
    assert len(PassageVectors(cached.folder)) == 2
    assert [p for p in ranked.passages if p != "c"] == ["a", "b", "d"]


def test_a_store_grows_and_encodes_nothing_twice(
    encoder: LateInteraction, texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    names = list(texts.values())
    store_passages(tmp_path / "s", encoder.model, names[:10], tell=told.append)
    before = {text: PassageVectors(tmp_path / "s").of(text).copy() for text in names[:10]}
    encoded: list[str] = []
    usual = encoder.model.encode
    monkeypatch.setattr(encoder.model, "encode", lambda t, **o: encoded.extend(t) or usual(t, **o))
    grown = store_passages(tmp_path / "s", encoder.model, names, tell=told.append)
    assert sorted(encoded) == sorted(set(names) - set(names[:10]))
    assert all(np.array_equal(grown.of(text), vectors) for text, vectors in before.items())
    assert len(told) == 2 and "10 texts" in told[0] and "MB" in told[0] and "10 texts are there" in told[1]
    store_passages(tmp_path / "s", encoder.model, names, tell=told.append)
    assert len(told) == 2 and len(encoded) == len(set(names)) - 10, "nothing is left to do, and nothing is told"


def test_the_size_that_is_told_is_the_size_that_is_written(
    encoder: LateInteraction, texts: dict[str, str], tmp_path: Path
) -> None:
    told: list[str] = []
    names = list(texts.values())
    store_passages(tmp_path / "s", encoder.model, names, tell=told.append)
    written = sum(np.load(path).nbytes for path in (tmp_path / "s").glob("*/vectors.npy"))
    assert written == token_counts(encoder.model, names).sum() * 64 * 4 and f"{written / 1e6:,.1f} MB" in told[0]


def test_a_killed_build_loses_one_segment_at_most(
    encoder: LateInteraction, texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(texts.values())
    monkeypatch.setattr(passage_vectors, "SEGMENT_BYTES", 64 * 4 * 200)
    write, written = passage_vectors._write, []

    def killed(segment: Path, *rest: Any) -> None:
        if len(written) == 2:
            (segment.with_suffix(".partial")).mkdir()
            raise KeyboardInterrupt
        written.append(segment)
        write(segment, *rest)

    monkeypatch.setattr(passage_vectors, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        store_passages(tmp_path / "s", encoder.model, names, tell=quiet)
    left = PassageVectors(tmp_path / "s")
    assert 0 < len(left) < len(set(names)), "the finished segments can be read"
    monkeypatch.setattr(passage_vectors, "_write", write)
    whole = store_passages(tmp_path / "s", encoder.model, names, tell=quiet)
    straight = store_passages(tmp_path / "t", encoder.model, names, tell=quiet)
    assert len(whole) == len(set(names)) and not list((tmp_path / "s").glob("*.partial"))
    for text in names:
        assert np.allclose(whole.of(text), straight.of(text), atol=1e-5)


@pytest.mark.parametrize("damage", ["cut", "gone", "noise", "other"])
def test_a_damaged_segment_is_one_line_that_names_it(
    damage: str, encoder: LateInteraction, texts: dict[str, str], tmp_path: Path
) -> None:
    store_passages(tmp_path / "s", encoder.model, list(texts.values())[:6], tell=quiet)
    file = next((tmp_path / "s").glob("*/vectors.npy"))
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    elif damage == "gone":
        file.unlink()
    elif damage == "noise":
        file.write_bytes(b"no array")
    else:
        np.save(file, np.zeros((3, 64), np.float32))
    with pytest.raises(KardError, match="000000") as caught:
        PassageVectors(tmp_path / "s")
    assert "\n" not in str(caught.value) and "delete" in str(caught.value)


def test_a_passage_that_is_not_there_is_named(encoder: LateInteraction, tmp_path: Path) -> None:
    store = store_passages(tmp_path / "s", encoder.model, ["One."], tell=quiet)
    assert "One." in store and "Two." not in store
    with pytest.raises(KardError, match="Two"):
        store.of("Two.")


def test_too_small_a_disk_is_told_before_any_work(
    encoder: LateInteraction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(KardError, match="GB free"):
        store_passages(tmp_path / "s", encoder.model, ["One."], tell=quiet)
    assert not list((tmp_path / "s").glob("0*"))


def test_another_encoder_has_another_store(encoder: LateInteraction, tiny_bert: str, tmp_path: Path) -> None:
    encoder.model.save_pretrained(str(tmp_path / "saved"))
    saved, other = LateInteraction(str(tmp_path / "saved")), LateInteraction(tiny_bert)
    encoder.model.encode(["A text to leave traces of truncation in the tokenizer."], show_progress_bar=False)
    assert encoder_hash(saved.model) == encoder_hash(encoder.model) == encoder_hash(other.model)
    with torch.no_grad():
        next(iter(other.model.parameters()))[0, 0] += 1e-3
    assert encoder_hash(other.model) != encoder_hash(encoder.model)
    shorter = LateInteraction(tiny_bert)
    shorter.model.max_seq_length = 16
    assert encoder_hash(shorter.model) != encoder_hash(encoder.model), "texts are cut elsewhere"
    fewer = LateInteraction(tiny_bert)
    fewer.model[1].skiplist_words = ["."]
    assert encoder_hash(fewer.model) != encoder_hash(encoder.model), "tokens are left out"
    assert store_folder(tmp_path, encoder.model) != store_folder(tmp_path, encoder.model, "float16")


def test_float16_halves_the_disk_and_nearly_keeps_the_ranking(
    encoder: LateInteraction, texts: dict[str, str], tmp_path: Path
) -> None:
    queries, groups = groups_of(texts)
    whole = CachedLateInteraction(encoder, tmp_path, tell=quiet)
    half = CachedLateInteraction(encoder, tmp_path, stored="float16", tell=quiet)
    first, second = whole.rank(queries, groups, texts), half.rank(queries, groups, texts)
    for one, other in zip(first, second, strict=True):
        by_id = dict(zip(other.passages, other.scores, strict=True))
        assert [by_id[p] for p in one.passages] == pytest.approx(one.scores, rel=2e-3)
    assert agreement(first, second).tau > 0.95
    sizes = [sum(np.load(f).nbytes for f in c.folder.glob("*/vectors.npy")) for c in (whole, half)]
    assert sizes[0] == 2 * sizes[1]


def test_several_processes_give_the_same_vectors(
    encoder: LateInteraction, texts: dict[str, str], tmp_path: Path
) -> None:
    names = list(texts.values())
    alone = store_passages(tmp_path / "one", encoder.model, names, tell=quiet)
    together = store_passages(tmp_path / "two", encoder.model, names, processes=2, tell=quiet)
    assert all(np.allclose(alone.of(text), together.of(text), atol=1e-5) for text in names)
    assert encoder.model.device.type in ("cpu", "cuda")


def test_no_candidates_make_no_ranking(encoder: LateInteraction, tmp_path: Path) -> None:
    cached = CachedLateInteraction(encoder, tmp_path, tell=quiet)
    assert cached.rank([], [], {}) == []
    empty = Candidates(key="q", passages=(), scores=())
    assert cached.rank(["What?"], [empty], {}) == [empty]


def test_a_tokenless_fixture_would_be_noticed(tmp_path: Path) -> None:
    with pytest.raises(KardError, match="no token"):
        passage_vectors._write(tmp_path / "000000", ["x"], [np.zeros((0, 4), np.float32)], "float32")
