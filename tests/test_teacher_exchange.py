"""Export and import of completions: the same bytes again, nothing lost, faults told by file, line and field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from teacher_asks import a_sample, an_ask

from kardlib.errors import KardError
from kardlib.teacher_counts import counts
from kardlib.teacher_exchange import export, import_authors, import_jsonl
from kardlib.teacher_store import TeacherStore


def filled(path: Path) -> TeacherStore:
    store = TeacherStore(path)
    hard = '"quoted" \\ \u2028 \x00 \x85 \ud83d\ude00'.encode("utf-16", "surrogatepass").decode("utf-16")
    store.put_many([(an_ask(i), a_sample(j)) for i in range(6) for j in (2, 0, 1)])
    store.put(an_ask(7, question_id="with\nlines"), a_sample(0, hard, source="batch", arrived=1234567890.123456))
    for at in (5.0, 6.0):
        store.put(an_ask(0), a_sample(3, "", finish_reason="content_filter", arrived=at))
    store.put(an_ask(0), a_sample(3))
    return store


def test_a_round_trip_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    with filled(tmp_path / "a.sqlite") as store:
        assert export(store.everything(), first) == 6 * 3 + 1 + 3
        before = list(store.everything())
    with TeacherStore(tmp_path / "b.sqlite") as other:
        for _ in range(2):
            assert import_jsonl(other, first) == len(before)
            assert list(other.everything()) == before
        export(other.everything(), second)
    assert first.read_bytes() == second.read_bytes()
    row = json.loads(first.read_text(encoding="utf-8").splitlines()[0])
    assert {"messages", "sampling", "text", "finish_reason", "index", "model", "teacher", "question_id"} <= set(row)


def test_the_order_does_not_depend_on_when_samples_came(tmp_path: Path) -> None:
    pairs = [(an_ask(i), a_sample(j)) for i in range(9) for j in range(3)]
    for name, some in (("a", pairs), ("b", pairs[::-1])):
        with TeacherStore(tmp_path / f"{name}.sqlite") as store:
            store.put_many(some)
            export(store.everything(), tmp_path / f"{name}.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_two_stores_become_one_and_no_sample_is_lost(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with TeacherStore(tmp_path / f"{name}.sqlite") as store:
            store.put_many([(an_ask(), a_sample(j, f"{name}{j}", arrived=j)) for j in range(3)])
            export(store.everything(), tmp_path / f"{name}.jsonl")
    with TeacherStore(tmp_path / "a.sqlite") as store:
        for _ in range(2):
            import_jsonl(store, tmp_path / "b.jsonl")
            assert [s.text for s in store.get(an_ask())] == ["a0", "a1", "a2", "b0", "b1", "b2"]
        assert store.missing(an_ask(), 10) == [6, 7, 8, 9]


@pytest.mark.parametrize(
    ("change", "told"),
    (
        (lambda line: line[:-20], "not JSON"),
        (lambda line: "[1, 2]", "object"),
        (lambda line: line.replace('"finish_reason"', '"finish"'), "field finish"),
        (lambda line: line.replace('"index": 1', '"index": -1'), "field index"),
        (lambda line: line.replace('"text": "B', '"text": 5, "teksts": "B'), "field te"),
        (lambda line: line.replace('"role": "user"', '"role": "boss"'), "field messages.1.role"),
    ),
)
def test_a_bad_line_is_named_and_changes_nothing(tmp_path: Path, change: object, told: str) -> None:
    path = tmp_path / "all.jsonl"
    with filled(tmp_path / "a.sqlite") as store:
        export(store.everything(), path)
    lines = path.read_text(encoding="utf-8").split("\n")
    number = next(n for n, line in enumerate(lines) if '"index": 1' in line)
    lines[number] = change(lines[number])
    path.write_text("\n".join(lines), encoding="utf-8")
    with TeacherStore(tmp_path / "b.sqlite") as store:
        store.put(an_ask(50), a_sample(0))
        with pytest.raises(KardError) as error:
            import_jsonl(store, path)
        assert str(error.value).startswith(f"{path}:{number + 1}: ") and told in str(error.value)
        assert "\n" not in str(error.value)
        assert list(store.everything()) == [(an_ask(50), a_sample(0))]


def test_absent_file(tmp_path: Path) -> None:
    with TeacherStore(tmp_path / "a.sqlite") as store, pytest.raises(KardError, match="no such file"):
        import_jsonl(store, tmp_path / "absent.jsonl")


class TestAuthorsLayout:
    """One JSON a question with a list of completions."""

    def test_every_accepted_shape(self, tmp_path: Path) -> None:
        shapes = (
            ["one", "two", "three"],
            {"completions": ["one", "two", "three"]},
            {"id": 4, "rationales": [{"text": "one"}, {"rationale": "two"}, {"completion": "three"}]},
            {"choices": [{"message": {"role": "assistant", "content": t}} for t in ("one", "two", "three")]},
        )
        folder = tmp_path / "raw"
        folder.mkdir()
        for i, shape in enumerate(shapes):
            (folder / f"q{i}.json").write_text(json.dumps(shape), encoding="utf-8")
        (folder / "q9.json").write_text(json.dumps({"text": "one"}), encoding="utf-8")
        asks = {f"q{i}": an_ask(i) for i in range(10)}
        with TeacherStore(tmp_path / "a.sqlite") as store:
            for _ in range(2):
                assert import_authors(store, folder, asks) == 13
            for i in range(len(shapes)):
                samples = store.get(an_ask(i))
                assert [sample.text for sample in samples] == ["one", "two", "three"]
                assert store.missing(an_ask(i), 5) == [3, 4]
            assert len(store.get(an_ask(9))) == 1 and counts(store).sources == {"import": 13}

    def test_cut_off_completions_do_not_count(self, tmp_path: Path) -> None:
        rows = [{"text": "done", "finish_reason": "stop"}, {"text": "cut", "finish_reason": "length"}, ""]
        (tmp_path / "q0.json").write_text(json.dumps(rows))
        with TeacherStore(tmp_path / "a.sqlite") as store:
            import_authors(store, tmp_path, {"q0": an_ask()})
            assert [s.text for s in store.get(an_ask())] == ["done"] and store.missing(an_ask(), 3) == [1, 2]

    @pytest.mark.parametrize(
        ("text", "told"),
        (("{", "not JSON"), ("[]", "list of completions"), ("[3]", "completion 0"), ('["a", {"b": 1}]', "completion 1"),
         ('[{"text": null}]', "field text"), ("7", "list of completions")),
    )  # fmt: skip
    def test_a_bad_file_is_named_and_changes_nothing(self, tmp_path: Path, text: str, told: str) -> None:
        (tmp_path / "q0.json").write_text('["fine"]')
        (tmp_path / "q1.json").write_text(text)
        with TeacherStore(tmp_path / "a.sqlite") as store:
            with pytest.raises(KardError) as error:
                import_authors(store, tmp_path, {"q0": an_ask(0), "q1": an_ask(1)})
            assert "q1.json" in str(error.value) and told in str(error.value) and counts(store).asks == 0

    def test_a_question_that_nobody_knows(self, tmp_path: Path) -> None:
        with TeacherStore(tmp_path / "a.sqlite") as store:
            with pytest.raises(KardError, match="no JSON files"):
                import_authors(store, tmp_path, {})
            (tmp_path / "q5.json").write_text('["fine"]')
            with pytest.raises(KardError, match=r"q5\.json: no question has the id 'q5'"):
                import_authors(store, tmp_path, {"q0": an_ask()})
