"""Knowledge bases: text of any kind into passages on disk, in order, whole or absent, and faults told in one line."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kardlib import hub_documents, passage_files, passage_sort
from kardlib.documents import Document, Fields, read_documents
from kardlib.errors import KardError
from kardlib.knowledge_base import MANIFEST, KnowledgeBase
from kardlib.knowledge_base_builders import (
    Origin,
    build_from_documents,
    build_from_passages,
    build_merged,
    merged_origin,
)
from kardlib.knowledge_base_sources import Choices, make_knowledge_base, spec_of
from kardlib.passage_rules import PARAGRAPHS, WHOLE, WINDOWS, PassageRule
from kardlib.passage_source import PassageList, digest_of
from kardlib.records import Passage

ORIGIN = Origin(name="test", source="made here")
ANY_LINE = PassageRule(kind="paragraphs")


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows as of ``wikimedia/wikipedia``, some of them without text."""
    rng = random.Random(seed)
    return [
        {
            "id": str(rng.randrange(10**6) * 1000 + number),
            "url": f"https://example.org/{number}",
            "title": f"Title {number}",
            "text": "\n\n".join(
                " ".join(rng.choice(("oak", "élan", "Ωmega", "salt", "river")) for _ in range(rng.randrange(1, 60)))
                for _ in range(rng.randrange(4))
            ),
        }
        for number in range(count)
    ]


def write(path: Path, lines: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def build(folder: Path, source: Path, rule: PassageRule = PARAGRAPHS, **options: Any) -> KnowledgeBase:
    return build_from_documents(folder, read_documents(source), rule, ORIGIN, progress=False, **options)


@pytest.fixture
def base(tmp_path: Path) -> KnowledgeBase:
    return build(tmp_path / "base", write(tmp_path / "rows.jsonl", rows(40)))


def test_paragraphs_follow_the_authors_manner() -> None:
    text = "Heading\n\nOne two three four.\n  \nfive six"
    assert list(PassageRule(kind="paragraphs", min_words=2).cut("A title", text)) == [
        "A title. One two three four.",
        "A title. five six",
    ]
    assert list(ANY_LINE.cut("", "One\ntwo")) == ["One", "two"]


@pytest.mark.parametrize("count", [0, 1, 19, 20, 99, 100, 101, 119, 120, 250])
def test_windows_hold_every_word_but_those_of_a_short_last_window(count: int) -> None:
    words = [f"w{i}" for i in range(count)]
    cut = [text.removeprefix("T. ").split() for text in WINDOWS.cut("T", " \n ".join(words))]
    kept = [word for window in cut for word in window]
    short = count > 100 and 0 < count % 100 < 20
    assert kept == words[: count - (count % 100 if short else 0)]
    assert all(len(window) == 100 for window in cut[:-1])


def test_a_rule_with_a_number_that_it_does_not_know_is_refused() -> None:
    for bad in ({"kind": "windows"}, {"kind": "whole", "words": 3}):
        with pytest.raises(ValueError, match="words"):
            PassageRule(**bad)


def test_random_access_iteration_and_datasets_give_the_same(base: KnowledgeBase) -> None:
    from datasets import load_from_disk

    passages = list(base)
    assert len(passages) == len(base) == base.manifest.count > 40
    assert [base[place] for place in range(len(base))] == passages
    assert base.ids(range(len(base))) == [passage.id for passage in passages]
    opened = load_from_disk(str(base.folder))
    assert [(row["id"], row["text"]) for row in opened] == [(p.id, p.text) for p in passages]
    assert [row["document"] for row in opened] == [base.document(place) for place in range(len(base))]
    for place in (-1, len(base)):
        with pytest.raises(IndexError):
            base[place]


def test_places_are_in_the_order_of_ids_and_of_the_file(base: KnowledgeBase, tmp_path: Path) -> None:
    ids = [passage.id for passage in base]
    assert ids == sorted(ids) and [int(i) for i in ids] == list(range(len(ids)))
    assert list(base) == list(PassageList(list(base))) and base.digest == PassageList(list(base)).digest
    wanted = [text for document in read_documents(tmp_path / "rows.jsonl") for text in PARAGRAPHS.cut(*document[1:3])]
    assert [passage.text for passage in base] == wanted
    assert [base.place(i) for i in ids] == list(range(len(ids)))
    with pytest.raises(KardError, match="'nobody'"):
        base.place("nobody")


def test_the_manifest_counts_and_hashes_what_is_there(base: KnowledgeBase) -> None:
    manifest = base.manifest
    assert manifest.digest == base.digest == digest_of(base)
    assert manifest.words == sum(len(passage.text.split()) for passage in base)
    assert manifest.documents == 40 and manifest.empty == sum(not row["text"] for row in rows(40))
    assert manifest.rule == PARAGRAPHS and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", manifest.made)
    base.check()


def test_a_copy_that_went_to_another_process_reads_the_same(base: KnowledgeBase) -> None:
    assert list(pickle.loads(pickle.dumps(base))) == list(base)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_every_file_format_gives_the_same_passages(base: KnowledgeBase, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "other"
    if name.endswith("parquet"):
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist(rows(40)), folder / name, row_group_size=7)
    else:
        write(folder / name, rows(40))
    assert build(tmp_path / "again", folder).digest == base.digest


def test_many_files_batches_and_shards_change_nothing(
    base: KnowledgeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in range(0, 40, 10):
        write(tmp_path / "parts" / f"part-{start:02d}.jsonl", rows(40)[start : start + 10])
    monkeypatch.setattr(passage_files, "ROWS_A_BATCH", 3)
    monkeypatch.setattr(passage_files.write_passages, "__defaults__", (500,))
    other = build(tmp_path / "small", tmp_path / "parts")
    assert len(other.manifest.files) > 3 and other.digest == base.digest
    assert [other[place] for place in range(len(other))] == list(base)


def test_text_files_are_documents_with_a_title(tmp_path: Path) -> None:
    write(tmp_path / "notes" / "b_two.txt", ["\ufeffFirst line", "of a paragraph.", "", "Second one."])
    write(tmp_path / "notes" / "deep" / "c.md", ["# Heading here", "", "Text."])
    write(tmp_path / "notes" / "skipped.csv", ["x"])
    write(tmp_path / "notes" / ".hidden.txt", ["x"])
    base = build(tmp_path / "base", tmp_path / "notes", ANY_LINE)
    assert [passage.text for passage in base] == [
        "b two. First line of a paragraph.",
        "b two. Second one.",
        "Heading here. Text.",
    ]
    assert [base.document(place) for place in range(3)] == ["b_two.txt", "b_two.txt", "deep/c.md"]


def test_abstracts_and_dumps_keep_their_ids(tmp_path: Path) -> None:
    source = write(
        tmp_path / "abstracts.jsonl",
        [
            {"PMID": 200, "title": "On salt.", "abstract": "Salt is salty."},
            {"PMID": 31, "title": "Of nothing.", "abstract": None},
            {"id": "100", "title": "not used", "contents": "On oak. Oak is wood."},
        ],
    )
    base = build(tmp_path / "base", source, WHOLE)
    assert list(base) == [
        Passage(id="100", text="On oak. Oak is wood."),
        Passage(id="200", text="On salt. Salt is salty."),
    ]
    assert (base.manifest.documents, base.manifest.empty) == (3, 1)


def test_fields_of_other_names(tmp_path: Path) -> None:
    source = write(tmp_path / "own.jsonl", [{"text": "not this", "body": "But this.", "head": "H"}])
    fields = Fields(title=("head",), text=("body",))
    base = build_from_documents(tmp_path / "b", read_documents(source, fields), ANY_LINE, ORIGIN, progress=False)
    assert [passage.text for passage in base] == ["H. But this."]


@pytest.mark.parametrize("run_bytes", [1, 5_000, 1 << 30])
def test_sorting_on_disk_is_sorting_in_memory(tmp_path: Path, run_bytes: int) -> None:
    documents = [row | {"text": row["text"] or "x"} for row in rows(60, 3)]
    base = build(tmp_path / "base", write(tmp_path / "rows.jsonl", documents), WHOLE, run_bytes=run_bytes)
    wanted = sorted(documents, key=lambda row: row["id"])
    assert [(p.id, p.text) for p in base] == [(row["id"], f"{row['title']}. {row['text']}") for row in wanted]
    names = {path.name for path in base.folder.iterdir()}
    assert names == {MANIFEST, "state.json", "dataset_info.json", *base.manifest.files}


def test_memory_holds_a_part_of_the_passages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passage_files, "ROWS_A_BATCH", 20)
    monkeypatch.setattr(passage_sort, "RUN_ROWS", 2)
    length = 2000

    def peak(count: int, rule: PassageRule) -> int:
        texts = (f"{i} ".ljust(length, "x") for i in range(count))
        documents = (Document(f"{i * 7919 % count:06d}", "", text, "") for i, text in enumerate(texts))
        tracemalloc.start()
        build_from_documents(
            tmp_path / f"{rule.kind}{count}", documents, rule, ORIGIN, progress=False, run_bytes=30 * length
        )
        value = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return value

    for rule in (ANY_LINE, WHOLE):
        peak(70, rule)  # imports and caches
        assert peak(700, rule) < 700 * length / 3


BAD = [
    ("a.jsonl", ['{"text": "fine one"}', '{"text": }'], "a.jsonl:2: not JSON"),
    ("a.jsonl", ['{"text": "fine one"}', "", "[1]"], "a.jsonl:3: field row"),
    ("a.jsonl", ['{"title": "x"}'], "a.jsonl:1: field text: it is missing"),
    ("a.jsonl", ['{"text": 3}'], "a.jsonl:1: field text: a text was expected, not '3'"),
    ("a.jsonl", ['{"text": "x", "title": ["y"]}'], "a.jsonl:1: field title"),
    ("a.jsonl", ['{"text": "x", "id": true}'], "a.jsonl:1: field id"),
    ("a.jsonl", ['{"text": "fine \\ud800 one"}'], "a.jsonl:1: field text: half a surrogate pair"),
    ("a.jsonl", ["[" * 100_000], "a.jsonl:1: nested too deeply"),
    ("a.jsonl", ['{"text": "x", "n": ' + "9" * 5000 + "}"], "a.jsonl:1: not JSON that can be read"),
    ("a.jsonl", ['{"text": ""}'], "made here: not one passage (1 documents, 1 of them without text)"),
    ("a.csv", ["x"], "no documents; known are"),
]


@pytest.mark.parametrize(("name", "lines", "told"), BAD)
def test_a_fault_names_file_line_and_field_and_leaves_nothing(
    tmp_path: Path, name: str, lines: list[str], told: str
) -> None:
    source = write(tmp_path / "source" / name, lines)
    with pytest.raises(KardError) as caught:
        build(tmp_path / "out" / "base", source.parent, ANY_LINE)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] in ([], [".base.lock"])


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    for name, content in (("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n'), ("b.txt", b"x\ny\xff\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(KardError, match=rf"{name}:2: not UTF-8"):
            build(tmp_path / "base", tmp_path / name)


def test_damaged_containers_are_named(tmp_path: Path) -> None:
    packed = write(tmp_path / "a.jsonl.gz", rows(400)).read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(KardError, match=r"a.jsonl.gz:\d+: cannot be read on"):
        build(tmp_path / "base", tmp_path / "a.jsonl.gz")
    pq.write_table(pa.Table.from_pylist(rows(50)), tmp_path / "b.parquet")
    whole = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-20])
    with pytest.raises(KardError, match=r"b.parquet: row 1 cannot be read"):
        build(tmp_path / "base", tmp_path / "b.parquet")
    with pytest.raises(KardError, match="nowhere: no such file or folder"):
        build(tmp_path / "base", tmp_path / "nowhere")


@pytest.mark.parametrize("run_bytes", [1, 1 << 30])
def test_an_id_that_occurs_twice_names_both_places(tmp_path: Path, run_bytes: int) -> None:
    source = write(tmp_path / "a.jsonl", [{"id": i, "text": "x"} for i in ("b", "a", "c", "a")])
    with pytest.raises(KardError, match=r"a.jsonl:4: field id: 'a' occurs twice \(also at .*a.jsonl:2\)"):
        build(tmp_path / "base", source, WHOLE, run_bytes=run_bytes)
    nameless = write(tmp_path / "b.jsonl", [{"text": "x"}])
    with pytest.raises(KardError, match="b.jsonl:1: field id: it is missing"):
        build(tmp_path / "base", nameless, WHOLE)


def test_a_knowledge_base_is_not_replaced_unasked(base: KnowledgeBase, tmp_path: Path) -> None:
    source, digest = write(tmp_path / "one.jsonl", [{"text": "one"}]), base.digest
    with pytest.raises(KardError, match="it is there already"):
        build(base.folder, source, ANY_LINE)
    assert KnowledgeBase.open(base.folder).digest == digest
    with pytest.raises(KardError, match="field text"):
        build(base.folder, write(tmp_path / "bad.jsonl", [{"text": 1}]), ANY_LINE, replace=True)
    assert KnowledgeBase.open(base.folder).digest == digest
    assert len(build(base.folder, source, ANY_LINE, replace=True)) == 1
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith((".partial", ".old"))]


def test_damage_is_seen_on_opening_or_by_the_check(base: KnowledgeBase) -> None:
    file = base.folder / "passages-00000.arrow"
    content = file.read_bytes()
    at = content.index(base[0].text.encode())
    file.write_bytes(content[:at] + b"#" + content[at + 1 :])
    with pytest.raises(KardError, match="the passages have changed"):
        KnowledgeBase.open(base.folder).check()
    file.write_bytes(content[:-100])
    with pytest.raises(KardError, match=r"passages-00000.arrow: it has [\d,]+ bytes"):
        KnowledgeBase.open(base.folder)
    file.unlink()
    with pytest.raises(KardError, match="it has 0 bytes"):
        KnowledgeBase.open(base.folder)
    manifest = base.folder / MANIFEST
    manifest.write_text(manifest.read_text().replace('"count"', '"cuont"'))
    with pytest.raises(KardError, match=rf"{MANIFEST}: field c"):
        KnowledgeBase.open(base.folder)
    manifest.unlink()
    with pytest.raises(KardError, match="no knowledge base"):
        KnowledgeBase.open(base.folder)


BUILD_AND_WAIT = """
import os, sys, time
from kardlib.documents import Document
from kardlib.knowledge_base_builders import Origin, build_from_documents
from kardlib.passage_rules import PARAGRAPHS
folder, stage = sys.argv[1], int(sys.argv[2])
rename, calls = os.replace, 0
def wait():
    print("here", flush=True)
    time.sleep(60)
def replace(*names):
    global calls
    calls += 1
    if calls == stage:
        wait()
    rename(*names)
os.replace = replace
def documents():
    for number in range(30_000):
        if stage == 0 and number == 25_000:
            wait()
        yield Document("", "", "one two three four five six seven eight nine ten eleven", "")
build_from_documents(folder, documents(), PARAGRAPHS, Origin(name="new", source="s"), replace=True, progress=False)
"""


@pytest.mark.parametrize("stage", [0, 1, 2, 3], ids=["writing", "manifest", "old aside", "new in place"])
def test_kill_leaves_the_old_one_or_none(base: KnowledgeBase, tmp_path: Path, stage: int) -> None:
    digest = base.digest
    with subprocess.Popen(
        [sys.executable, "-c", BUILD_AND_WAIT, str(base.folder), str(stage)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout and child.stdout.readline() == "here\n"
        os.kill(child.pid, signal.SIGKILL)
    if stage == 3:
        assert not base.folder.exists()
    else:
        assert KnowledgeBase.open(base.folder).digest == digest
    with pytest.raises(KardError, match="it is there already"):  # stage 3: the old one comes back
        build(base.folder, tmp_path / "rows.jsonl")
    assert KnowledgeBase.open(base.folder).digest == digest
    assert build(base.folder, tmp_path / "rows.jsonl", replace=True).digest == digest
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith((".partial", ".old"))]


def test_merged_is_the_union_under_new_names(base: KnowledgeBase, tmp_path: Path) -> None:
    evidence = build_from_passages(
        tmp_path / "evidence",
        PassageList([Passage(id=f"e{i}", text=f"fact {i}") for i in (10, 9, 1)]),
        Origin(name="evidence", source="a set", licence="MIT", notes=("made with the questions in view",)),
        progress=False,
    )
    parts = {"wiki": base, "set": evidence, "wiki-2": evidence}
    merged = build_merged(tmp_path / "all", parts, merged_origin("all", parts), progress=False)
    wanted = sorted((f"{name}/{p.id}", p.text) for name, part in parts.items() for p in part)
    assert [(p.id, p.text) for p in merged] == wanted
    assert merged.document(merged.place(f"wiki/{base[7].id}")) == base.document(7) != ""
    assert merged.manifest.licence == "set: MIT; wiki-2: MIT" and "set: a set" in merged.manifest.source
    assert "set: made with the questions in view" in merged.manifest.notes


def test_a_part_may_keep_its_ids_where_they_stay_unique(base: KnowledgeBase, tmp_path: Path) -> None:
    evidence = PassageList([Passage(id=i, text=f"fact {i}") for i in ("Zebra-2", "Zebra-1", "Aachen-1")])
    parts = {"set": evidence, "wiki": base}
    merged = build_merged(tmp_path / "all", parts, ORIGIN, progress=False, plain=("set",))
    wanted = sorted([*((p.id, p.text) for p in evidence), *((f"wiki/{p.id}", p.text) for p in base)])
    assert [(p.id, p.text) for p in merged] == wanted
    clash = PassageList([Passage(id=f"wiki/{base[3].id}", text="a fact")])
    with pytest.raises(KardError, match=rf"'wiki/{base[3].id}' occurs twice \(also at "):
        build_merged(tmp_path / "clash", {"set": clash, "wiki": base}, ORIGIN, progress=False, plain=("set",))
    with pytest.raises(KardError, match="occurs twice"):
        build_merged(tmp_path / "clash", {"a": base, "b": base}, ORIGIN, progress=False, plain=("a", "b"))
    assert not (tmp_path / "clash").exists()


def test_the_same_sources_are_not_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = write(tmp_path / "own.jsonl", rows(20)), tmp_path / "out" / "passages"
    choices = Choices(progress=False)
    first = make_knowledge_base(out, [spec_of(str(source))], choices)
    assert (first.manifest.name, first.manifest.source) == ("own", "own.jsonl")
    again = make_knowledge_base(out, [spec_of(str(source))], choices)
    assert again.manifest == first.manifest
    other = make_knowledge_base(out, [spec_of(str(source))], Choices(rule=WINDOWS, progress=False))
    assert other.manifest.rule == WINDOWS and other.digest != first.digest
    write(source, rows(21))
    assert make_knowledge_base(out, [spec_of(str(source))], choices).manifest.documents == 21
    named = make_knowledge_base(out, [spec_of(str(source))], Choices(name="mine", licence="CC0", progress=False))
    assert (named.manifest.name, named.manifest.licence, named.manifest.documents) == ("mine", "CC0", 21)
    assert KnowledgeBase.open(out).manifest == named.manifest
    assert make_knowledge_base(out, [spec_of(str(out))], choices).manifest.documents == 21
    assert make_knowledge_base(tmp_path / "copy", [spec_of(str(out))], choices).manifest.documents == 21


def test_the_command_goes_on_behind_a_kill_between_two_renames(tmp_path: Path) -> None:
    source, out = write(tmp_path / "own.jsonl", rows(20)), tmp_path / "out" / "passages"
    choices = Choices(progress=False)
    make_knowledge_base(out, [spec_of(str(source))], choices)
    write(source, rows(21))
    out.rename(out.with_name(".passages.old"))
    assert make_knowledge_base(out, [spec_of(str(source))], choices).manifest.documents == 21


def test_several_sources_are_merged_by_name(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.jsonl", rows(9)), write(tmp_path / "two.jsonl", rows(9, 1))
    specs, choices = [spec_of(f"a={one}"), spec_of(str(two))], Choices(progress=False)
    base = make_knowledge_base(tmp_path / "out" / "passages", specs, choices)
    assert {passage.id.split("/")[0] for passage in base} == {"a", "two"}
    plain = make_knowledge_base(base.folder, [spec_of(f"={one}"), specs[1]], choices)
    assert {passage.id for passage in plain} == {passage.id.removeprefix("a/") for passage in base}
    base = make_knowledge_base(base.folder, specs, choices)
    assert make_knowledge_base(tmp_path / "out" / "passages", specs, choices).manifest == base.manifest
    assert not (tmp_path / "out" / "parts").exists()
    with pytest.raises(KardError, match="the same name"):
        make_knowledge_base(tmp_path / "x", [spec_of(f"a={one}"), spec_of(f"a={two}")], choices)


def test_words_of_a_command_line() -> None:
    hub = spec_of("wiki=hub:wikimedia/wikipedia:20231101.en")
    assert (hub.kind, hub.target, hub.name) == ("hub", "wikimedia/wikipedia:20231101.en", "wiki")
    assert spec_of("hub:wikimedia/wikipedia:20231101.en").name == "wikipedia-20231101.en"
    assert (spec_of("set:strategyqa").kind, spec_of("./a=b.jsonl").target) == ("set", "./a=b.jsonl")
    bare = spec_of("=set:strategyqa")
    assert bare.plain and (bare.kind, bare.target, bare.name) == ("set", "strategyqa", "strategyqa")
    assert not hub.plain and spec_of("=./own.jsonl").plain
    for empty in ("set:", "=", "a="):
        with pytest.raises(KardError, match="set:NAME"):
            spec_of(empty)


def test_wikipedia_comes_as_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: KnowledgeBase) -> None:
    import datasets

    asked: list[Any] = []

    def load(*names: str, **options: Any) -> Iterator[dict[str, Any]]:
        asked.append((names, options))
        return iter(rows(40))

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr("kardlib.knowledge_base_sources.hub_revision", lambda name: "f" * 40)
    spec = spec_of("hub:wikimedia/wikipedia:20231101.en")
    fetched = make_knowledge_base(tmp_path / "wiki", [spec], Choices(progress=False))
    assert fetched.digest == base.digest
    assert asked == [
        (("wikimedia/wikipedia", "20231101.en"), {"split": "train", "streaming": True, "revision": "f" * 40})
    ]
    assert fetched.manifest.source == f"wikimedia/wikipedia 20231101.en at {'f' * 12}"
    assert fetched.manifest.licence == hub_documents.LICENCES["wikimedia/wikipedia"]


def test_a_hub_that_breaks_off_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(*names: str, **options: Any) -> Iterator[dict[str, Any]]:
        yield from rows(3)
        raise ConnectionError("no\nroute")

    monkeypatch.setattr(datasets, "load_dataset", load)
    documents = hub_documents.hub_documents("some/set", "", "abc")
    with pytest.raises(KardError, match=r"some/set: it cannot be fetched beyond row 3; .*no route"):
        build_from_documents(tmp_path / "base", documents, ANY_LINE, ORIGIN, progress=False)
    assert not (tmp_path / "base").exists()


def test_the_evidence_of_real_sets(data_dir: Path, tmp_path: Path) -> None:
    choices = Choices(parameters={"data_dir": str(data_dir)}, progress=False)
    base = make_knowledge_base(tmp_path / "evidence", [spec_of("set:strategyqa")], choices)
    content = json.loads((data_dir / "strategyqa" / "paragraphs.json").read_text(encoding="utf-8"))
    assert [passage.id for passage in base] == sorted(content)
    assert base.manifest.licence == "MIT" and any("knowing the questions" in note for note in base.manifest.notes)
