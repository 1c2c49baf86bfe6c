"""Tables from records."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from kardlib.claims import read_claims
from kardlib.counterparts import NOT_RUN, REASONS, counterparts, counterparts_html
from kardlib.errors import KardError
from kardlib.figures import save
from kardlib.page import page
from kardlib.presets import resolve
from kardlib.records import Prediction, write_jsonl
from kardlib.report import (
    ORACLE,
    blocks,
    find_records,
    find_runs,
    main_table,
    main_table_html,
    merge_rows,
    paper_number,
    render,
)
from kardlib.runs import PAPER_CSV, ResultRow, open_run


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def row(**change: Any) -> ResultRow:
    base = dict(table="1", dataset="mini-medqa", paper_dataset="MedQA-USMLE", split="test", student="mini-t5-base",
                paper_student="Flan-T5-base", method="KARD (BM25)", metric="accuracy", decoding="greedy", value=61.25,
                sd=1.5, seeds=[60.0, 62.5], ci95=(58.0, 64.0), n=1000, parse_failures=8)  # fmt: skip
    return ResultRow(**{**base, **change})


def in_paper(**wanted: str) -> dict[str, str]:
    with open(PAPER_CSV, encoding="utf-8") as file:
        return next(r for r in csv.DictReader(file) if all(r[name] == value for name, value in wanted.items()))


def test_paper_and_here_are_two_columns() -> None:
    printed = in_paper(table="1", student="Flan-T5-base", method="KARD (BM25)")
    line = next(text for text in main_table([row()]).splitlines() if text.startswith("KARD (BM25)"))
    cells = [cell.strip() for cell in line.split("|")]
    assert cells == ["KARD (BM25)", f"{float(printed['value']):.2f} ± {float(printed['sd']):.2f}", "61.2 ± 1.5",
                     "58.0 to 64.0", "1000", "0.4"]  # fmt: skip
    assert "never in its column" in main_table([row()])


def test_a_single_seed_has_no_spread() -> None:
    assert "±" not in "".join(main_table([row(sd=0.0, seeds=[61.25], paper_student=None)]).splitlines()[:4])


@pytest.mark.parametrize(
    "change", [dict(paper_dataset=None), dict(paper_student="Flan-T5-xxl"), dict(method="KARD"), dict(metric="f1"),
               dict(decoding="vote5")]
)  # fmt: skip
def test_no_paper_number_without_a_counterpart(change: dict) -> None:
    assert paper_number(row()) is not None
    assert paper_number(row(**change)) is None


def test_the_same_table_wins_where_the_paper_prints_a_method_twice() -> None:
    found = {table: paper_number(row(method="KA Fine-tuning", table=table)) for table in ("1", "7")}
    assert {table: number.table for table, number in found.items() if number} == {"1": "1", "7": "7"}


def test_hits_find_the_papers_figure() -> None:
    number = paper_number(row(table="Fig 4c", student=None, paper_student=None, method="BM25", metric="hits@3"))
    assert number is not None and number.value == float(
        in_paper(table="Fig 4c", method="BM25", metric="hits@3")["value"]
    )


def test_cases_of_thirty_stand_beside_a_share_of_failures_in_percent() -> None:
    number = paper_number(row(
        table="failure analysis", student=None, paper_student="-", metric="share of failures",
        method="reranker fetched no relevant passage",
    ))  # fmt: skip
    assert number is not None and number.value == 50.0


def test_oracle_and_vote_are_marked() -> None:
    text = main_table([row(oracle=True), row(decoding="vote5")])
    assert "KARD (BM25) †" in text and "vote of 5" in text and ORACLE in text
    assert ORACLE not in main_table([row()])


def test_settings_show_only_where_rows_differ() -> None:
    text = main_table([row(settings={"k": 1, "l": 3}), row(settings={"k": 2, "l": 3})])
    assert "(k=1)" in text and "(k=2)" in text and "l=3" not in text


def test_what_all_rows_have_otherwise_than_the_preset_stands_in_the_heading() -> None:
    usual = {"answers": "scored", "l": 3, "k": 3}
    odd = usual | {"size": "smoke", "k": 2}
    titles = [block.title for settings in (usual, odd) for block in blocks([row(settings=settings)])]
    assert titles[1] == f"{titles[0]} | k=2 | size=smoke"
    (mixed,) = blocks([row(settings=usual), row(method="KARD (Reranker)", settings=odd)])
    assert mixed.title == titles[0] and "size=smoke" in mixed.lines[1][0]


def test_students_and_sets_have_tables_of_their_own() -> None:
    text = main_table([row(), row(student="mini-opt"), row(dataset="openbookqa", paper_dataset="OpenbookQA")])
    assert text.count("Table 1 | ") == 3


def test_report_merges_latest_runs_and_prints_one_json_array(root: Path) -> None:
    open_run("05_tiny", resolve("mini"), {}).finish([row()], ["note of 05"])
    open_run("06_tiny", resolve("mini", k=2), {}).finish([row(value=1.0)])
    open_run("06_tiny", resolve("mini"), {}).finish([row(), row(method="Reasoning Distillation")])
    rows = json.loads(render(find_records(), "json"))
    assert [(r["method"], r["value"]) for r in rows] == [("KARD (BM25)", 61.25), ("Reasoning Distillation", 61.25)]
    assert "note of 05" in render(find_records())
    assert len(find_records([root / "mini", root])) == 2


def test_a_single_run_folder_can_be_asked_for() -> None:
    old = open_run("06_tiny", resolve("mini", k=2), {})
    old.finish([row(value=1.0)])
    open_run("06_tiny", resolve("mini"), {}).finish([row()])
    assert [r.value for r in merge_rows(find_records([old.folder]))] == [1.0]


def test_a_row_with_some_of_the_seeds_of_another_is_left_out(root: Path) -> None:
    whole = row(value=2.0, seeds=[1.0, 2.0, 3.0])
    part, other = row(value=1.0, seeds=[1.0]), row(value=5.0, seeds=[5.0])
    elsewhere = row(value=1.0, seeds=[1.0], student="mini-opt")
    open_run("05_tiny", resolve("mini"), {}).finish([part, other])
    open_run("06_tiny", resolve("mini"), {}).finish([whole, elsewhere])
    assert merge_rows(find_records()) == [other, whole, elsewhere]


def test_a_figure_names_its_data_set_once(root: Path) -> None:
    run = open_run("06_tiny", resolve("mini"), {})
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    save(run, figure, "a_figure")
    run.finish([row()])
    assert re.findall("<figcaption>(.*?)</figcaption>", page(find_runs())) == ["06_tiny: a_figure (mini-medqa)"]


def test_no_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(KardError, match="no finished run"):
        find_records([tmp_path])


class Balance(HTMLParser):
    """Counts tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults = 0
        self.links: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self.places |= {value or "" for name, value in attrs if name == "id"}
        if tag not in ("meta", "br", "img", "!doctype"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.faults += not self.open or self.open.pop() != tag


def test_html_is_one_page_and_escapes(root: Path) -> None:
    run = open_run("06_tiny", resolve("mini"), {})
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    save(run, figure, "a_figure")
    run.finish([row(method="<b>&")], ["a < b"])
    text = page(find_runs())
    parser = Balance()
    parser.feed(text)
    assert text.startswith("<!DOCTYPE html>") and not parser.open and not parser.faults
    assert all(link.startswith(("#", "data:image/png")) for link in parser.links), "nothing is fetched from elsewhere"
    assert {link[1:] for link in parser.links if link.startswith("#")} <= parser.places
    assert "&lt;b&gt;&amp;" in text and "a &lt; b" in text and "<b>" not in text
    assert main_table_html([row()]).count("<table>") == 1


def test_every_number_of_the_paper_has_a_counterpart_or_a_reason() -> None:
    with open(PAPER_CSV, encoding="utf-8", newline="") as file:
        printed = len(list(csv.DictReader(file)))
    none, one = counterparts([]), counterparts([row()])
    assert len(none) == len(one) == printed and all(each.reason for each in none)
    assert [each.here[0] for each in one if not each.reason] == [row()]
    assert len({each.reason for each in none if each.reason != NOT_RUN}) == len(REASONS)
    assert f"1 of the paper's {printed} numbers" in counterparts_html(one)


def test_the_page_has_the_papers_order(root: Path) -> None:
    tables = ("Fig 3", "filter", "7", "Fig 4c", "1")
    open_run("06_tiny", resolve("mini"), {}).finish([row(table=table) for table in tables])
    text = page(find_runs())
    titles = re.findall(r"<caption>(.*?) \|", text[text.index('<h2 id="tables">') :])
    assert list(dict.fromkeys(titles)) == ["Table 1", "Table 7", "Fig 3", "Fig 4c", "filter"]


def test_a_number_leads_to_the_first_run_that_has_it(root: Path) -> None:
    open_run("05_tiny", resolve("mini"), {}).finish([row(value=11.0)])
    open_run("06_tiny", resolve("mini"), {}).finish([row(value=11.0), row(value=22.0)])
    text = page(find_runs())
    assert re.findall(r'<a href="#run-(\d)">([\d.]+)', text) == [("0", "11.0"), ("1", "22.0")]
    assert text.index("05_tiny: mini", text.index('id="run-0"')) < text.index('id="run-1"')


def test_claims_are_decided_of_runs_that_lie_elsewhere(root: Path, tmp_path: Path) -> None:
    right = {"KARD (Reranker)": 1, "Reasoning Distillation": 0}
    rows = []
    for method, value in right.items():
        predictions = [
            Prediction(question_id=f"q{i}", method=method, seed=0, decoding="greedy", rationale="", answer="",
                       parsed=None, chosen=0 if value else 1, gold=0)
            for i in range(50)
        ]  # fmt: skip
        write_jsonl(root / f"{value}.jsonl", predictions)
        told = dict(method=method, value=100.0 * value, seeds=[100.0 * value], n=50, predictions=f"{value}.jsonl")
        rows.append(row(**told, settings={"answers": "scored"}))
    open_run("06_tiny", resolve("mini"), {}).finish(rows)
    here = page(find_runs())
    assert "1 holds" in here
    root.rename(tmp_path / "moved")
    assert page(find_runs([tmp_path / "moved"])).count("1 holds") == here.count("1 holds")


def test_the_page_has_every_claim_with_a_verdict(root: Path) -> None:
    open_run("06_tiny", resolve("mini"), {}).finish([row()])
    text = page(find_runs())
    assert all(f"{claim.id} (" in text for claim in read_claims())
    assert text.count('<table class="claims">') == len(read_claims())
