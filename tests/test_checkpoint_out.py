"""Checkpoints out: a folder that plain libraries load, that answers as the experiment did, whole or absent."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from sentence_transformers import CrossEncoder, MultiVectorEncoder
from tiny import smallest_runs, smallest_settings
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    T5Config,
    T5ForConditionalGeneration,
)

from kardlib import checkpoint_out, cli, experiment_data, readers
from kardlib.answering import Answerer
from kardlib.checkpoint_manifest import INDEX_PATH, MANIFEST, RERANKER, STUDENT, read_manifest
from kardlib.checkpoint_out import EXPORTABLE, _scaled_as_trained, export
from kardlib.checkpoint_record import measured
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.generate import Generator
from kardlib.index_build import build_index
from kardlib.index_folder import INDEX, PASSAGES
from kardlib.knowledge_base_builders import Origin, build_from_passages
from kardlib.methods import method
from kardlib.mini_strategyqa import MiniStrategyQA
from kardlib.model_card import student_card
from kardlib.passage_source import PassageList
from kardlib.presets import Settings, resolve
from kardlib.records import Prediction
from kardlib.reranker import LateInteraction
from kardlib.runs import RECORD, RunRecord, open_run, read_record
from kardlib.scoring import accuracy
from kardlib.tables import accuracy_row, hits_rows, keep_predictions

SIZES = {"train": 12, "dev": 4, "test": 6}
USUAL, BM25_ROW, RD = "KARD (Reranker)", "KARD (BM25)", "Reasoning Distillation"


@pytest.fixture(scope="module", autouse=True)
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs in a folder of their own, one process, a handful of questions."""
    with smallest_runs(tmp_path_factory.mktemp("runs"), SIZES):
        yield


@pytest.fixture(scope="module")
def settings(tiny_t5: str, tiny_bert: str) -> Settings:
    return smallest_settings(tiny_t5, tiny_bert)


class Watched:
    """Predictions of an experiment, with the prompts that they were made from."""

    def __init__(self, experiment: Experiment, name: str) -> None:
        self.experiment, self.name, self.prompts = experiment, name, []
        real = Generator.greedy

        def greedy(generator: Generator, prompts: list[str], forced: Any = None) -> list[str]:
            self.prompts = list(prompts)
            return real(generator, prompts, forced)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Generator, "greedy", greedy)
            self.predictions: list[Prediction] = experiment.predictions(name, 0)


CASES = {
    "reranker": (USUAL, {}),
    "cross-encoder, free": (USUAL, {"reranker_form": "cross-encoder", "answers": "free", "kappa_star": 10}),
    "causal": (BM25_ROW, {"student": "tiny_opt"}),
    "fine-tuned": ("Fine-tuning", {}),
    "yes or no": (RD, {"dataset": "mini-strategyqa"}),
}


@pytest.fixture(scope="module", params=CASES)
def case(
    request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Watched, Path]:
    """Predictions, and the folder that their student was exported to."""
    name, change = CASES[request.param]
    change = {n: request.getfixturevalue(v) if v == "tiny_opt" else v for n, v in change.items()}
    watched = Watched(Experiment(settings.model_copy(update=change)), name)
    folder = tmp_path_factory.mktemp("out") / "mine"
    export(watched.experiment, folder, name)
    return watched, folder


@pytest.fixture(scope="module")
def usual(settings: Settings) -> Experiment:
    """With the predictions of ``USUAL`` made, and the record of a run that reports them."""
    experiment = Experiment(settings)
    predictions = experiment.predictions(USUAL, 0)
    run = open_run("06_main_results", settings)
    rows = []
    for answers in ("scored", "free"):
        row = accuracy_row(experiment, method(USUAL), "greedy", answers, accuracy([predictions], answers == "free"))
        rows.append(row.model_copy(update={"predictions": keep_predictions([predictions], run.folder)}))
    run.finish(
        [*rows, *hits_rows(experiment, run.folder)],
        notes=[*experiment.data.notes, MiniStrategyQA.note, "a note of the run"],
    )
    return experiment


@pytest.fixture
def exported(usual: Experiment, tmp_path: Path) -> Path:
    export(usual, tmp_path / "mine")
    return tmp_path / "mine"


def forbid_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set is gone, and so are the artefacts."""

    def gone(*given: Any, **named: Any) -> Any:
        raise AssertionError("the data set was asked for")

    for module, name in ((readers, "read_dataset"), (readers, "shared_mini"), (experiment_data, "data_of")):
        monkeypatch.setattr(module, name, gone)
    monkeypatch.setenv("KARD_RUNS", "/nowhere")


# --- it answers as the experiment did ---------------------------------------------------------------------------------


def test_it_is_asked_in_the_words_of_the_experiment_and_answers_alike(
    case: tuple[Watched, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, folder = case
    questions = watched.experiment.data.test
    forbid_data(monkeypatch)
    answerer = Answerer(folder)
    written, cut = set(), []
    for question, prompt, stored in zip(questions, watched.prompts, watched.predictions, strict=True):
        options = () if answerer.manifest.options else question.options
        answer = answerer.ask(question.stem, options)
        assert answer.prompt.encode() == prompt.encode()
        assert tuple(found.id for found in answer.passages) == stored.passages
        assert (answer.rationale, answer.answer) == (stored.rationale, stored.answer)
        assert (answer.parsed, answer.chosen, answer.options) == (stored.parsed, stored.chosen, question.options)
        written.add(answer.written)
        cut.append(any(found.text not in prompt for found in answer.passages))
        assert all(f"[1] {found.text.split()[0]}" in prompt for found in answer.passages[:1])
    assert len(written) > 1, "a student that always writes the same proves little"
    assert any(cut) or not answerer.manifest.k, "the source limit is too large for this test"


def test_plain_transformers_loads_the_student_and_its_card_tells_how_to_ask_it(case: tuple[Watched, Path]) -> None:
    watched, folder = case
    answer = Answerer(folder).ask(watched.experiment.data.test[0].stem, watched.experiment.data.test[0].options)
    causal = "opt" in watched.experiment.settings.student
    kind = AutoModelForCausalLM if causal else AutoModelForSeq2SeqLM
    _, loading = kind.from_pretrained(folder / STUDENT, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    code = re.search(r"```python\n(.*?)```", (folder / STUDENT / "README.md").read_text(), re.DOTALL)
    said: list[str] = []
    exec(code[1], {"FOLDER": folder / STUDENT, "prompt": answer.prompt, "print": said.append})
    assert [text.strip() for text in said] == [answer.written]


@pytest.mark.parametrize("own_head", [True, False])
def test_an_exported_flan_t5_is_not_called_tied(own_head: bool, tmp_path: Path) -> None:
    """transformers 4 would tie and scale by what the configuration calls tied; 5 reads the same model either way."""
    torch.manual_seed(0)
    shape = dict(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0)
    config = T5Config(**shape, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    model = T5ForConditionalGeneration(config).eval()
    if own_head:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(50, 16))
    model.save_pretrained(tmp_path)
    _scaled_as_trained(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    assert told["scale_decoder_outputs"] is False and told["tie_word_embeddings"] is not own_head
    ids = torch.randint(2, 50, (2, 7))
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    outs = [one(input_ids=ids, decoder_input_ids=ids).logits for one in (model, loaded)]
    assert torch.equal(*outs)


def test_plain_sentence_transformers_loads_the_reranker_and_scores_the_same(case: tuple[Watched, Path]) -> None:
    watched, folder = case
    if watched.name != USUAL:
        assert not (folder / RERANKER).exists()
        return
    question = watched.experiment.data.test[0]
    found = Answerer(folder).ask(question.stem, question.options, k=8).passages
    query, texts = " ".join((question.stem, *question.options)), [passage.text for passage in found]
    if watched.experiment.settings.reranker_form == "cross-encoder":
        scores = CrossEncoder(str(folder / RERANKER)).predict([(query, text) for text in texts]).tolist()
        assert [texts[i] for i in sorted(range(8), key=lambda i: -scores[i])] == texts
    else:
        model = MultiVectorEncoder(str(folder / RERANKER))
        vectors = model.encode(texts, task="document")
        scores = LateInteraction.maxsim(model.encode([query], task="query")[0], vectors)
        assert scores == pytest.approx([passage.score for passage in found], rel=1e-5)
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)
    assert [p.bm25 for p in found] != sorted((p.bm25 for p in found), reverse=True), "the reranker changed nothing"


def test_the_option_that_counts_is_the_likeliest_or_the_one_named(case: tuple[Watched, Path]) -> None:
    watched, folder = case
    question = watched.experiment.data.test[0]
    answer = Answerer(folder).ask(question.stem, question.options)
    assert len(answer.scores) == len(question.options) and max(answer.scores) < 0
    likeliest = answer.scores.index(max(answer.scores))
    assert answer.chosen == (likeliest if watched.experiment.settings.answers == "scored" else answer.parsed)


def test_a_task_with_the_same_options_throughout_needs_none(case: tuple[Watched, Path]) -> None:
    watched, folder = case
    question = watched.experiment.data.test[0]
    answer = Answerer(folder).ask(question.stem)
    if watched.experiment.settings.dataset == "mini-strategyqa":
        assert answer.options == question.options and answer.chosen is not None
        other = Answerer(folder).ask(question.stem, ("right", "wrong"))
        assert any("yes and no" in note for note in other.notes)
        return
    assert answer.options == () and answer.scores == () and answer.chosen is None and answer.parsed is None
    assert "Options:" not in answer.prompt and answer.prompt.count(question.stem) == 1
    assert answer.prompt.endswith(f"{question.stem}\n{'Answer:' if watched.name == 'Fine-tuning' else 'Explanation:'}")
    assert any("no options" in note for note in answer.notes)


# --- what is in the folder --------------------------------------------------------------------------------------------


def test_the_manifest_tells_what_was_exported(usual: Experiment, exported: Path) -> None:
    manifest = read_manifest(exported)
    assert manifest.method == USUAL and manifest.seed == 0 and (manifest.k, manifest.kappa_star) == (3, 20)
    assert manifest.artefacts == {
        "student": usual.folder("student", training="KARD", seed=0).name,
        "reranker": usual.folder("reranker", seed=0).name,
    }
    assert set(usual.data.notes) <= set(manifest.notes) and manifest.options == ()
    names = {path.name for path in exported.iterdir()}
    assert names == {STUDENT, RERANKER, PASSAGES, INDEX, MANIFEST, "README.md"}
    assert cli.main(["index", "doctor", str(exported)]) == 0


def test_nothing_of_the_machine_and_no_training_question_goes_along(usual: Experiment, exported: Path) -> None:
    texts = [path.read_text() for path in exported.rglob("*") if path.suffix in (".md", ".json")]
    stems = [question.stem for question in (*usual.data.train, *usual.data.test)]
    for text in texts:
        assert str(usual.root.parent) not in text and str(Path(usual.settings.student).parent) not in text
        assert not any(stem in text for stem in stems)
    assert any(stem in (usual.reranker(0) / "README.md").read_text() for stem in stems), (
        "the trainer's card quotes some"
    )


def test_every_file_can_be_read_by_others(exported: Path) -> None:
    modes = {path.stat().st_mode & 0o444 for path in exported.rglob("*") if path.is_file()}
    assert modes == {(exported / MANIFEST).stat().st_mode & 0o444}


def card(folder: Path) -> ModelCard:
    return ModelCard.load(folder / "README.md")


def record_of(experiment: Experiment) -> tuple[Path, RunRecord]:
    path = next(experiment.root.parent.glob(f"mini/mini-medqa/06_main_results/*/{RECORD}"))
    return path, read_record(path)


def test_cards_say_what_the_record_says_and_no_more(usual: Experiment, exported: Path) -> None:
    _, record = record_of(usual)
    student, reranker = card(exported / STUDENT), card(exported / RERANKER)
    rows = {row.settings.get("answers", row.metric): row for row in record.results if row.method in (USUAL, "Reranker")}
    told = {tuple(r.metric_name.split(", ")): r.metric_value for r in student.data.eval_results}
    assert told == {
        ("accuracy", "percent", f"answers {how}"): round(rows[how].seeds[0], 2) for how in ("scored", "free")
    }
    assert {r.metric_type: r.metric_value for r in reranker.data.eval_results} == {
        f"hits@{k}": round(rows[f"hits@{k}"].value, 2) for k in (1, 3, 5, 10)
    }
    known = {
        f"{value:.1f}"
        for row in record.results
        for value in (row.value, row.sd or 0.0, *row.seeds, *(row.ci95 or ()))
    }  # fmt: skip
    for one in (student, reranker, ModelCard.load(exported / "README.md", ignore_metadata_errors=True)):
        table = "\n".join(line for line in one.text.splitlines() if line.startswith("|"))
        numbers = re.findall(r"(?<![\w.])\d+\.\d+", table)
        assert numbers and set(numbers) <= known
        assert "a note of the run" in one.text and "mini-MedQA is generated" in one.text
        assert "mini-StrategyQA" not in one.text
        assert f"| {SIZES['test']} |" in table
    assert student.data.library_name == "transformers" and reranker.data.library_name == "sentence-transformers"
    assert student.data.base_model is None and student.data.license == "unknown", "a folder's licence is not known"


def test_a_record_of_another_student_is_not_taken(usual: Experiment, tmp_path: Path) -> None:
    path, record = record_of(usual)
    found = measured(usual, method(USUAL), 0)
    assert found and found.record == record and len(found.accuracy) == 2 and len(found.hits) == 8
    file = path.parent / "predictions" / "kard-reranker-greedy.jsonl"
    kept = file.read_text()
    try:
        rows = [json.loads(line) for line in kept.splitlines()]
        rows[0]["rationale"] += " another"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert measured(usual, method(USUAL), 0) is None
        export(usual, tmp_path / "mine")
    finally:
        file.write_text(kept)
    one = card(tmp_path / "mine" / STUDENT)
    assert "Not measured" in one.text and one.data.eval_results is None
    other = usual.with_settings(source_tokens=111)
    assert measured(other, method(USUAL), 0) is None and measured(usual, method(BM25_ROW), 0) is None


# --- whole or not at all ----------------------------------------------------------------------------------------------


def test_a_folder_is_whole_or_absent(usual: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "mine"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_out, "write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            export(usual, out)
        assert not out.exists()
        with pytest.MonkeyPatch.context() as undo:
            undo.setattr(checkpoint_out, "write_manifest", write_real)
            export(usual, out)
        before = read_manifest(out)
        with pytest.raises(KeyboardInterrupt):
            export(usual, out, replace=True)
        assert read_manifest(out) == before
    with pytest.raises(KardError, match="it is there already"):
        export(usual, out)
    export(usual, out, BM25_ROW, replace=True)
    assert read_manifest(out).method == BM25_ROW and not (out / RERANKER).exists()


write_real = checkpoint_out.write_manifest


def test_only_what_it_has_written_is_replaced(usual: Experiment, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("dear")
    with pytest.raises(KardError, match="letters: it has no manifest"):
        export(usual, tmp_path / "letters", replace=True)
    assert (tmp_path / "letters" / "one.txt").read_text() == "dear"


# --- an index beside it -----------------------------------------------------------------------------------------------


def test_an_index_stays_where_it_is_or_comes_along(usual: Experiment, tmp_path: Path) -> None:
    base = build_from_passages(
        tmp_path / "base" / PASSAGES, PassageList(usual.data.passages), Origin(name="b", source="t"), progress=False
    )
    build_index(base, tmp_path / "base" / INDEX, progress=False)
    over = Experiment(usual.settings.model_copy(update={"index": str(tmp_path / "base")}))
    over.student("KARD", 0)
    question = over.data.test[0]
    export(over, tmp_path / "pointing", BM25_ROW)
    export(over, tmp_path / "whole", BM25_ROW, copy_index=True)
    assert not (tmp_path / "pointing" / INDEX).exists() and not (tmp_path / "whole" / INDEX_PATH).exists()
    first, other = (Answerer(tmp_path / name).ask(question.stem, question.options) for name in ("pointing", "whole"))
    assert first.passages == other.passages and first.written == other.written
    assert str(tmp_path) not in (tmp_path / "pointing" / MANIFEST).read_text()

    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(KardError, match="base"):
        Answerer(tmp_path / "pointing").ask(question.stem, question.options)
    assert Answerer(tmp_path / "pointing", tmp_path / "moved").ask(question.stem, question.options) == first
    (tmp_path / "pointing" / INDEX_PATH).unlink()
    with pytest.raises(KardError, match="--index FOLDER"):
        Answerer(tmp_path / "pointing").ask(question.stem, question.options)
    fewer = build_from_passages(
        tmp_path / "few" / PASSAGES, PassageList(usual.data.passages[:9]), Origin(name="b", source="t"), progress=False
    )
    build_index(fewer, tmp_path / "few" / INDEX, progress=False)
    with pytest.raises(KardError, match="not the index base"):
        Answerer(tmp_path / "pointing", tmp_path / "few").ask(question.stem, question.options)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, why",
    [
        ("KARD (Silver Knowledge, oracle)", "a rationale of the test question"),
        ("CoT from teacher (oracle)", "a rationale of the test question"),
        ("Few-shot", "nothing is trained"),
        ("RAG + Reasoning Distillation", "no folder of its own"),
        ("KARD (Rerankers)", "did you mean"),
    ],
)
def test_methods_that_cannot_be_asked_are_one_line(usual: Experiment, tmp_path: Path, name: str, why: str) -> None:
    assert name not in EXPORTABLE
    with pytest.raises(KardError, match=re.escape(why)):
        export(usual, tmp_path / "mine", name)
    assert not (tmp_path / "mine").exists()


def broken(exported: Path, part: str, name: str) -> Path:
    (exported / part / name).write_bytes(b"anything")
    return exported


@pytest.mark.parametrize("part", [STUDENT, RERANKER])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling.py", "weights.pkl"])
def test_a_folder_with_more_than_data_is_refused_before_anything_is_loaded(
    exported: Path, part: str, name: str
) -> None:
    with pytest.raises(KardError, match=f"{part}: {re.escape(name)} does not belong there"):
        Answerer(broken(exported, part, name))


def test_a_folder_that_is_not_whole_is_one_line(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(KardError, match="kard export makes such a folder"):
        Answerer(tmp_path)
    manifest = json.loads((exported / MANIFEST).read_text())
    for change, told in (
        ({"prompt": manifest["prompt"] + " "}, "prompts are not those its student learned"),
        ({"format": 2}, "format"),
        ({"k": "many"}, "field k"),
    ):
        (exported / MANIFEST).write_text(json.dumps(manifest | change))
        with pytest.raises(KardError, match=told) as caught:
            Answerer(exported)
        assert "\n" not in str(caught.value)
    (exported / MANIFEST).write_text(json.dumps(manifest))
    shutil.rmtree(exported / INDEX)
    answerer = Answerer(exported)
    with pytest.raises(KardError, match="index"):
        answerer.ask("What?", ("a", "b"))
    shutil.rmtree(exported / RERANKER)
    with pytest.raises(KardError, match="reranker: no such folder"):
        Answerer(exported)


def test_questions_that_cannot_be_asked_are_one_line(usual: Experiment, exported: Path) -> None:
    answerer, stem = Answerer(exported), usual.data.test[0].stem
    for text, options, k, told in (
        (" ", ("a", "b"), 0, "stem"),
        (stem, ("a",), 0, "options"),
        (stem, ("a", "a"), 0, "two of them are the same"),
        (stem, tuple("abcdefghijk"), 0, "options"),
        ("Xyzzy?", ("plugh", "frotz"), 0, "none of its words"),
        (stem, ("a", "b"), 21, "20 at most"),
        (stem, ("a", "b"), -1, "1 or more"),
    ):
        with pytest.raises(KardError, match=told) as caught:
            answerer.ask(text, options, k)
        assert "\n" not in str(caught.value)
    assert len(answerer.ask(stem, ("a", "b"), 5).passages) == 5


# --- as one types it --------------------------------------------------------------------------------------------------


def typed(settings: Settings) -> list[str]:
    """Options of a command that come to the settings."""
    given = settings.model_dump(mode="json")
    names = (
        "size", "student", "encoder", "filter", "l", "k", "kappa_star", "kappa1", "kappa2", "student_epochs",
        "reranker_epochs", "seeds",
    )  # fmt: skip
    return [word for name in names for word in ("-p", f"{name}={given[name]}")]


def test_what_is_not_trained_is_one_line_with_the_command_that_trains_it(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", "mini-medqa", "--out", str(tmp_path / "mine"), "-p", "size=smoke", "-p", "k=2"]) == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told and "student KARD 0: it is not trained" in told
    assert told.endswith("kard run 06 -p dataset=mini-medqa -p size=smoke -p k=2 trains it")
    assert not (tmp_path / "mine").exists()


def test_a_run_is_exported_by_its_record_and_asked(
    usual: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = record_of(usual)
    models = ["-p", f"student={usual.settings.student}", "-p", f"encoder={usual.settings.encoder}"]
    out = str(tmp_path / "my own")
    assert cli.main(["export", str(path.parent), "--out", out]) == 2
    assert "student tiny-t5 is a folder; -p student=FOLDER names it" in capsys.readouterr().err
    assert cli.main(["export", str(path.parent), "--out", out, *models]) == 0
    assert f"kard ask '{out}' " in capsys.readouterr().out

    question, stored = usual.data.test[1], usual.predictions(USUAL, 0)[1]
    forbid_data(monkeypatch)
    words = ["ask", out, question.stem, *(word for option in question.options for word in ("--option", option))]
    assert cli.main([*words, "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["chosen"], answer["rationale"]) == (stored.chosen, stored.rationale)
    assert [passage["id"] for passage in answer["passages"]] == list(stored.passages)
    assert cli.main(words) == 0
    page = capsys.readouterr().out
    sections = ["Passages", "Answer", "Options, mean log-likelihood of a token in nats", "Notes"]
    assert [line for line in page.splitlines() if line in sections] == sections
    assert all(f"] {i}  (score" in page for i in stored.passages)
    assert all(f"{score:.3f}" in page for score in answer["scores"])
    assert cli.main(["ask", str(tmp_path), "What?"]) == 2  # no folder of the kind
    assert "kard export makes such a folder" in capsys.readouterr().err


NEEDLESS = ("experiment", "experiment_data", "readers", "mini", "teacher", "own_data", "keys", "tables")


@pytest.fixture
def kit_without_experiment() -> Iterator[Any]:
    """The command line of a kit that is imported anew and has no module of ``NEEDLESS``."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "kardlib"]:
            patch.delitem(sys.modules, name)
        for name in NEEDLESS:
            patch.setitem(sys.modules, f"kardlib.{name}", None)
        before = set(sys.modules)
        yield importlib.import_module("kardlib.cli").main
        for name in set(sys.modules) - before:
            del sys.modules[name]


def test_asking_needs_nothing_of_the_experiment(
    exported: Path, usual: Experiment, kit_without_experiment: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    question, stored = usual.data.test[0], usual.predictions(USUAL, 0)[0]
    words = ["ask", str(exported), question.stem, "--format", "json"]
    assert kit_without_experiment([*words, *(w for option in question.options for w in ("--option", option))]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["chosen"], answer["rationale"]) == (stored.chosen, stored.rationale)
    with pytest.raises(ImportError, match="experiment"):
        kit_without_experiment(["export", "mini-medqa", "--out", str(exported.parent / "other")])


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_model_of_ones_own_questions_and_passages(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gases = ["neon", "argon", "helium", "oxygen", "xenon", "krypton", "radon", "ozone", "methane", "steam"]
    data = tmp_path / "data"
    data.mkdir()
    asked = [
        {"id": f"q{i}", "question": f"Which gas is in tank {i}?", "options": [gas, "none"], "answer": gas}
        for i, gas in enumerate(gases)
    ]
    write_rows(data / "train.jsonl", asked[:8])
    write_rows(data / "test.jsonl", asked[8:])
    write_rows(data / "passages.jsonl", [{"id": f"p{i}", "text": f"Tank {i} holds {g}."} for i, g in enumerate(gases)])
    told = [{"question_id": f"q{i}", "text": f"Tank {i} holds {gas}."} for i, gas in enumerate(gases)]
    write_rows(data / "rationales.jsonl", told)
    given = {
        "preset": "laptop", "dataset": "own", "data_dir": str(data), "student": settings.student,
        "encoder": settings.encoder, "student_epochs": "1", "kappa1": "2", "kappa2": "3", "kappa_star": "6",
    }  # fmt: skip
    words = ["--out", str(tmp_path / "mine"), *(w for name, value in given.items() for w in ("-p", f"{name}={value}"))]
    assert cli.main(["export", *words]) == 2
    assert f"kard run 06 -p preset=laptop -p dataset=own -p data_dir={data}" in capsys.readouterr().err
    typed = {name: int(value) if value.isdecimal() else value for name, value in given.items()}
    experiment = Experiment(resolve(typed.pop("preset"), **typed))
    experiment.student("KARD", 0)
    experiment.reranker(0)
    assert cli.main(["export", *words]) == 0

    forbid_data(monkeypatch)
    shutil.rmtree(data)
    capsys.readouterr()
    assert (
        cli.main(["ask", str(tmp_path / "mine"), "Which gas is in tank 9?", "--option", "steam", "--option", "none"])
        == 0
    )
    page = capsys.readouterr().out
    assert "holds steam." in page and "the rationales are the user's own" in page
    one = card(tmp_path / "mine" / STUDENT)
    assert "Not measured" in one.text and "as private as these are" in one.text
    assert (one.data.license, one.data.language, one.data.eval_results) == ("unknown", None, None)
    assert not any(str(folder) in one.text for folder in (tmp_path, Path(settings.student).parent))
    assert "never seen ordinary English" not in page, "that is said of the shipped students alone"


def test_a_chat_students_card_tells_how_to_talk_to_it(tiny_opt: str, usual: Experiment) -> None:
    origin = checkpoint_out._origin(usual, method(USUAL), 0, checkpoint_out._manifest(usual, method(USUAL), 0, False))
    code = re.search(r"```python\n(.*?)```", student_card(replace(origin, seq2seq=False, chat=True)), re.DOTALL)
    tokenizer = AutoTokenizer.from_pretrained(tiny_opt)
    tokenizer.chat_template = "user: {{ messages[0].content }}{% if add_generation_prompt %} you:{% endif %}"
    model = AutoModelForCausalLM.from_pretrained(tiny_opt)
    seen: list[list[int]] = []
    kinds = {"AutoTokenizer": tokenizer, "AutoModelForCausalLM": model}
    for kind in kinds.values():
        kind.from_pretrained = lambda folder, kind=kind: kind
    real = model.generate
    model.generate = lambda **given: seen.append(given["input_ids"][0].tolist()) or real(**given)
    lines = code[1].splitlines()
    assert lines[0] == "from transformers import AutoTokenizer, AutoModelForCausalLM"
    exec("\n".join(lines[1:]), {**kinds, "FOLDER": "", "prompt": "what is it", "print": lambda text: None})
    assert seen == [tokenizer("user: what is it you:", add_special_tokens=False).input_ids]
