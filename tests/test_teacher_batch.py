"""The Batch API: nothing submitted twice, nothing lost, whatever is killed, cut off or left unanswered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fault_server import Served, serving
from teacher_asks import a_sample, an_ask

from kardlib.errors import KardError
from kardlib.teacher_batch import Collected, collect_batches_now, submit_now
from kardlib.teacher_batch_files import prepare
from kardlib.teacher_client import Endpoint
from kardlib.teacher_counts import counts
from kardlib.teacher_limits import Limits
from kardlib.teacher_records import Ask
from kardlib.teacher_run import collect_now
from kardlib.teacher_store import TeacherStore

HERE = Path(__file__).parent


def asks(number: int = 6) -> list[Ask]:
    return [an_ask(i) for i in range(number)]


def whole_way(store: TeacherStore, server: Served, number: int = 6, count: int = 3) -> list[Collected]:
    """Prepare, submit, and wait for the end."""
    endpoint = Endpoint(server.url)
    prepare(asks(number), count, store, endpoint)
    submit_now(store, endpoint, "someone", store.path.parent)
    return collect_batches_now(store, endpoint, "someone", store.path.parent, wait=0.01)


def submitted(server: Served) -> Counter[str]:
    """How often each sample has been submitted."""
    return Counter(name for batch in server.fetch()["batches"] for name in batch["custom_ids"])


@pytest.fixture
def store(tmp_path: Path) -> TeacherStore:
    with TeacherStore(tmp_path / "teacher.sqlite") as made:
        yield made


def test_the_whole_way(store: TeacherStore) -> None:
    with serving(batches={"polls": 3}) as server:
        [told] = whole_way(store, server)
        assert (told.status, told.stored, told.left) == ("completed", 18, 0)
        assert counts(store).sources == {"batch": 18} and counts(store).in_batches == 0
        assert not any(store.missing(ask, 3) for ask in asks())
        assert whole_way(store, server) == [] and set(submitted(server).values()) == {1}
        [told] = whole_way(store, server, count=5)
        assert told.stored == 12 and set(submitted(server).values()) == {1}


def test_samples_of_a_batch_are_not_asked_online_unless_told(store: TeacherStore) -> None:
    with serving() as server:
        endpoint = Endpoint(server.url)
        store.put(an_ask(0), a_sample(1))
        assert prepare(asks(3), 2, store, endpoint) == 5
        assert counts(store).in_batches == 5 and store.missing(an_ask(0), 2) == []
        assert store.missing(an_ask(0), 2, batched=True) == [0]
        report = collect_now(asks(3), 3, store, endpoint, Limits(), progress=False)
        assert report.stored == 3 and [sample.index for sample in store.get(an_ask(0))] == [1, 2]
        submit_now(store, endpoint, "someone", store.path.parent)
        assert sum(submitted(server).values()) == 5
        [told] = collect_batches_now(store, endpoint, "someone", store.path.parent, wait=0.01)
        assert told.stored == 5 and counts(store).sources == {"batch": 5, "online": 4}
        assert all([sample.index for sample in store.get(ask)] == [0, 1, 2] for ask in asks(3))


def test_an_answer_that_comes_after_another_is_not_lost(store: TeacherStore) -> None:
    with serving() as server:
        endpoint = Endpoint(server.url)
        prepare(asks(1), 1, store, endpoint)
        submit_now(store, endpoint, "someone", store.path.parent)
        store.put(an_ask(0), a_sample(0))
        collect_batches_now(store, endpoint, "someone", store.path.parent, wait=0.01)
        assert [sample.source for sample in store.get(an_ask(0))] == ["online", "batch"]


def test_files_are_of_one_model_and_within_the_bounds(store: TeacherStore) -> None:
    with serving() as server:
        endpoint = Endpoint(server.url)
        mixed = [*asks(4), *(an_ask(i, model="other") for i in range(3))]
        line = 1000
        prepare(mixed, 2, store, endpoint, most_requests=5, most_bytes=4 * line)
        submit_now(store, endpoint, "someone", store.path.parent)
        files = sorted(store.path.parent.glob("kard-*.jsonl"))
        rows = [json.loads(text) for file in files for text in file.read_text("utf-8").split("\n") if text]
        assert all(file.stat().st_size <= 4 * line for file in files) and len(rows) == 14
        assert all(len(file.read_text("utf-8").strip().split("\n")) <= 5 for file in files)
        assert all(len(batch["models"]) == 1 for batch in server.fetch()["batches"]) and len(files) >= 4
        assert rows[0]["method"] == "POST" and rows[0]["url"] == "/v1/chat/completions"
        assert rows[0]["body"]["messages"][0]["content"] == "Think step by step." and "n" not in rows[0]["body"]
        with pytest.raises(KardError, match="question q9: its prompt is larger"):
            prepare([an_ask(9)], 1, store, endpoint, most_bytes=100)


@pytest.mark.parametrize(
    ("end", "answered", "stored", "left"), (("expired", 0.5, 9, 9), ("cancelled", 0.0, 0, 18), ("failed", 1.0, 0, 18))
)
def test_what_is_not_answered_is_missing_again(
    store: TeacherStore, end: str, answered: float, stored: int, left: int
) -> None:
    with serving(batches={"end": end, "answered": answered}) as server:
        [told] = whole_way(store, server)
        assert (told.status, told.stored, told.left) == (end, stored, left)
        assert sum(len(store.missing(ask, 3)) for ask in asks()) == left
        assert told.reason == ("Too many enqueued tokens." if end == "failed" else "")
    with serving() as server:
        whole_way(store, server)
        assert sum(submitted(server).values()) == left and counts(store).good == {"rationale": 18}


def test_errors_of_single_lines_are_counted(store: TeacherStore) -> None:
    with serving(batches={"errors": 3}) as server:
        [told] = whole_way(store, server)
    assert told.stored == 12 and told.faults == {"batch 500": 3} and told.not_good == {"content_filter": 3}
    assert told.left == 6 == sum(len(store.missing(ask, 3)) for ask in asks())
    assert counts(store).faults == {"batch 500": 3} and counts(store).not_good == 3


@pytest.mark.parametrize("dropped", (("create",), ("upload",), ("upload", "create")))
def test_a_connection_that_is_cut_after_the_deed_submits_nothing_twice(
    store: TeacherStore, dropped: tuple[str, ...]
) -> None:
    with serving(batches={"dropped": dropped, "busy": 3}) as server:
        whole_way(store, server)
        assert set(submitted(server).values()) == {1} and counts(store).good == {"rationale": 18}
        faults = counts(store).faults
        assert faults["connection"] == len(dropped) and faults["503"] > 0


def test_no_batch_api(store: TeacherStore) -> None:
    with serving(key="right") as server:
        endpoint = Endpoint(server.url.removesuffix("/v1") + "/none")
        prepare(asks(1), 1, store, endpoint)
        with pytest.raises(KardError, match="127.0.0.1"):
            submit_now(store, endpoint, "someone", store.path.parent)
        assert counts(store).in_batches == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_killed_at_every_step(tmp_path: Path) -> None:
    """Whichever step dies, the next run submits what is left, and only that; in two batches where KARD_LONG is set."""
    number, count = 4, 2
    most = 5 if os.environ.get("KARD_LONG") else 8
    with serving(batches={"polls": 0}) as server:
        command = [sys.executable, str(HERE / "killed_batches.py"), server.url, str(tmp_path), str(number), str(most)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        steps, made = int(done.stdout), server.fetch()["batches"]
    assert steps > (25 if most == 5 else 15)
    for step in range(1, steps + 1):
        with TeacherStore(tmp_path / str(step) / "teacher.sqlite") as store:
            assert [len(store.get(ask)) for ask in asks(number)] == [count] * number
            assert len(list(store.everything())) == number * count and counts(store).in_batches == 0
    times = Counter(name for batch in made for name in batch["custom_ids"])
    assert set(times.values()) == {steps} and len(times) == number * count  # once for each store
