"""Claims: a file whose every comparison names rows of the paper, and verdicts that follow from raw predictions."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kardlib.claims import CLAIMS, Claim, Contrast, Selector, in_paper, paper_row, read_claims
from kardlib.claims_table import (
    CLAIMS_HEADER,
    claim_blocks,
    claims_html,
    claims_table,
    claims_text,
    linked_claims_html,
    tally,
    verdicts_html,
)
from kardlib.comparison import compare, holm
from kardlib.errors import KardError
from kardlib.records import Prediction, Ranking, read_jsonl, write_jsonl
from kardlib.runs import PAPER_CSV, ResultRow
from kardlib.verdicts import Decision, Setup, decide, nearest_row, rows_meant, setup_of

PAPER = list(csv.DictReader(PAPER_CSV.read_text(encoding="utf-8").splitlines()))
ALL = {claim.id: claim for claim in read_claims()}
RD, BM25, RERANKER = "Reasoning Distillation", "KARD (BM25)", "KARD (Reranker)"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


# -- the file


@pytest.mark.parametrize("claim", ALL.values(), ids=list(ALL))
def test_every_number_of_a_claim_is_one_row_of_the_paper(claim: Claim) -> None:
    for cell in claim.cells():
        numbers = in_paper(cell).numbers
        for selector, number in zip(cell.selectors, numbers, strict=True):
            names = ("table", "dataset", "student", "method", "metric")
            rows = [row for row in PAPER if all(row[name] == getattr(selector, name) for name in names)]
            assert len(rows) == 1, f"{cell}: {len(rows)} rows"
            share = selector.metric.startswith("cases of")
            assert number.value == pytest.approx(float(rows[0]["value"]) / (0.3 if share else 1))
        assert (
            len({repr(s) for s in cell.selectors}) == len(cell.selectors)
            and len({s.dataset for s in cell.selectors}) == 1
        )


def test_every_table_of_the_paper_has_a_claim_and_no_comparison_is_asked_twice() -> None:
    cells = [cell for claim in ALL.values() for cell in claim.cells()]
    assert {row["table"] for row in PAPER} == {s.table for cell in cells for s in cell.selectors}
    sides = [(repr(cell.plus), repr(cell.minus)) for cell in cells]
    assert len(set(sides)) == len(sides) and not any((minus, plus) in sides for plus, minus in sides)


def test_the_file_holds_no_number_of_the_paper() -> None:
    text = CLAIMS.read_text(encoding="utf-8")
    assert not [row["value"] for row in PAPER if "." in row["value"] and f"{row['value']}" in text]


def test_the_papers_own_exceptions_are_seen() -> None:
    """Oracles are not above everything in the paper, the open-book set is, and its small gaps are inside the noise."""
    against = [
        (cell.dataset, cell.selectors[0].student)
        for name in ("silver-above-retrieved", "teacher-cot-above-all")
        for cell in ALL[name].cells()
        if in_paper(cell).gap < 0
    ]
    assert set(against) == {("StrategyQA", "T5-large"), ("OpenbookQA", "T5-base"), ("StrategyQA", "T5-xl")}
    assert all(in_paper(cell).gap > 0 for cell in ALL["bm25-below-rd-on-the-open-book"].cells())
    assert all(in_paper(cell).gap > 0 for cell in ALL["kard-beats-rd"].cells())
    assert {in_paper(cell).says for cell in ALL["kard-beats-rd"].cells()} == {"yes", "inside the noise"}
    large = [cell for cell in ALL["small-kard-beats-large-fine-tuning"].cells() if cell.dataset == "OpenbookQA"]
    assert [in_paper(cell).says for cell in large] == ["no"]


def test_the_papers_half_width_is_binomial_and_adds_the_spread_of_its_runs() -> None:
    cell = next(c for c in ALL["kard-beats-fine-tuning"].cells() if c.selectors[1].method == "Fine-tuning")
    first, second = (paper_row(selector) for selector in cell.selectors)
    assert first.sd and second.sd is None
    variance = sum(n.value * (100 - n.value) / 1273 for n in (first, second)) + first.sd**2 / 3
    assert in_paper(cell).half_width == pytest.approx(1.959964 * math.sqrt(variance))


def test_a_selector_without_a_row_is_named() -> None:
    with pytest.raises(KardError, match="no row 1, MedQA-USMLE, T5-tiny, KARD, accuracy"):
        paper_row(Selector(table="1", dataset="MedQA-USMLE", student="T5-tiny", method="KARD"))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (dict(id="A b"), "field id"),
        (dict(groups=[]), "field groups"),
        (dict(verdict="holds"), "field verdict"),
    ],
)
def test_a_faulty_claim_is_named_with_its_line(tmp_path: Path, fault: dict[str, Any], told: str) -> None:
    good = json.loads(CLAIMS.read_text(encoding="utf-8").splitlines()[0])
    path = tmp_path / "claims.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in (good, good | {"id": "other"} | fault)))
    with pytest.raises(KardError, match=f"claims.jsonl:2: {told}"):
        read_claims(path)
    path.write_text(json.dumps(good) + "\n" + json.dumps(good))
    with pytest.raises(KardError, match="occurs twice"):
        read_claims(path)


def test_bounds_and_sides_must_make_sense() -> None:
    one = dict(method="m")
    with pytest.raises(ValueError, match="not smaller"):
        Contrast(plus=[one], minus=[one], above=2, below=2)
    for plus, minus in (([one, one], [one]), ([one, one], []), ([one], [one, one])):
        with pytest.raises(ValueError, match="as many"):
            Contrast(plus=plus, minus=minus)


# -- verdicts


def claim(*contrasts: dict[str, Any], table: str = "1", student: str = "Flan-T5-base") -> Claim:
    place = dict(table=table, dataset="MedQA-USMLE", students=[student])
    groups = [dict(places=[place], contrasts=list(contrasts))]
    return Claim.model_validate(dict(id="a", claim="A.", made_in=table, groups=groups))


def beats(first: str, second: str, **bounds: float) -> dict[str, Any]:
    return dict(plus=[dict(method=first)], minus=[dict(method=second)], **bounds)


def row(right: np.ndarray | Sequence[Sequence[int]], method: str, root: Path | None = None, **change: Any) -> ResultRow:
    """A row and its raw predictions; ``right`` has shape (seeds, questions). Texts name no option, options count."""
    right = np.asarray(right)
    base = dict(
        table="1", dataset="mini-medqa", paper_dataset="MedQA-USMLE", split="test", student="mini-t5-base",
        paper_student="Flan-T5-base", method=method, metric="accuracy", decoding="greedy", value=100 * right.mean(),
        n=right.shape[1], settings={"answers": "scored"}, predictions=None,
    )  # fmt: skip
    made = ResultRow(**{**base, **change})
    if root is None:
        return made
    name = f"{abs(hash(made.model_dump_json()))}.jsonl"
    rows = [
        Prediction(question_id=f"q{q}", method=method, seed=seed, decoding="greedy", rationale="", answer="",
                   parsed=None, chosen=0 if value else 1, gold=0)
        for seed, run in enumerate(right) for q, value in enumerate(run)
    ]  # fmt: skip
    write_jsonl(root / name, rows)
    return made.model_copy(update={"predictions": name})


def drawn(rate: float, seeds: int = 3, n: int = 300, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng([seed, int(1000 * rate)]).random((seeds, n)) < rate).astype(int)


def find_row(rows: Sequence[ResultRow], wanted: Selector, setup: Setup) -> ResultRow | None:
    return nearest_row(rows_meant(rows, wanted, setup), wanted)


def verdicts(rows: Sequence[ResultRow], *contrasts: dict[str, Any], **more: Any) -> list[Decision]:
    return decide([claim(*contrasts)], rows, **more)


def test_a_clear_gain_a_clear_loss_a_tie_and_a_missing_row(root: Path) -> None:
    high, low = row(drawn(0.7), RERANKER, root), row(drawn(0.4), RD, root)
    gain, loss, tie, missing = verdicts(
        [high, low, row(drawn(0.7), BM25, root)],
        beats(RERANKER, RD), beats(RD, RERANKER), beats(RERANKER, BM25), beats(RERANKER, "Fine-tuning"),
    )  # fmt: skip
    assert [d.verdict for d in (gain, loss, tie, missing)] == ["holds", "does not hold", "undecided", "not run"]
    assert gain.comparison and gain.comparison.gap == pytest.approx(high.value - low.value)
    assert tie.comparison and tie.comparison.gap == 0 and tie.comparison.ci95[0] < 0 < tie.comparison.ci95[1]
    assert missing.comparison is None and "Fine-tuning" in missing.note and "KARD" not in missing.note
    assert missing.paper.says in ("yes", "no", "inside the noise"), "the paper is judged all the same"


def test_a_decision_is_the_paired_comparison_of_the_raw_predictions(root: Path) -> None:
    first, second = drawn(0.6, seeds=3), drawn(0.5, seeds=1)
    (decision,) = verdicts([row(first, RERANKER, root), row(second, RD, root)], beats(RERANKER, RD))
    order = np.argsort([f"q{i}" for i in range(first.shape[1])])
    expected = compare(first[:, order].astype(float), second[:, order].astype(float))
    assert decision.comparison and decision.comparison.p_holm == expected.p
    assert (decision.comparison.gap, decision.comparison.ci95) == (expected.gap, expected.ci95)


def test_rows_that_cannot_be_paired_are_not_run(root: Path) -> None:
    whole, part, bare = row(drawn(0.6), RERANKER, root), row(drawn(0.5, n=200), RD, root), row(drawn(0.5), BM25)
    gone = row(drawn(0.5), "Fine-tuning", root, predictions="gone.jsonl").model_copy(update={"predictions": "gone"})
    cells = [beats(RERANKER, other) for other in (RD, BM25, "Fine-tuning")]
    decisions = verdicts([whole, part, bare, gone], *cells)
    assert [d.verdict for d in decisions] == ["not run"] * 3
    assert [d.note for d in decisions] == ["the rows are of different questions", *["no raw predictions"] * 2]


def test_rows_of_different_settings_are_not_compared(root: Path) -> None:
    """A method that was run otherwise stands beside the others only where they were run so, too."""
    other = {"answers": "scored", "filter": False}
    high, low = row(drawn(0.7), RERANKER, root), row(drawn(0.4), RD, root)
    elsewhere = row(drawn(0.2), RERANKER, root, settings=other)
    assert verdicts([elsewhere, high, low], beats(RERANKER, RD))[0].verdict == "holds", "the usual ones first"
    (decision,) = verdicts([elsewhere, low], beats(RERANKER, RD))
    assert (
        decision.verdict == "not run" and decision.note == "the rows have different settings: as usual | filter = False"
    )
    both = [elsewhere, low, row(drawn(0.4), RD, root, settings=other)]
    assert verdicts(both, beats(RERANKER, RD))[0].verdict == "does not hold"
    few = row(drawn(0.7), RERANKER, root, settings={"answers": "scored", "k": 1})
    assert "k = 1" in verdicts([few, low], beats(RERANKER, RD))[0].note
    real = dict(dataset="openbookqa", paper_dataset="MedQA-USMLE", student="t5")
    ks = [row(drawn(r), m, root, **real, settings={"k": k}) for r, m, k in ((0.7, RERANKER, 3), (0.4, BM25, 5))]
    assert "k = 3 or 5" in verdicts(ks, beats(RERANKER, BM25))[0].note


def test_rows_of_different_worlds_are_not_compared(root: Path) -> None:
    first, second = row(drawn(0.7), RERANKER, root), row(drawn(0.4), RD, root)
    answers = read_jsonl(root / str(second.predictions), Prediction)
    turned = [p.model_copy(update={"gold": 1 - p.gold, "chosen": 1 - p.chosen}) for p in answers]  # type: ignore[operator]
    write_jsonl(root / str(second.predictions), turned)
    (decision,) = verdicts([first, second], beats(RERANKER, RD))
    assert decision.verdict == "not run" and "different worlds" in decision.note


def test_raw_predictions_that_are_not_the_rows_are_told(root: Path) -> None:
    """One seed's file beside a row of three, or a file of another run, must not decide anything."""
    three, second = row(drawn(0.6), RERANKER, root), row(drawn(0.4), RD, root)
    alone = row(drawn(0.6)[:1], RERANKER, root)
    mixed = three.model_copy(update={"predictions": alone.predictions})
    (decision,) = verdicts([mixed, second], beats(RERANKER, RD))
    assert decision.verdict == "not run" and "row's value" in decision.note


def test_only_seeds_in_common_are_paired(root: Path) -> None:
    three, two = drawn(0.6, 3), drawn(0.6, 2)
    rows = [row(three, RERANKER, root), row(two, RD, root)]
    (decision,) = verdicts(rows, beats(RERANKER, RD))
    assert decision.comparison and decision.comparison.seeds == 2
    assert decision.comparison.gap == pytest.approx(100 * (three[:2].mean() - two.mean()))


def test_a_difference_of_differences_is_paired_across_students(root: Path) -> None:
    large = dict(student="mini-t5-large", paper_student="Flan-T5-large")
    rows = [row(drawn(0.8), RERANKER, root), row(drawn(0.4), RD, root),
            row(drawn(0.6), RERANKER, root, **large), row(drawn(0.55), RD, root, **large)]  # fmt: skip
    shrinks = next(c for c in ALL["gains-shrink-with-size"].cells() if "Flan-T5-large" in str(c))
    decisions = decide([ALL["gains-shrink-with-size"]], rows)
    found = next(d for d in decisions if d.cell == shrinks)
    a, b, c, d = (one.value for one in rows)
    assert found.verdict == "holds" and found.comparison and found.comparison.gap == pytest.approx(a - b - (c - d))
    assert {d.verdict for d in decisions if "Flan-T5-xl" in str(d.cell)} == {"not run"}


def test_equivalence_holds_only_with_a_narrow_interval(root: Path) -> None:
    alike = drawn(0.7, n=1000)
    nearly = alike.copy()
    nearly[:, :3] = 1 - nearly[:, :3]
    rows = [row(alike, RERANKER, root), row(nearly, RD, root), row(drawn(0.2, n=1000), BM25, root)]
    near, far = verdicts(rows, *(beats(other, RERANKER, above=-2, below=2) for other in (RD, BM25)))
    assert near.verdict == "holds" and far.verdict == "does not hold" and near.needed is None
    few = [row(alike[:, :30], RERANKER, root), row(drawn(0.7, n=30, seed=1), RD, root)]
    assert [d.verdict for d in verdicts(few, beats(RD, RERANKER, above=-2, below=2))] == ["undecided"]


def test_holm_runs_over_a_table_with_generated_and_real_sets_apart(root: Path) -> None:
    methods = (RD, BM25, "Fine-tuning", "KA Fine-tuning", "Few-shot")
    rows = [row(drawn(0.55 + 0.02 * i, seeds=1), method, root) for i, method in enumerate(methods)]
    rows += [row(drawn(0.65, seeds=1), RERANKER, root)]
    decisions = verdicts(rows, *(beats(RERANKER, method) for method in methods))
    p = [d.comparison.p for d in decisions if d.comparison]
    assert [d.comparison.p_holm for d in decisions if d.comparison] == pytest.approx(holm(p))
    assert any(a < 0.05 < b for a, b in zip(p, holm(p), strict=True)), "the case must tell the two apart"
    for d in decisions:
        assert d.comparison and (d.verdict == "undecided" or d.comparison.p_holm <= 0.05)
    elsewhere = [one.model_copy(update={"dataset": "medqa"}) for one in rows]
    both = verdicts([*rows, *elsewhere], *(beats(RERANKER, method) for method in methods))
    assert sorted(d.comparison.p_holm for d in both if d.comparison) == pytest.approx(sorted(2 * holm(p)))
    assert {str(d.setup) for d in both} == {"mini-medqa (test), mini students", "medqa (test), mini students"}


def test_the_sets_of_one_table_are_one_family_and_its_splits_are_not(root: Path) -> None:
    about = dict(table="2", paper_student="T5-base")
    sets = {"mini-strategyqa": "StrategyQA", "mini-openbookqa": "OpenbookQA"}
    rows = [
        row(drawn(rate, seeds=1), method, root, dataset=name, paper_dataset=paper, **about)
        for name, paper in sets.items() for method, rate in ((RERANKER, 0.61), (RD, 0.55))
    ]  # fmt: skip
    places = [dict(table="2", dataset=paper, students=["T5-base"]) for paper in sets.values()]
    asked = dict(id="a", claim="A.", made_in="2", groups=[dict(places=places, contrasts=[beats(RERANKER, RD)])])
    found = [d.comparison for d in decide([Claim.model_validate(asked)], rows)]
    p = [one.p for one in found if one and one.p is not None]
    assert [one.p_holm for one in found if one] == pytest.approx(holm(p)) and len(p) == 2 and p != holm(p)
    dev = [one.model_copy(update={"split": "dev"}) for one in rows[2:]]
    apart = [d.comparison for d in decide([Claim.model_validate(asked)], [*rows[:2], *dev])]
    assert [one.p_holm for one in apart if one] == p


def test_of_rows_that_fit_alike_the_one_with_most_seeds_counts() -> None:
    one, three = row(drawn(0.5, 1), BM25, seeds=[50.0]), row(drawn(0.5), BM25, seeds=[50.0, 51.0, 52.0])
    wanted = Selector(table="1", dataset="MedQA-USMLE", student="Flan-T5-base", method=BM25)
    assert find_row([one, three], wanted, setup_of(one)) == find_row([three, one], wanted, setup_of(one)) == three


def test_the_reading_chooses_rows_and_answers(root: Path) -> None:
    scored = [row(drawn(0.7), RERANKER, root), row(drawn(0.4), RD, root)]
    free = [one.model_copy(update={"settings": {"answers": "free"}, "value": 0.0}) for one in scored]
    assert [d.verdict for d in verdicts([*free, *scored], beats(RERANKER, RD))] == ["holds"]
    (as_written,) = verdicts([*scored, *free], beats(RERANKER, RD), reading="free")
    assert as_written.comparison and as_written.comparison.gap == 0, "no text names an option"
    (alone,) = verdicts(free, beats(RERANKER, RD))
    assert alone.rows == tuple(free), "where nothing was scored the text counts"
    votes = [one.model_copy(update={"decoding": "vote5"}) for one in scored]
    assert [d.verdict for d in verdicts(votes, beats(RERANKER, RD))] == ["not run"]


def test_an_ablations_row_is_found_by_the_papers_name_or_by_its_settings(root: Path) -> None:
    cell = ALL["more-bm25-passages-harm"].cells()[0]
    one, two = cell.selectors
    named = row(drawn(0.5), one.method, table="5")
    by_setting = row(drawn(0.5), BM25, table="5", settings={"k": 1, "l": 3})
    main = row(drawn(0.5), BM25, settings={"k": 1, "l": 3, "answers": "scored"})
    odd = row(drawn(0.5), BM25, settings={"k": 1, "l": 3, "world": 7})
    other = row(drawn(0.5), BM25, table="5", settings={"k": 2})
    setup = setup_of(main)
    assert find_row([other, odd, main, by_setting, named], one, setup) == named
    assert find_row([other, odd, main, by_setting], one, setup) == by_setting
    assert find_row([other, odd, main], one, setup) == main, "what two tables share is trained once"
    assert find_row([other], one, setup) is None and find_row([main], two, setup) is None
    wanted = ALL["kard-beats-rd"].cells()[-1].selectors[0]
    assert find_row([by_setting], wanted, setup) is None
    plain = Selector(table="1", dataset="MedQA-USMLE", student="Flan-T5-base", method=BM25)
    assert find_row([by_setting, other], plain, setup) is None, "an ablation's row is no row of the main table"
    assert find_row([main], plain, setup) == main


def test_share_and_dapt_are_the_usual_ones_where_a_row_does_not_say() -> None:
    main = row(drawn(0.5), "Fine-tuning", student="mini-t5-large", paper_student="Flan-T5-large")
    whole, quarter = (
        next(
            s for c in ALL["less-data-than-fine-tuning"].cells() for s in c.selectors if s.method == f"Fine-tuning, {p}"
        )
        for p in ("100% of train", "25% of train")
    )
    part = main.model_copy(update={"settings": {"share": 0.25}, "table": "Fig 4a"})
    assert find_row([part, main], whole, setup_of(main)) == main
    assert find_row([main, part], quarter, setup_of(main)) == part


def test_hits_are_decided_from_rankings(root: Path) -> None:
    def rankings(method: str, seeds: int, place: int) -> ResultRow:
        others = [f"p{i}" for i in range(9)]
        rows = [
            Ranking(question_id=f"q{q}", method=method, seed=seed, passages=(*others[:place], "t", *others[place:]),
                    truth=("t", "x") if q % 4 else ("x",))
            for seed in range(seeds) for q in range(80)
        ]  # fmt: skip
        write_jsonl(root / f"{method}.jsonl", rows)
        value = 75.0 if place < 3 else 0.0
        return row(np.ones((seeds, 80)), method, value=value, table="Fig 4c", student=None, paper_student="-",
                   metric="hits@3", decoding=None, settings={"kappa_star": 100},
                   predictions=f"{method}.jsonl")  # fmt: skip

    decisions = decide([ALL["reranker-finds-more"]], [rankings("BM25", 1, 4), rankings("Reranker", 3, 1)])
    by_metric = {d.cell.selectors[0].metric: d for d in decisions}
    assert by_metric["hits@3"].verdict == "holds" and by_metric["hits@1"].verdict == "not run"
    assert by_metric["hits@3"].comparison and by_metric["hits@3"].comparison.gap == pytest.approx(75)


@pytest.mark.parametrize(("ci95", "says"), [((40, 60), "holds"), ((5, 20), "does not hold"), ((20, 40), "undecided")])
def test_a_share_is_decided_by_its_rows_interval(ci95: tuple[float, float], says: str) -> None:
    part = row(drawn(0.5), "reranker fetched no relevant passage", table="failure analysis", student="mini-t5-base",
               paper_student="-", metric="share of failures", value=sum(ci95) / 2, ci95=ci95, decoding=None,
               settings={})  # fmt: skip
    (first,) = decide([ALL["failures-split"]], [part])
    assert first.verdict == says
    assert first.comparison and first.comparison.p is None and first.comparison.p_holm is None


# -- the table


def test_without_rows_the_paper_is_judged_and_nothing_is_claimed() -> None:
    blocks = claims_table([])
    assert len(blocks) == len(ALL)
    lines = [line for block in blocks for line in block.lines]
    assert {line[CLAIMS_HEADER.index("in the paper")] for line in lines} == {"yes", "no", "inside the noise"}
    assert {line[-1] for line in lines} == {"not run (no such row)"}
    assert {len(line) for line in lines} == {len(CLAIMS_HEADER)}


def test_paper_and_here_are_different_columns(root: Path) -> None:
    rows = [row(drawn(0.7), RERANKER, root), row(drawn(0.4), RD, root)]
    block = next(b for b in claims_table(rows) if b.title.startswith("kard-beats-rd "))
    line = next(dict(zip(CLAIMS_HEADER, line, strict=True)) for line in block.lines if not line[-1].startswith("not"))
    printed = [str(paper_row(s)) for s in ALL["kard-beats-rd"].cells()[0].selectors]
    assert line["paper"] == " / ".join(printed)
    assert line["here"] == f"{rows[0].value:.1f} / {rows[1].value:.1f}"
    assert line["n x seeds"] == "300 x 3" and line["verdict here"] == "holds" and int(line["n needed"]) > 0
    assert "1 holds" in block.title and tally(decide([ALL["kard-beats-rd"]], rows))["holds"] == 1


class Balance(HTMLParser):
    """Counts tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.faults += not self.open or self.open.pop() != tag


def test_text_and_html_have_every_comparison(root: Path) -> None:
    blocks = claim_blocks(decide(list(ALL.values()), [row(drawn(0.7), RERANKER, root), row(drawn(0.4), RD, root)]))
    count = sum(len(block.lines) for block in blocks)
    text, page, parser = claims_text(blocks), claims_html(blocks), Balance()
    parser.feed(page)
    assert not parser.open and not parser.faults and page.count("<tr>") == count + len(blocks)
    assert text.count("MedQA-USMLE, ") == page.count("MedQA-USMLE, ") > 0
    assert "KARD (Reranker) &gt; Reasoning Distillation" in page


def test_every_measured_number_is_a_link_on_the_page(root: Path) -> None:
    decisions = decide(list(ALL.values()), [row(drawn(0.7), RERANKER, root), row(drawn(0.4), RD, root)])
    page, parser = linked_claims_html(decisions, lambda one: f"#{one.method}"), Balance()
    parser.feed(page)
    measured = [d for d in decisions if d.comparison is not None]
    assert not parser.open and not parser.faults and measured
    assert page.count('<a href="#') == sum(len([one for one in d.rows if one]) for d in measured)
    assert re.sub("</?a[^>]*>", "", page) == claims_html(claim_blocks(decisions))


def test_the_summary_counts_every_comparison_once(root: Path) -> None:
    decisions = decide(list(ALL.values()), [row(drawn(0.7), RERANKER, root), row(drawn(0.4), RD, root)])
    page, parser = verdicts_html(decisions), Balance()
    parser.feed(page)
    assert not parser.open and not parser.faults and page.count("<tr>") == len(ALL) + 1
    counts = [int(cell) for cell in re.findall(r"<td>(\d+)</td>", page)]
    assert sum(counts) == len(decisions) and sum(tally(decisions).values()) == len(decisions)
