"""Runs against the fault server: speed, durability, memory, faults, kills, and what no waiting helps against.

The long versions run where KARD_LONG is set.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_server import CLIENT_KINDS, PASSING, Served, serving
from teacher_asks import an_ask

from kardlib.errors import KardError
from kardlib.teacher_client import Completion, Endpoint, Reply
from kardlib.teacher_counts import counts
from kardlib.teacher_limits import Limits
from kardlib.teacher_outcome import Report, Stopped
from kardlib.teacher_run import collect, collect_now
from kardlib.teacher_store import TeacherStore

LONG = bool(os.environ.get("KARD_LONG"))
HERE = Path(__file__).parent
QUICK = Limits(concurrency=32, first_wait=0.01, longest_wait=0.05)


def fill(
    store: TeacherStore, server: Served, asks: int, count: int = 1, limits: Limits = QUICK, timeout: float = 60.0
) -> Report:
    endpoint = Endpoint(server.url, timeout=timeout)
    return collect_now([an_ask(i) for i in range(asks)], count, store, endpoint, limits, progress=False)


def content(path: Path) -> list[tuple[object, ...]]:
    """All completions of a store, the time of their arrival aside."""
    with TeacherStore(path) as store:
        return [(ask.identity, s.index, s.text, s.finish_reason) for ask, s in store.everything()]


class TestSpeed:
    def test_thirty_times_the_rate_of_one_at_a_time(self, tmp_path: Path) -> None:
        sizes, least = ((100, 2000), 30) if LONG else ((8, 480), 15)  # a busy machine, a short run
        rates = []
        with serving(latency=0.2) as server:
            for concurrency, size in zip((1, 64), sizes, strict=True):
                with TeacherStore(tmp_path / f"{concurrency}.sqlite") as store:
                    began = time.perf_counter()
                    report = fill(store, server, size, limits=Limits(concurrency=concurrency))
                    rates.append(size / (time.perf_counter() - began))
                    assert report.stored == size == report.requests and not report.faults
        print(f"\n{rates[0]:.1f} a second one at a time, {rates[1]:.1f} with 64: {rates[1] / rates[0]:.1f} times")
        assert rates[1] >= least * rates[0]

    def test_samples_are_on_the_disk_within_a_tenth_of_a_second(self, tmp_path: Path) -> None:
        path = tmp_path / "teacher.sqlite"
        size = 2000 if LONG else 300
        with TeacherStore(path) as store, serving(latency=0.1) as server:
            watcher = subprocess.Popen([sys.executable, "-c", WATCHER, str(path), str(size)], stdout=subprocess.PIPE)
            time.sleep(0.3)
            fill(store, server, size)
            lags = sorted(map(float, watcher.communicate(timeout=60)[0].split()))
        print(f"\n{size} samples seen by another process after {lags[size // 2]:.3f} s, at most {lags[-1]:.3f} s")
        # the watcher has to get its turn too, so on a machine that does other things one in ten may look late
        assert len(lags) == size and lags[-1 if LONG else size * 9 // 10 - 1] <= 0.1 and lags[-1] < 1

    def test_memory_does_not_grow_with_the_number_of_requests(self, tmp_path: Path) -> None:
        def peak(size: int) -> int:
            with TeacherStore(tmp_path / f"{time.time_ns()}.sqlite") as store:
                tracemalloc.start()
                asks = (an_ask(i) for i in range(size))
                collect_now(asks, 1, store, Echo(), Limits(concurrency=64), progress=False)
                most = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert sum(counts(store).good.values()) == size
            return most

        peak(100)
        sizes = (200, 2000) if LONG else (200, 1000)
        few, many = map(peak, sizes)
        print(f"\npeaks of {few / 1024:.0f} and {many / 1024:.0f} KiB at {sizes} asks")
        assert many < few + 512 * 1024  # an ask and its sample alone take 2 KiB, so keeping them would take 1.6 MiB

    @pytest.mark.skipif(not LONG, reason="KARD_LONG is not set")
    def test_memory_of_the_whole_process(self, tmp_path: Path) -> None:
        import psutil

        sizes = []
        with serving() as server:
            for size in (200, 200, 2000, 4000):
                with TeacherStore(tmp_path / f"{size}-{len(sizes)}.sqlite") as store:
                    fill(store, server, size, limits=Limits(concurrency=64))
                sizes.append(psutil.Process().memory_info().rss / 2**20)
        print(f"\nMiB after 200, 200, 2,000 and 4,000 requests: {sizes}")
        assert sizes[3] - sizes[1] < 30


WATCHER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=10)
seen, last, end = 0, 0, time.time() + 55
while seen < int(sys.argv[2]) and time.time() < end:
    for rowid, arrived in connection.execute("SELECT rowid, arrived FROM samples WHERE rowid > ?", (last,)):
        last, seen = max(last, rowid), seen + 1
        print(time.time() - arrived)
    time.sleep(0.005)
"""


class Echo(Endpoint):
    """Answers at once, without a network."""

    def __init__(self) -> None:
        super().__init__("http://localhost/v1", takes_n=False)

    async def complete(self, ask: object, count: int, key: str) -> Reply:
        await asyncio.sleep(0)
        return Reply([Completion("Because. " * 50, "stop")], 10, 10)


class TestFaults:
    def test_thirty_in_a_hundred_fail_and_nothing_is_missing_double_or_uncounted(self, tmp_path: Path) -> None:
        asks, count = (500, 4) if LONG else (100, 3)
        with (
            TeacherStore(tmp_path / "teacher.sqlite") as store,
            serving(latency=0.01, fault_rate=0.3, n="ignored", seed=5) as server,
        ):
            limits = QUICK.model_copy(update={"tries": 30})
            report = fill(store, server, asks, count, limits)
            outcomes = server.outcomes()
            for i in range(asks):
                assert [sample.index for sample in store.get(an_ask(i))] == list(range(count))
            assert len(list(store.everything())) == asks * count
            theirs: Counter[str] = Counter()
            for kind, times in outcomes.items():
                if kind != "ok":
                    theirs[CLIENT_KINDS[kind]] += times
            print(f"\n{sum(outcomes.values())} requests, faults {dict(theirs)}")
            assert set(PASSING) <= set(outcomes) and report.requests == sum(outcomes.values())
            assert dict(theirs) == dict(report.faults) == counts(store).faults

    def test_slow_answers_and_those_that_trickle_are_given_up(self, tmp_path: Path) -> None:
        faults = ("slow", "trickle", "429-date")
        limits = Limits(concurrency=8, first_wait=0.01, tries=20)
        with (
            TeacherStore(tmp_path / "teacher.sqlite") as store,
            serving(fault_rate=0.4, faults=faults, slow=2.0) as server,
        ):
            report = fill(store, server, 12, 1, limits, timeout=0.4)
            outcomes = server.outcomes()
            assert report.stored == 12 and report.faults["429"] == outcomes["429-date"]
            assert report.faults["timeout"] >= outcomes["slow"] + outcomes["trickle"] > 1

    def test_retry_after_is_honoured_by_all(self, tmp_path: Path) -> None:
        with (
            TeacherStore(tmp_path / "teacher.sqlite") as store,
            serving(fault_rate=0.1, faults=("429",), retry_after=0.5, seed=1) as server,
        ):
            fill(store, server, 40, 1, Limits(concurrency=2))
            log = sorted(server.log(), key=lambda record: record["at"])
        refused = [record["at"] for record in log if record["outcome"] == "429"]
        assert refused
        for at in refused:  # but for the one other request under way
            assert sum(at < record["at"] < at + 0.45 for record in log) <= 1

    def test_completions_that_do_not_count_are_kept_and_asked_again_three_times_at_most(self, tmp_path: Path) -> None:
        with TeacherStore(tmp_path / "teacher.sqlite") as store, serving(bad_rate=0.5) as server:
            report = fill(store, server, 60, 2)
            told, stored = counts(store), list(store.everything())
            assert fill(store, server, 60, 2).requests == 0
            assert told.not_good == sum(report.not_good.values()) == len(stored) - report.stored
            attempts = Counter((ask.identity, sample.index) for ask, sample in stored)
            good = {(ask.identity, sample.index) for ask, sample in stored if sample.good}
            assert set(attempts.values()) == {1, 2, 3}
            assert all(attempts[slot] == 3 for slot in attempts.keys() - good)
            assert told.given_up == len(attempts.keys() - good) > 0
            assert {"length", "refusal", "content_filter", "stop"} == set(told.finish_reasons)

    def test_a_sample_that_always_fails_ends_the_run_in_order(self, tmp_path: Path) -> None:
        with TeacherStore(tmp_path / "teacher.sqlite") as store, serving(fault_rate=1, faults=("500",)) as server:
            with pytest.raises(Stopped) as error:
                fill(store, server, 50, 1, QUICK.model_copy(update={"tries": 3}))
            assert "failed 3 times, last: 500" in str(error.value) and "50 left" in str(error.value)
            assert counts(store).faults["500"] == server.outcomes()["500"]

    def test_a_server_that_asks_for_too_much_patience(self, tmp_path: Path) -> None:
        limits = QUICK.model_copy(update={"patience": 60})
        with (
            TeacherStore(tmp_path / "teacher.sqlite") as store,
            serving(fault_rate=1, faults=("429",), retry_after=86400) as server,
            pytest.raises(Stopped, match="asks to wait 86,400 seconds"),
        ):
            fill(store, server, 50, 1, limits)


class TestWhatNoWaitingHelpsAgainst:
    def run(self, tmp_path: Path, **behaviour: object) -> tuple[str, Report, Counter[str], TeacherStore]:
        with TeacherStore(tmp_path / "teacher.sqlite") as store, serving(latency=0.05, **behaviour) as server:
            with pytest.raises(Stopped) as error:
                fill(store, server, 200, 1, QUICK.model_copy(update={"concurrency": 4}))
            text = str(error.value)
            assert "\n" not in text and "127.0.0.1" in text
            kept = sum(counts(store).good.values())
            assert kept == error.value.report.stored and error.value.report.left == 200 - kept
            return text, error.value.report, server.outcomes(), store

    def test_bad_key(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "wrong-key-0123")
        text, report, outcomes, _ = self.run(tmp_path, key="right-key")
        assert "OPENAI_API_KEY" in text and "refused" in text and sum(outcomes.values()) <= 8 and report.stored == 0

    def test_unknown_model(self, tmp_path: Path) -> None:
        text, _, outcomes, _ = self.run(tmp_path, models=("another",))
        assert "no model 'tiny-teacher'" in text and sum(outcomes.values()) <= 8

    def test_quota_used_up_half_way(self, tmp_path: Path) -> None:
        text, report, outcomes, _ = self.run(tmp_path, quota=100)
        assert "quota is used up" in text and 100 <= report.stored <= 104 and outcomes["quota"] <= 8

    def test_no_server(self, tmp_path: Path) -> None:
        with TeacherStore(tmp_path / "teacher.sqlite") as store, pytest.raises(Stopped) as error:
            collect_now([an_ask()], 1, store, Endpoint("http://127.0.0.1:9/v1"), QUICK, progress=False)
        assert "http://127.0.0.1:9" in str(error.value) and "connection" in str(error.value)

    def test_a_store_that_cannot_be_written_stops_the_bill(self, tmp_path: Path) -> None:
        with TeacherStore(tmp_path / "teacher.sqlite") as store, serving(latency=0.02) as server:
            with store.writing() as connection:
                connection.execute("PRAGMA max_page_count=20")
            with pytest.raises(Stopped, match="disk is full"):
                fill(store, server, 400, 1, Limits(concurrency=4))
            assert len(server.log()) < 200


class TestSeveralAtOnce:
    def test_n_is_used_where_the_server_has_it(self, tmp_path: Path) -> None:
        with TeacherStore(tmp_path / "teacher.sqlite") as store, serving() as server:
            fill(store, server, 5, 3)
            assert [record["n"] for record in server.log()] == [3] * 5
            fill(store, server, 6, 10)
            assert sorted(record["n"] for record in server.log()[5:]) == [7] * 5 + [10]
            assert all(len(store.get(an_ask(i))) == 10 for i in range(6))
            sample = store.get(an_ask(0))[0]
            assert (sample.prompt_tokens, sample.completion_tokens) == (10, 11)

    @pytest.mark.parametrize("n", ("ignored", "refused"))
    def test_one_by_one_where_it_has_not(self, tmp_path: Path, n: str) -> None:
        endpoint_asks = [an_ask(i) for i in range(10)]
        with TeacherStore(tmp_path / "teacher.sqlite") as store, serving(n=n) as server:
            endpoint = Endpoint(server.url)
            report = collect_now(endpoint_asks, 5, store, endpoint, Limits(concurrency=2), progress=False)
            assert endpoint.takes_n is False and report.stored == 50
            assert sum(record["n"] > 1 for record in server.log()) <= 2

    def test_the_same_texts_either_way(self, tmp_path: Path) -> None:
        for n in ("yes", "ignored", "refused"):
            with TeacherStore(tmp_path / f"{n}.sqlite") as store, serving(n=n) as server:
                fill(store, server, 10, 4)
        assert content(tmp_path / "yes.sqlite") == content(tmp_path / "ignored.sqlite")
        assert content(tmp_path / "yes.sqlite") == content(tmp_path / "refused.sqlite")

    def test_an_ask_that_occurs_twice_is_asked_once(self, tmp_path: Path) -> None:
        with TeacherStore(tmp_path / "teacher.sqlite") as store, serving(latency=0.05) as server:
            asks = [an_ask(i % 5) for i in range(40)]
            report = collect_now(asks, 2, store, Endpoint(server.url), QUICK, progress=False)
            assert report.requests == len(server.log()) == 5 and report.stored == 10


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts here, also in tests that a shell runs behind ``&``: it makes such jobs deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestKilled:
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.parametrize(
        ("random_texts", "kills", "n"), ((False, 20, "ignored"), (True, 5, "ignored"), (False, 5, "yes"))
    )
    def test_the_store_is_what_an_undisturbed_run_gives(
        self, tmp_path: Path, random_texts: bool, kills: int, n: str
    ) -> None:
        count, concurrency = 3, 8
        asks = 14 * kills * (count if n == "yes" else 1)  # enough that no run is through before it is killed
        behaviour = {"n": n, "latency": 0.06, "fault_rate": 0.1, "bad_rate": 0.1, "random_texts": random_texts}
        path = tmp_path / "killed.sqlite"
        with serving(**behaviour) as server:
            settings = [str(value) for value in (asks, count, kills, 0.15, 0.35, 7)]
            command = [sys.executable, str(HERE / "killed_runs.py"), server.url, str(path), *settings]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            log = server.log()
            assert int(done.stdout) == kills
        with TeacherStore(path) as store:
            assert not any(store.missing(an_ask(i), count) for i in range(asks))
            stored, attempts = {}, Counter()
            for ask, sample in store.everything():
                slot = (ask.identity, sample.index)
                attempts[slot] += 1
                stored[*slot, attempts[slot] - 1] = sample
        asked: dict[str, list[float]] = {}
        sent: dict[str, list[list[str]]] = {}
        for record in log:
            identity, _, slots = record["key"].partition("-")
            for place, slot in enumerate(slots.split("_")):
                asked.setdefault(f"{identity}-{slot}", []).append(record["at"])
                if place < len(record.get("texts", ())):
                    sent.setdefault(f"{identity}-{slot}", []).append(record["texts"][place])
        for (identity, index, attempt), sample in stored.items():
            slot = f"{identity}-{index}.{attempt}"
            assert max(asked[slot]) < sample.arrived  # it was not asked for once it was there
            assert sample.finish_reason == "refusal" or [sample.text, sample.finish_reason] in sent[slot]
        assert len(sent) == len(stored)
        surplus = sum(map(len, sent.values())) - len(stored)
        print(f"\n{kills} kills: {len(stored)} completions stored, {surplus} lost under way, {len(log)} requests")
        assert 0 <= surplus <= kills * concurrency * (count if n == "yes" else 1)
        if not random_texts:
            with TeacherStore(tmp_path / "calm.sqlite") as store, serving(**behaviour) as server:
                fill(store, server, asks, count, QUICK.model_copy(update={"tries": 50}))
            assert content(path) == content(tmp_path / "calm.sqlite")

    @pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
    @pytest.mark.usefixtures("ctrl_c")
    def test_ctrl_c_keeps_what_is_under_way(self, tmp_path: Path) -> None:
        with TeacherStore(tmp_path / "teacher.sqlite") as store, serving(latency=0.3) as server:
            timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(Stopped) as error:
                fill(store, server, 400, 1, Limits(concurrency=8))
            assert error.value.exit_code == 130 and "stopped" in str(error.value)
            stored = sum(counts(store).good.values())
            assert 0 < stored < 400 and stored == server.outcomes()["ok"] == error.value.report.stored
            assert f"{stored} samples stored, {400 - stored} left" in str(error.value)
            assert fill(store, server, stored + 5).requests == 5

    @pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
    @pytest.mark.usefixtures("ctrl_c")
    def test_a_second_ctrl_c_does_not_wait(self, tmp_path: Path) -> None:
        with TeacherStore(tmp_path / "teacher.sqlite") as store, serving(latency=30) as server:
            for after in (1.0, 1.5):
                threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT)).start()
            began = time.perf_counter()
            with pytest.raises(KeyboardInterrupt):
                fill(store, server, 400, 1, Limits(concurrency=8))
            assert time.perf_counter() - began < 10
            with store.hold():  # nothing of the run is left
                assert not counts(store).good


def test_within_a_running_event_loop(tmp_path: Path) -> None:
    async def notebook() -> tuple[Report, Report]:
        first = fill(store, server, 3)
        asks = [an_ask(i) for i in range(5)]
        return first, await collect(asks, 1, store, Endpoint(server.url), QUICK, progress=False)

    with TeacherStore(tmp_path / "teacher.sqlite") as store, serving() as server:
        first, second = asyncio.run(notebook())
    assert (first.stored, second.stored, second.left) == (3, 2, 0)


def test_a_store_that_is_being_filled_is_not_filled_by_another_run(tmp_path: Path) -> None:
    with TeacherStore(tmp_path / "teacher.sqlite") as store, serving() as server:
        with TeacherStore(store.path) as other, other.hold(), pytest.raises(KardError, match="another run"):
            fill(store, server, 3)
        assert not server.log()
