"""DAPT: spans that rebuild their text, corpora that are what they say, training that a kill does not change."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from tiny import Killed, kill_training_at, same_weights, watch_training, weights

from kardlib import dapt
from kardlib.dapt import adapt, corpus, read_texts, sentinel_ids, span_corruption
from kardlib.dataset import DataSet
from kardlib.errors import KardError
from kardlib.mini import MiniSet
from kardlib.mini_tokenizer import make_tokenizer, vocabulary
from kardlib.models import load_student, load_tokenizer
from kardlib.names import KINDS, endings, is_name
from kardlib.related import related_texts
from kardlib.student import Hyperparameters, Pair, collator, train_student

HYPER = Hyperparameters(lr=2e-3, epochs=2, batch=4, source_tokens=200, target_tokens=48)
MARKS = list(range(1000, 1100))
LENGTHS = (*range(1, 60), 128, 319, 512)


@pytest.fixture(params=["seq2seq", "causal"])
def base(request: pytest.FixtureRequest, tiny_t5: str, tiny_opt: str) -> str:
    return tiny_t5 if request.param == "seq2seq" else tiny_opt


@pytest.fixture(scope="module")
def real(mini: MiniSet) -> DataSet:
    """A set that was not made by the kit."""
    questions = mini.splits
    return DataSet("own", "", questions["train"], questions["dev"], questions["test"], "test", mini.passages)


def rebuilt(source: list[int], target: list[int], marks: list[int]) -> list[int]:
    """The text: each sentinel of the input replaced by what the target tells behind it."""
    told: dict[int, list[int]] = {}
    for token in target:
        if token in marks:
            told[token] = []
            last = token
        else:
            told[last].append(token)
    return [token for mark in source for token in (told[mark] if mark in marks else [mark])]


# --- span corruption --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density, mean_span", [(0.15, 3.0), (0.5, 1.0), (0.3, 8.0), (0.99, 2.0)])
def test_input_and_target_together_are_the_text(density: float, mean_span: float) -> None:
    rng = random.Random(0)
    for length in LENGTHS:
        ids = [rng.randrange(500) for _ in range(length)]
        marks = list(range(1000, 1300))
        source, target = span_corruption(ids, rng, marks, density, mean_span)
        assert rebuilt(source, target, marks) == ids
        kept = [token for token in source if token not in marks]
        assert len(kept) + len([token for token in target if token not in marks]) == length


def test_sentinels_are_in_order_and_the_last_one_ends_the_target() -> None:
    rng = random.Random(1)
    for length in LENGTHS:
        source, target = span_corruption(range(length), rng, MARKS)
        spans = [token for token in source if token in MARKS]
        assert spans == MARKS[: len(spans)] and spans
        assert [token for token in target if token in MARKS] == MARKS[: len(spans) + 1]
        assert target[0] == MARKS[0] and target[-1] == MARKS[len(spans)]
        assert not any(a in MARKS and b in MARKS for a, b in zip(source, source[1:], strict=False)), "spans touch"
        assert not any(a in MARKS and b in MARKS for a, b in zip(target, target[1:], strict=False)), "a span is empty"


def test_the_share_of_hidden_tokens_and_the_mean_span_are_as_asked() -> None:
    rng = random.Random(2)
    for length in LENGTHS:
        source, target = span_corruption(range(length), rng, MARKS)
        hidden = sum(token not in MARKS for token in target)
        assert abs(hidden - 0.15 * length) <= 0.5 or hidden == 1
        assert hidden < length or length == 1
        spans = sum(token in MARKS for token in source)
        assert abs(spans - hidden / 3) <= 0.5 or spans == 1


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_shortest_texts_lose_one_token_each_place_being_as_likely(length: int) -> None:
    rng, places = random.Random(3), Counter()
    for _ in range(600):
        source, target = span_corruption(range(length), rng, MARKS)
        assert len(source) == length and len(target) == 3
        places[source.index(MARKS[0])] += 1
    assert set(places) == set(range(length)) and min(places.values()) > 600 / length * 0.7


def test_a_passage_with_a_single_span_loses_any_of_its_tokens() -> None:
    rng, hidden = random.Random(4), Counter()
    for _ in range(3000):
        hidden.update(token for token in span_corruption(range(16), rng, MARKS)[1] if token not in MARKS)
    assert set(hidden) == set(range(16))
    inner = [hidden[i] for i in range(1, 15)]
    assert max(inner) < 1.4 * min(inner), "no place is preferred"
    assert hidden[15] < 1.4 * min(inner) and hidden[0] < 1.4 * min(inner)


def test_the_same_generator_gives_the_same_spans_and_goes_on_to_others() -> None:
    rng = random.Random(5)
    first, second = span_corruption(range(50), rng, MARKS), span_corruption(range(50), rng, MARKS)
    assert first == span_corruption(range(50), random.Random(5), MARKS) != second


def test_nothing_to_hide_and_too_few_sentinels_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        span_corruption([], random.Random(0), MARKS)
    with pytest.raises(ValueError, match="26 spans need 27 sentinels, and there are 26"):
        span_corruption(range(512), random.Random(0), MARKS[:26])
    span_corruption(range(512), random.Random(0), MARKS[:27])


# --- sentinels --------------------------------------------------------------------------------------------------------


def test_t5s_own_sentinels_are_taken_by_their_number() -> None:
    tokenizer = make_tokenizer("seq2seq")
    tokenizer.add_tokens([f"<extra_id_{i}>" for i in reversed(range(100))], special_tokens=True)
    assert tokenizer.convert_ids_to_tokens(sentinel_ids(tokenizer, [])) == [f"<extra_id_{i}>" for i in range(100)]


def test_the_shipped_tokenizers_sentinels_are_in_no_text(mini: MiniSet) -> None:
    tokenizer = make_tokenizer("seq2seq")
    texts = [*corpus(mini, "knowledge base"), *corpus(mini, "related")]
    parts = tokenizer(texts, add_special_tokens=False).input_ids
    marks = sentinel_ids(tokenizer, parts)
    assert len(set(marks)) == 100 and marks == sentinel_ids(tokenizer, reversed(parts))
    questions = [" ".join((q.stem, *q.options)) for split in mini.splits.values() for q in split]
    used = {i for text in (*texts, *questions) for i in tokenizer(text).input_ids}
    assert not used & set(marks) and not set(marks) & set(tokenizer.all_special_ids)
    names = {f"##{tail}" for kind in KINDS for tail in endings(kind)}
    assert not names & set(tokenizer.convert_ids_to_tokens(marks)) and max(marks) < len(vocabulary())


def test_pieces_that_the_corpus_uses_are_no_sentinels() -> None:
    tokenizer = make_tokenizer("seq2seq")
    first = sentinel_ids(tokenizer, [])
    assert sentinel_ids(tokenizer, [[first[0], first[2]]])[:2] == [first[1], first[3]]
    with pytest.raises(KardError, match="model x: its tokenizer has no <extra_id_0>"):
        sentinel_ids(tokenizer, [range(len(tokenizer))], "x")


# --- corpora ----------------------------------------------------------------------------------------------------------


def test_corpora_of_a_mini_set(mini: MiniSet, real: DataSet) -> None:
    assert corpus(mini, "none") == corpus(real, "none") == []
    assert corpus(mini, "knowledge base") == corpus(real, "knowledge base") == [p.text for p in mini.passages]
    wrapped = DataSet("m", "", real.train, real.dev, real.test, "test", real.passages, mini=mini)
    assert corpus(mini, "related") == corpus(wrapped, "related") == related_texts(mini.world)
    assert not set(corpus(mini, "related")) & set(corpus(mini, "knowledge base"))


def words(text: str) -> set[str]:
    return set(text.lower().replace(".", " ").replace(",", " ").split())


def test_no_report_links_two_of_disease_drug_enzyme_and_carrier(mini: MiniSet) -> None:
    world = mini.world
    kinds = [set(world.findings), set(world.enzyme), set(world.enzyme.values()), set(world.carrier_town)]
    told = set().union(*kinds)
    reports = [words(text) for text in corpus(mini, "related")]
    assert max(len(report & told) for report in reports) == 1
    assert told <= set().union(*reports), "every name is told of"
    both = [words(passage.text) & told for passage in mini.passages]
    assert max(map(len, both)) > 1, "the knowledge base does link them"


def test_signs_in_reports_are_true(mini: MiniSet) -> None:
    findings = {f for triple in mini.world.findings.values() for f in triple}
    seen = 0
    for text in corpus(mini, "related"):
        for disease in words(text) & set(mini.world.findings):
            signs = words(text) & findings
            assert signs <= set(mini.world.findings[disease])
            seen += len(signs)
    assert seen > len(mini.world.findings)


def test_reports_are_written_in_whole_words_and_are_as_much_as_the_knowledge_base(mini: MiniSet) -> None:
    tokenizer = make_tokenizer("seq2seq")
    for word in set().union(*map(words, corpus(mini, "related"))):
        assert len(tokenizer.tokenize(word)) == 1 or is_name(word) or word.isdigit()
    size = {w: sum(map(len, tokenizer(corpus(mini, w)).input_ids)) for w in ("knowledge base", "related")}
    assert 0.75 < size["related"] / size["knowledge base"] < 1.33


def test_related_text_of_a_real_set_is_the_users(real: DataSet, tmp_path: Path) -> None:
    with pytest.raises(KardError, match="own: it has no related text of its own; -p dapt_text=FOLDER names one"):
        corpus(real, "related")
    (tmp_path / "b.txt").write_text("One text.\n\n  Another.  \n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "A row.", "id": 3}) + "\n", encoding="utf-8")
    (tmp_path / "notes.md").write_text("not read", encoding="utf-8")
    assert corpus(real, "related", str(tmp_path)) == ["A row.", "One text.", "Another."]
    assert read_texts(tmp_path / "b.txt") == ["One text.", "Another."]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("x.jsonl", '{"txt": "a"}', r"x\.jsonl:1: field text: it is missing"),
        ("x.jsonl", "[1]", r"x\.jsonl:1: a JSON object was expected"),
        ("x.pdf", "a", r"x\.pdf: a \.txt or \.jsonl file, or a folder of them"),
        ("x.txt", " ", r"x\.txt: the file is empty"),
    ],
)
def test_a_bad_file_of_text_is_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(KardError, match=message):
        read_texts(tmp_path / name)
    with pytest.raises(KardError, match="no such file"):
        read_texts(tmp_path / "absent.jsonl")
    (tmp_path / "bare").mkdir()
    with pytest.raises(KardError, match="bare: it holds no .txt and no .jsonl file"):
        read_texts(tmp_path / "bare")


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # noqa: ANN201
    """What a training would be given, without the training."""
    caught: list[list[dict]] = []
    monkeypatch.setattr(dapt, "fit", lambda base, rows, *rest: caught.append(rows) or [])

    def ask(base: str, texts: list[str], hyper: Hyperparameters = HYPER, seed: int = 0) -> list[dict]:
        adapt(base, texts, hyper, seed, tmp_path / "out", tmp_path / "work")
        return caught.pop()

    return ask


def test_each_epoch_holds_every_text_whole_with_spans_of_its_own(rows_of, tiny_t5: str, mini: MiniSet) -> None:  # noqa: ANN001
    texts = corpus(mini, "related")[:40]
    tokenizer = load_tokenizer(tiny_t5)
    plain = tokenizer(texts, add_special_tokens=False).input_ids
    marks = sentinel_ids(tokenizer, plain)
    rows, end = rows_of(tiny_t5, texts), tokenizer.eos_token_id
    assert all(row["input_ids"][-1] == end == row["labels"][-1] for row in rows)
    back = [rebuilt(row["input_ids"][:-1], row["labels"][:-1], marks) for row in rows]
    assert sorted(back[:40]) == sorted(back[40:]) == sorted(plain) and back[:40] != back[40:]
    inputs = [{tuple(row["input_ids"]) for row in epoch} for epoch in (rows[:40], rows[40:])]
    assert len(inputs[0] & inputs[1]) < 12
    assert rows == rows_of(tiny_t5, texts) != rows_of(tiny_t5, texts, seed=1)


def test_a_causal_row_predicts_every_token_and_the_end(rows_of, tiny_opt: str, mini: MiniSet) -> None:  # noqa: ANN001
    texts = corpus(mini, "knowledge base")[:12]
    tokenizer = load_tokenizer(tiny_opt)
    plain = [[*ids, tokenizer.eos_token_id] for ids in tokenizer(texts, add_special_tokens=False).input_ids]
    rows = rows_of(tiny_opt, texts)
    assert sorted(row["labels"][1:] for row in rows[:12]) == sorted(plain)
    for row in rows:
        assert row["labels"][0] == -100 and row["input_ids"][1:] == row["labels"][1:]
        assert row["input_ids"][0] == tokenizer("").input_ids[0]


def test_long_texts_are_cut_and_nothing_is_lost(rows_of, base: str) -> None:  # noqa: ANN001
    tokenizer = load_tokenizer(base)
    text = " ".join(str(i) for i in range(100, 200))
    hyper = Hyperparameters(1e-3, 1, 4, source_tokens=32, target_tokens=8)
    rows = rows_of(base, [text, "", "Short."], hyper)
    assert max(len(row["input_ids"]) for row in rows) <= 32 and len(rows) > 9
    told = Counter(i for row in rows for i in row["labels"] if i >= 0)
    if "t5" in Path(base).name:
        marks = sentinel_ids(tokenizer, [])
        back = [rebuilt(row["input_ids"][:-1], row["labels"][:-1], marks) for row in rows]
        told = Counter(i for ids in back for i in ids)
    whole = Counter(i for t in (text, "Short.") for i in tokenizer(t, add_special_tokens=False).input_ids)
    assert told - whole in (Counter(), Counter({tokenizer.eos_token_id: 2})) and not whole - told


@torch.no_grad()
def test_padding_does_not_change_the_loss(rows_of, base: str, mini: MiniSet) -> None:  # noqa: ANN001
    rows = rows_of(base, [*corpus(mini, "related")[:5], "Short.", " ".join(corpus(mini, "related")[5:8])])[:7]
    model, collate = load_student(base).eval(), collator(load_tokenizer(base))
    sizes = [sum(label != -100 for label in row["labels"]) for row in rows]
    alone = [model(**collate([row])).loss.item() for row in rows]
    expected = sum(size * loss for size, loss in zip(sizes, alone, strict=True)) / sum(sizes)
    assert len(set(sizes)) > 2 and model(**collate(rows)).loss.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("which", ["knowledge base", "related"])
def test_the_loss_falls_and_every_weight_moves(base: str, which: str, mini: MiniSet, tmp_path: Path) -> None:
    texts = corpus(mini, which)[:120]  # 60 steps
    hyper = Hyperparameters(lr=3e-3, epochs=4, batch=8, source_tokens=200, target_tokens=48)
    curve = adapt(base, texts, hyper, 0, tmp_path / "out", tmp_path / "work")
    assert [row["step"] for row in curve] == [10, 20, 30, 40, 50, 60]
    assert curve[-1]["loss"] < 0.9 * curve[0]["loss"]
    before, after = weights(Path(base)), weights(tmp_path / "out")
    assert {n: w.shape for n, w in before.items()} == {n: w.shape for n, w in after.items()}
    assert not [name for name in before if torch.equal(before[name], after[name])]


def test_the_shipped_base_learns_the_knowledge_base(mini: MiniSet, tmp_path: Path) -> None:
    hyper = Hyperparameters(lr=1e-3, epochs=2, batch=16, source_tokens=320, target_tokens=48)
    curve = adapt("mini-t5-base", corpus(mini, "knowledge base")[:480], hyper, 0, tmp_path / "out", tmp_path / "work")
    assert len(curve) == 6 and curve[-1]["loss"] < 0.8 * curve[0]["loss"]


def test_an_adapted_model_is_a_base_model(base: str, mini: MiniSet, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    adapt(base, corpus(mini, "related")[:8], HYPER, 0, tmp_path / "out", tmp_path / "work")
    kind = AutoModelForSeq2SeqLM if "t5" in Path(base).name else AutoModelForCausalLM
    plain, ours = kind.from_pretrained(tmp_path / "out"), load_student(str(tmp_path / "out"))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(plain.parameters(), ours.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == load_tokenizer(base).get_vocab()
    pairs = [Pair("Question: a", "b")] * 4
    train_student(str(tmp_path / "out"), pairs, HYPER, 0, tmp_path / "student", tmp_path / "work2")
    assert not same_weights(tmp_path / "out", tmp_path / "student")


def test_a_killed_training_goes_on_to_the_same_weights(
    base: str, mini: MiniSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = corpus(mini, "knowledge base")[:16]  # 8 steps
    adapt(base, texts, HYPER, 0, tmp_path / "straight", tmp_path / "work1")
    kill_training_at(5, monkeypatch)
    with pytest.raises(Killed):
        adapt(base, texts, HYPER, 0, tmp_path / "killed", tmp_path / "work2")
    assert not (tmp_path / "killed").exists()
    steps = watch_training(monkeypatch)
    adapt(base, texts, HYPER, 0, tmp_path / "killed", tmp_path / "work2")
    assert steps == [5, 6, 7] and same_weights(tmp_path / "straight", tmp_path / "killed")
    monkeypatch.undo()
    adapt(base, texts, HYPER, 1, tmp_path / "other", tmp_path / "work3")
    assert not same_weights(tmp_path / "straight", tmp_path / "other")


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_is_one_clear_line(base: str, texts: list[str], tmp_path: Path) -> None:
    with pytest.raises(KardError, match="there is no text to train it on"):
        adapt(base, texts, HYPER, 0, tmp_path / "out", tmp_path / "work")
