"""The teacher's store: what is missing, what is kept, and what happens to a file that is damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from teacher_asks import a_sample, an_ask

from kardlib.errors import KardError
from kardlib.teacher_counts import counts
from kardlib.teacher_exchange import export
from kardlib.teacher_records import Ask, Sample
from kardlib.teacher_salvage import salvage
from kardlib.teacher_store import ATTEMPTS, TeacherStore

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def store(tmp_path: Path) -> TeacherStore:
    with TeacherStore(tmp_path / "teacher.sqlite") as made:
        yield made


def fill(path: Path, asks: int = 40, samples: int = 5, size: int = 300) -> list[tuple[Ask, Sample]]:
    """A store with some pages, and what is in it."""
    pairs = [(an_ask(i), a_sample(j, f"{i}.{j} " + "x" * size)) for i in range(asks) for j in range(samples)]
    with TeacherStore(path) as store:
        store.put_many(pairs)
        return list(store.everything())


def one_line(error: pytest.ExceptionInfo[KardError], path: Path) -> str:
    text = str(error.value)
    assert "\n" not in text and str(path) in text
    return text


class TestWhatIsMissing:
    def test_ten_tomorrow_after_three_today_are_seven(self, store: TeacherStore) -> None:
        assert store.missing(an_ask(), 3) == [0, 1, 2]
        store.put_many([(an_ask(), a_sample(index)) for index in range(3)])
        assert store.missing(an_ask(), 3) == []
        assert store.missing(an_ask(), 10) == [3, 4, 5, 6, 7, 8, 9]
        assert store.missing(an_ask(1), 2) == [0, 1]

    def test_labels_do_not_bill_again_but_what_decides_the_text_does(self, store: TeacherStore) -> None:
        store.put(an_ask(), a_sample(0))
        assert store.missing(an_ask(question_id="renamed", purpose="oracle"), 1) == []
        for change in ({"teacher": "other"}, {"model": "other"}, {"sampling": {"temperature": 0.5}}):
            assert store.missing(an_ask(**change), 1) == [0]

    def test_a_bad_completion_is_kept_and_asked_again_so_many_times(self, store: TeacherStore) -> None:
        for attempt in range(ATTEMPTS):
            assert store.missing(an_ask(), 2) == [0, 1] and store.tried(an_ask(), 0) == attempt
            store.put(an_ask(), a_sample(0, "cut o", finish_reason="length", arrived=float(attempt)))
        assert store.missing(an_ask(), 2) == [1]
        assert store.get(an_ask()) == []
        assert [sample.finish_reason for _, sample in store.everything()] == ["length"] * ATTEMPTS
        with TeacherStore(store.path, attempts=ATTEMPTS + 1) as patient:
            assert patient.missing(an_ask(), 2) == [0, 1]

    def test_a_good_attempt_after_bad_ones_counts(self, store: TeacherStore) -> None:
        store.put(an_ask(), a_sample(0, "", finish_reason="content_filter"))
        store.put(an_ask(), a_sample(0, "   "))
        store.put(an_ask(), a_sample(0))
        assert store.missing(an_ask(), 1) == [] and store.get(an_ask()) == [a_sample(0)]
        assert counts(store).not_good == 2

    def test_get_is_in_index_order_and_up_to_a_count(self, store: TeacherStore) -> None:
        store.put_many([(an_ask(), a_sample(index)) for index in (4, 0, 2, 3, 1)])
        assert store.get(an_ask()) == [a_sample(index) for index in range(5)]
        assert store.get(an_ask(), 2) == [a_sample(0), a_sample(1)]

    def test_nothing_is_stored_twice_and_a_second_good_one_is_not_lost(self, store: TeacherStore) -> None:
        other = a_sample(0, "Another chain.", arrived=9.0)
        for _ in range(2):
            assert store.put(an_ask(), a_sample(0)).index == 0
            assert store.put(an_ask(), other).index == 1
        assert [sample.text for sample in store.get(an_ask())] == [a_sample(0).text, other.text]

    def test_counts(self, store: TeacherStore) -> None:
        store.put_many(
            [
                (an_ask(0), a_sample(0)),
                (an_ask(0), a_sample(1, source="batch")),
                (an_ask(1, purpose="oracle"), a_sample(0)),
                (an_ask(1, purpose="oracle"), a_sample(1, finish_reason="length")),
            ],
            [("429", 1.0), ("timeout", 2.0), ("429", 3.0)],
        )
        told = counts(store)
        assert told.asks == 2 and told.good == {"oracle": 1, "rationale": 2} and told.not_good == 1
        assert told.finish_reasons == {"length": 1, "stop": 3} and told.sources == {"batch": 1, "online": 3}
        assert (told.prompt_tokens, told.completion_tokens) == (80, 28) and told.faults == {"429": 2, "timeout": 1}


def test_a_commit_waits_for_the_disk_and_readers_need_not_wait(store: TeacherStore) -> None:
    assert store.read("PRAGMA journal_mode") == [("wal",)] and store.read("PRAGMA synchronous") == [(2,)]
    with store.writing(), TeacherStore(store.path) as second:
        assert second.missing(an_ask(), 1) == [0]


def test_a_transaction_is_whole_or_absent(store: TeacherStore) -> None:
    def broken() -> object:
        yield an_ask(), a_sample(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put_many(broken())
    assert store.missing(an_ask(), 1) == [0] and counts(store).asks == 0


def test_two_runs_cannot_fill_one_store(store: TeacherStore) -> None:
    with store.hold(), TeacherStore(store.path) as second, pytest.raises(KardError) as error, second.hold():
        pass
    assert "another run" in one_line(error, store.path)
    with store.hold():
        pass


def test_several_processes_that_write_corrupt_nothing(tmp_path: Path) -> None:
    path = tmp_path / "teacher.sqlite"
    program = textwrap.dedent("""
        import sys
        from teacher_asks import a_sample, an_ask
        from kardlib.teacher_store import TeacherStore
        with TeacherStore(sys.argv[1]) as store:
            for i in range(25):
                store.put(an_ask(i), a_sample(0, sys.argv[2], arrived=float(sys.argv[2])))
    """)
    paths = {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))}
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(path), str(name)], env=os.environ | paths)
        for name in range(3)
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    with TeacherStore(path) as store:
        assert all({sample.text for sample in store.get(an_ask(i))} == {"0", "1", "2"} for i in range(25))


class TestDamagedStores:
    @pytest.mark.parametrize("share", (0.3, 0.6, 0.95))
    def test_truncated(self, tmp_path: Path, share: float) -> None:
        path = tmp_path / "teacher.sqlite"
        before = fill(path, asks=200)
        os.truncate(path, int(path.stat().st_size * share))
        with pytest.raises(KardError) as error:
            TeacherStore(path)
        assert "damaged" in one_line(error, path)
        kept = list(salvage(path))
        assert set(map(str, kept)) <= set(map(str, before))
        assert len(kept) >= len(before) * (share - 0.25)
        assert export(salvage(path), tmp_path / "kept.jsonl") == len(kept)

    def test_a_page_of_rubbish_costs_its_own_rows_only(self, tmp_path: Path) -> None:
        path = tmp_path / "teacher.sqlite"
        before = fill(path, asks=200)
        pages = path.stat().st_size // 4096
        lost = []
        for page in range(pages // 4, pages // 4 + 6):
            content = bytearray(path.read_bytes())
            content[page * 4096 : (page + 1) * 4096] = os.urandom(4096)
            damaged = tmp_path / f"damaged{page}.sqlite"
            damaged.write_bytes(content)
            kept = list(salvage(damaged))
            assert set(map(str, kept)) <= set(map(str, before))
            lost.append(len(before) - len(kept))
        assert max(lost) <= 60  # a page of asks holds some ten, with five samples each

    def test_a_sound_store_is_salvaged_whole_while_it_is_open(self, tmp_path: Path) -> None:
        path = tmp_path / "teacher.sqlite"
        with TeacherStore(path) as store:
            store.put_many([(an_ask(i), a_sample(j)) for i in range(5) for j in range(3)])
            assert Path(f"{path}-wal").exists()
            assert list(salvage(path)) == list(store.everything())

    def test_wrong_version(self, tmp_path: Path) -> None:
        path = tmp_path / "teacher.sqlite"
        before = fill(path, 3, 2)
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version=99")
        connection.close()
        with pytest.raises(KardError) as error:
            TeacherStore(path)
        assert "version 99" in one_line(error, path) and "export" in str(error.value)
        assert list(salvage(path)) == before

    def test_another_programs_database(self, tmp_path: Path) -> None:
        path = tmp_path / "other.sqlite"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE recipes (name)")
        connection.close()
        before = path.read_bytes()
        for attempt in (TeacherStore, lambda path: list(salvage(path))):
            with pytest.raises(KardError) as error:
                attempt(path)
            one_line(error, path)
        assert path.read_bytes() == before

    def test_not_a_database(self, tmp_path: Path) -> None:
        path = tmp_path / "teacher.sqlite"
        path.write_text("question,rationale\n" * 1000)
        with pytest.raises(KardError) as error:
            TeacherStore(path)
        assert "not a database" in one_line(error, path)
        with pytest.raises(KardError):
            list(salvage(path))
        with pytest.raises(KardError, match="no such file"):
            list(salvage(tmp_path / "absent.sqlite"))

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(KardError) as error:
            TeacherStore(tmp_path / "file" / "teacher.sqlite")
        one_line(error, tmp_path / "file")

    def test_a_full_disk_keeps_what_was_stored(self, tmp_path: Path) -> None:
        path = tmp_path / "teacher.sqlite"
        before = fill(path, 5, 2)
        with TeacherStore(path) as store:
            pages = store.read("PRAGMA page_count")[0][0]
            with store.writing() as connection:
                connection.execute(f"PRAGMA max_page_count={pages + 2}")
            with pytest.raises(KardError) as error:
                store.put_many([(an_ask(i), a_sample(0, "y" * 3000)) for i in range(100, 200)])
            assert "full" in one_line(error, path)
            assert list(store.everything()) == before == list(salvage(path))
            with store.writing() as connection:
                connection.execute(f"PRAGMA max_page_count={pages + 2000}")
            store.put(an_ask(100), a_sample(0))

    @pytest.mark.skipif(sys.platform == "win32", reason="no such limit here")
    def test_a_file_that_cannot_grow_any_more(self, tmp_path: Path) -> None:
        """The system itself refuses to write, in the middle of the log of changes."""
        path = tmp_path / "teacher.sqlite"
        program = textwrap.dedent("""
            import resource, sys
            from teacher_asks import a_sample, an_ask
            from kardlib.errors import KardError
            from kardlib.teacher_store import TeacherStore
            store, done = TeacherStore(sys.argv[1]), 0
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
            try:
                while done < 1000:
                    store.put(an_ask(done), a_sample(0, "z" * 2000))
                    done += 1
            except KardError as error:
                print(error)
            print(done)
        """)
        paths = {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))}
        command = [sys.executable, "-c", program, str(path)]
        run = subprocess.run(command, capture_output=True, text=True, env=os.environ | paths)
        line, done = run.stdout.splitlines()
        assert str(path) in line and "what was stored is safe" in line and 0 < int(done) < 1000
        assert len(list(salvage(path))) == int(done)
        with TeacherStore(path) as store:
            assert len(list(store.everything())) == int(done)
            store.put(an_ask(5000), a_sample(0))

    @pytest.mark.skipif(not hasattr(os, "setuid"), reason="no Unix permissions here")
    def test_read_only_folder(self) -> None:
        folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
        path = folder / "teacher.sqlite"
        before = fill(path, 5, 2)
        program = textwrap.dedent("""
            import os, sys
            from pathlib import Path
            from kardlib.errors import KardError
            from kardlib.teacher_salvage import salvage
            from kardlib.teacher_store import TeacherStore
            folder = Path(sys.argv[1])
            os.chdir(folder)
            if os.geteuid() == 0:  # whom no permission stops
                os.setuid(65534)
            try:
                TeacherStore(Path("teacher.sqlite")).put(*next(iter(salvage(Path("teacher.sqlite")))))
            except KardError as error:
                print(error)
            print(len(list(salvage(Path("teacher.sqlite")))))
        """)
        path.chmod(0o444)
        folder.chmod(0o555)
        try:
            command = [sys.executable, "-c", program, str(folder)]
            run = subprocess.run(
                command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}
            )
        finally:
            shutil.rmtree(folder)
        line, count = run.stdout.splitlines()
        assert line.startswith("teacher.sqlite: cannot be") and "writable" in line
        assert int(count) == len(before)
