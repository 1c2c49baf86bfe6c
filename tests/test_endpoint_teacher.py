"""A teacher behind an endpoint from the command line to the experiment, with a set of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fault_server import Served, serving

from kardlib import notebook_studies
from kardlib.candidates import rationale_key
from kardlib.cli import main
from kardlib.demo import with_cells
from kardlib.endpoint_teacher import is_endpoint, open_store, store_path
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.leakage import query_findings
from kardlib.methods import TRAININGS, method
from kardlib.notebook_params import Plan
from kardlib.predict import test_passages
from kardlib.presets import Settings, resolve
from kardlib.prompts import query_of
from kardlib.records import Rationale
from kardlib.studies import Cell
from kardlib.teacher_entries import TEACHERS_FILE, teacher_entry, teachers

TRAIN, TEST = 12, 5
KARD = "KARD (BM25)"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small set without rationales; teachers and stores in folders of the test's."""
    folder = tmp_path / "own"
    folder.mkdir()
    for split, count in (("train", TRAIN), ("dev", 2), ("test", TEST)):
        rows = [
            {
                "id": f"{split}{i}",
                "question": f"Which of the two is number {i} of {split}?",
                "options": ["this", "that"],
                "answer": i % 2,
            }
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    passages = [{"id": f"p{i}", "text": f"Number {i} is something."} for i in range(20)]
    (folder / "passages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in passages))
    monkeypatch.setenv("KARD_TEACHER_STORE", str(tmp_path / "stores"))
    monkeypatch.setenv("KARD_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KARD_TEACHERS", str(tmp_path / "teachers.toml"))
    return folder


def teacher_at(url: str, model: str = "tiny", note: str = "") -> None:
    import os

    Path(os.environ["KARD_TEACHERS"]).write_text(
        f'[mine]\nbase_url = "{url}"\nmodel = "{model}"\nnote = "{note}"\n[mine.limits]\nfirst_wait = 0.01\n'
    )


def kard(action: str, own: Path, *more: str) -> int:
    return main(["teacher", action, *more, "--preset", "laptop", "--dataset", "own", "-p", f"data_dir={own}",
                 "-p", "teacher=mine"])  # fmt: skip


def settings(own: Path, **more: object) -> Settings:
    return resolve("laptop", dataset="own", data_dir=str(own), teacher="mine", **more)


def asked(server: Served) -> int:
    return len(server.log())


def test_from_the_price_to_the_rationales(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with serving() as server:
        teacher_at(server.url)
        with pytest.raises(KardError, match="'kard teacher plan' tells the price"):
            Experiment(settings(own, l=2)).rationales()
        assert kard("plan", own, "-p", "l=2") == 0 and asked(server) == 0
        assert f"{2 * TRAIN} samples of {TRAIN} prompts: 0 stored" in capsys.readouterr().out
        assert kard("run", own, "-p", "l=2") == 0
        first = Experiment(settings(own, l=2)).rationales()
        assert [(r.question_id, r.index, r.saw_gold) for r in first] == [
            (f"train{i}", j, True) for i in range(TRAIN) for j in range(2)
        ]
        oracle = Experiment(settings(own, l=2)).test_rationale()
        assert set(oracle) == {f"test{i}" for i in range(TEST)} | {"dev0", "dev1"}
        paid = asked(server)
        assert kard("run", own, "-p", "l=2") == 0 and asked(server) == paid, "nothing is paid twice"
        assert kard("run", own, "-p", "l=5", "--part", "rationale") == 0
        assert asked(server) == paid + TRAIN
        more = Experiment(settings(own, l=5)).rationales()
        assert len(more) == 5 * TRAIN and [r for r in more if r.index < 2] == first
        capsys.readouterr()
        assert kard("status", own, "-p", "l=5") == 0
        assert ["rationale", "60", "60", "0", "0"] in [line.split() for line in capsys.readouterr().out.splitlines()]
        assert kard("report", own, "-p", "l=5") == 0 and "questions with nothing kept" in capsys.readouterr().out


def test_a_question_of_which_nothing_was_told_is_a_miss_and_no_crash(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server:
        teacher_at(server.url)
        assert kard("run", own) == 0
    experiment, real, gone = Experiment(settings(own)), Experiment.rationales, set()

    def without(self: Experiment, show_gold: bool = True) -> list[Rationale]:
        told = [r for r in real(self, show_gold) if r.question_id not in gone]
        return [r.model_copy(update={"text": "It is number something."}) for r in told]

    monkeypatch.setattr(Experiment, "rationales", without)
    assert experiment.silent() == set() and not any("no usable" in note for note in experiment.data.notes)
    gone |= {"test1", "dev0"}
    told = experiment.test_rationale()
    assert experiment.silent() == {"test1", "dev0"} and told["test1"].text == query_of(experiment.data.test[1])
    experiment.test_rationale()
    assert sum("no usable rationale of 2 of 7 dev and test questions" in note for note in experiment.data.notes) == 1
    truth = experiment.truth()
    assert truth["test1"] == () and all(truth[q.id] for q in experiment.data.test if q.id != "test1")
    passages = test_passages(experiment, method("KARD (Silver Knowledge, oracle)"), 0, "test")
    assert len(passages["test1"]) == experiment.settings.k
    holds = [f for f in query_findings(experiment, [method("KARD (BM25)")]) if "holds the test rationale" in f.check]
    assert [f.found for f in holds] == [0], "a question's own words are no leak"


def test_a_rationale_that_finds_no_passage_is_left_out(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        teacher_at(server.url)
        assert kard("run", own, "-p", "l=2") == 0
    experiment, real, strange = Experiment(settings(own, l=2)), Experiment.rationales, {"train0#1", "test1#0"}

    def told(self: Experiment, show_gold: bool = True) -> list[Rationale]:
        known = [r.model_copy(update={"text": "It is number something."}) for r in real(self, show_gold)]
        return [r.model_copy(update={"text": "Xyzzy, frotz!"}) if rationale_key(r) in strange else r for r in known]

    monkeypatch.setattr(Experiment, "rationales", told)
    kept = [rationale_key(r) for r in experiment.kept_rationales()]
    assert kept == [f"train{i}#{j}" for i in range(TRAIN) for j in range(2) if (i, j) != (0, 1)]
    assert [pool.key for pool in experiment.pools()] == kept
    assert all(len(experiment.training_pairs(t)) == len(kept) for t in TRAININGS.values() if t.target == "rationale")
    assert experiment.silent() == {"test1"} and experiment.truth()["test1"] == ()
    notes = [note for note in experiment.data.notes if "no word of the knowledge base" in note]
    assert notes == [f"teacher mine: 1 of {2 * TRAIN} rationales to learn from have no word of the knowledge base "
                     "and are left out"]  # fmt: skip
    nothing = [r for r in told(experiment) if rationale_key(r) in strange]
    monkeypatch.setattr(Experiment, "rationales", lambda *_: nothing)
    with pytest.raises(KardError, match="no rationale has a word of the knowledge base"):
        experiment.kept_rationales()


def test_all_leaves_out_tables_whose_rationales_have_not_been_asked_for(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cells(table: str, given: Settings) -> list[Cell]:
        counts = (1, 10) if table == "3" else (1,)
        return [Cell(table, method(KARD).name, KARD, given.model_copy(update={"l": count})) for count in counts]

    monkeypatch.setattr(notebook_studies, "cells_at_hand", cells)
    monkeypatch.setattr("kardlib.demo.lacking", lambda *_: [])
    told: list[str] = []
    with serving() as server:
        teacher_at(server.url)
        plans = [
            Plan(Path(f"{name}.ipynb"), {}, settings(own)) for name in ("06_main", "07_rationales", "08_retrieval")
        ]
        assert kard("run", own) == 0
        assert with_cells(plans, told.append) == [plans[0], plans[2]]
        assert len(told) == 1 and "07_rationales, l = 10" in told[0] and "have not been asked for" in told[0]
        assert kard("run", own, "-p", "l=10", "--part", "rationale") == 0
        assert with_cells(plans, told.append) == plans and len(told) == 1


def test_a_new_port_bills_nothing_anew_and_another_model_does(own: Path) -> None:
    with serving() as server:
        teacher_at(server.url)
        assert kard("run", own) == 0
        before = Experiment(settings(own)).key("rationales")
    with serving() as other:
        teacher_at(other.url)
        assert kard("run", own) == 0 and asked(other) == 0
        assert Experiment(settings(own)).key("rationales") == before
        teacher_at(other.url, "larger")
        assert Experiment(settings(own)).key("rationales") != before
        assert kard("run", own) == 0 and asked(other) == TRAIN + TEST + 2


def test_out_and_in_again(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        teacher_at(server.url)
        assert kard("run", own, "-p", "l=2") == 0
        paid, told = asked(server), Experiment(settings(own, l=2)).rationales()
        assert kard("export", own, str(tmp_path / "out.jsonl")) == 0
        monkeypatch.setenv("KARD_TEACHER_STORE", str(tmp_path / "elsewhere"))
        assert kard("import", own, str(tmp_path / "out.jsonl")) == 0
        assert kard("run", own, "-p", "l=2") == 0 and asked(server) == paid
        assert Experiment(settings(own, l=2)).rationales() == told
        assert kard("export", own, str(tmp_path / "again.jsonl")) == 0
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


def test_a_damaged_store_is_told_and_exported(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with serving() as server:
        teacher_at(server.url)
        assert kard("run", own, "-p", "l=5") == 0
    file = store_path("mine")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 3 // 4])
    assert kard("status", own) == 2 and "damaged; export still reads" in capsys.readouterr().err
    assert kard("export", own, str(tmp_path / "left.jsonl")) == 0
    lines = (tmp_path / "left.jsonl").read_text().splitlines()
    assert 0 < len(lines) < 5 * TRAIN + TEST + 2


def test_a_run_above_the_budget_needs_a_yes(own: Path, capsys: pytest.CaptureFixture) -> None:
    from kardlib.prices import read_prices
    from kardlib.readers import read_dataset
    from kardlib.teacher_command import most, part_of, plan_of, run

    Path(str(own.parent / "teachers.toml")).write_text(
        '[mine]\nbase_url = "http://teacher.invalid/v1"\nmodel = "gpt-3.5-turbo"\n'
    )
    with pytest.raises(KardError, match="the budget is .0.00; --yes agrees"):
        run(settings(own), budget=0.0)
    with pytest.raises(KardError, match="nothing was asked"):
        run(settings(own), budget=0.0, ask=lambda question: "n")
    data = read_dataset(settings(own))
    part = part_of(settings(own), "rationale", data)
    with open_store("mine") as store:
        cost = most(plan_of(part, store, read_prices()), part.entry)
    assert cost is not None and cost > 0
    Path(str(own.parent / "teachers.toml")).write_text(
        '[mine]\nbase_url = "http://teacher.invalid/v1"\nmodel = "new"\n'
    )
    with pytest.raises(KardError, match="its price is not known"):
        run(settings(own), budget=1e9)


def test_a_teacher_as_the_filters_reader(own: Path, capsys: pytest.CaptureFixture) -> None:
    with serving() as server:
        teacher_at(server.url)
        chosen = settings(own, filter=True).model_copy(update={"reader": "mine"})
        with pytest.raises(KardError, match="have not been asked for"):
            Experiment(chosen).verdicts()
        from kardlib.teacher_command import run

        run(chosen)
        verdicts = Experiment(chosen).verdicts()
        assert len(verdicts.verdicts) == TRAIN
        paid = asked(server)
        run(chosen)
        assert asked(server) == paid


def test_entries_of_the_kit_are_read_and_faults_are_named(own: Path, tmp_path: Path) -> None:
    file = tmp_path / "teachers.toml"
    file.write_text('[mine]\nmodel = "m"\n')
    assert {"openai", "local", "mine"} <= set(teachers()) and teacher_entry("local").at_home
    assert not is_endpoint("scripted") and not is_endpoint("mini-t5-base") and is_endpoint("mine")
    for text, told in (
        ('[mine]\nmodel = "m"\nkey = "secret"\n', r"teachers.toml: \[mine\]: field key"),
        ('[scripted]\nmodel = "m"\n', "scripted: an entry begins with"),
        ("[mine\n", "not TOML"),
        ("[mine]\n", "field model"),
    ):
        file.write_text(text)
        with pytest.raises(KardError, match=told):
            teachers()
    assert TEACHERS_FILE.is_file()


def test_teachers_that_are_never_asked_say_so(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "teachers.toml").write_text("")
    assert main(["teacher", "plan"]) == 2
    assert "teacher 'scripted': it is none of data/teachers.toml" in capsys.readouterr().err
    assert main(["teacher", "export", "-p", "teacher=openai"]) == 2 and "a path is missing" in capsys.readouterr().err


def test_batches_and_online_answers_in_one_store(own: Path, capsys: pytest.CaptureFixture) -> None:
    with serving() as server:
        teacher_at(server.url)
        assert kard("run", own, "-p", "l=1") == 0
        paid = asked(server)
        assert kard("batch", own, "-p", "l=3", "--yes") == 0
        assert kard("run", own, "-p", "l=3") == 0 and asked(server) == paid, (
            "what a batch is to bring is not asked online"
        )
        assert kard("collect", own, "-p", "l=3", "--wait", "0.05") == 0
        told = Experiment(settings(own, l=3)).rationales()
        assert len(told) == 3 * TRAIN
        assert kard("run", own, "-p", "l=3") == 0 and asked(server) == paid
        capsys.readouterr()
        assert kard("status", own, "-p", "l=3") == 0 and f"batch {2 * TRAIN}" in capsys.readouterr().out


def test_a_teachers_note_stands_under_every_table_that_rests_on_it(own: Path) -> None:
    teacher_at("http://localhost:9")
    assert not any("plumbing" in note for note in Experiment(settings(own)).data.notes)
    teacher_at("http://localhost:9", note="random weights, to see the plumbing hold")
    assert "teacher mine: random weights, to see the plumbing hold" in Experiment(settings(own)).data.notes
