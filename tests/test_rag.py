"""RAG: a loss that is the sum written out, a retriever that searches exactly, training that survives a kill."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import Killed, kill_training_at, same_weights, watch_training

from kardlib import dense_retriever, rag, student
from kardlib.bm25 import BM25
from kardlib.dense_retriever import DenseRetriever, load_encoder, warm_up, warm_up_pairs
from kardlib.errors import KardError
from kardlib.generate import Generator
from kardlib.mini import MiniSet
from kardlib.models import load_student, load_tokenizer
from kardlib.prompts import ANSWER_MARK, build_prompt, build_target, query_of
from kardlib.rag import Encoder, Form, Rag, RagHyperparameters, rag_loss, token_logprobs, train_rag
from kardlib.rag_predict import RagReader
from kardlib.records import Passage, Question
from kardlib.teacher import ScriptedTeacher

FORMS: tuple[Form, ...] = ("sequence", "token")
HYPER = RagHyperparameters(
    lr=2e-3, epochs=2, batch=4, source_tokens=200, target_tokens=48, n=3, form="sequence", retriever_lr=1e-3
)
Items = list[tuple[Question, str]]


@pytest.fixture(scope="module")
def items(mini: MiniSet) -> Items:
    questions = mini.splits["train"][:12]
    told = ScriptedTeacher(mini).rationales(questions, 1, show_gold=True)
    return [(q, build_target(q.answer_text, r.text)) for q, r in zip(questions, told, strict=True)]


@pytest.fixture(params=["seq2seq", "causal"])
def base(request: pytest.FixtureRequest, tiny_t5: str, tiny_opt: str) -> str:
    return tiny_t5 if request.param == "seq2seq" else tiny_opt


@pytest.fixture
def retriever(mini: MiniSet, tiny_bert: str) -> DenseRetriever:
    return DenseRetriever.fresh(tiny_bert, mini.passages[:40])


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_loss_by_hand() -> None:
    prior = torch.tensor([[0.75, 0.25]])
    probs = torch.tensor([[[0.5, 0.2], [0.1, 0.8]]])
    given = prior.log() + 3, probs.log(), torch.ones(1, 2, dtype=torch.bool)
    assert rag_loss(*given, "sequence").item() == pytest.approx(-math.log(0.75 * 0.5 * 0.2 + 0.25 * 0.1 * 0.8))
    by_token = (0.75 * 0.5 + 0.25 * 0.1) * (0.75 * 0.2 + 0.25 * 0.8)
    assert rag_loss(*given, "token").item() == pytest.approx(-math.log(by_token))


def random_case(batch: int = 4, n: int = 3, tokens: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch * 100 + n * 10 + tokens)
    scores = 2 * torch.randn((batch, n), generator=generator)
    logprobs = torch.rand((batch, n, tokens), generator=generator).log()
    lengths = torch.randint(1, tokens + 1, (batch,), generator=generator)
    return scores, logprobs, torch.arange(tokens)[None] < lengths[:, None]


@pytest.mark.parametrize("form", FORMS)
def test_loss_is_the_sum_over_passages(form: Form) -> None:
    scores, logprobs, mask = random_case()
    expected = []
    for i in range(len(scores)):
        weights = [math.exp(s) for s in scores[i].tolist()]
        prior = [w / sum(weights) for w in weights]
        probs = [[math.exp(v) for v in row[: int(mask[i].sum())]] for row in logprobs[i].tolist()]
        if form == "sequence":
            value = sum(p * math.prod(row) for p, row in zip(prior, probs, strict=True))
        else:
            columns = zip(*probs, strict=True)
            value = math.prod(sum(p * x for p, x in zip(prior, column, strict=True)) for column in columns)
        expected.append(-math.log(value))
    assert rag_loss(scores, logprobs, mask, form).tolist() == pytest.approx(expected, rel=1e-5)
    assert max(expected) - min(expected) > 0.1


@pytest.mark.parametrize("form", FORMS)
def test_padding_of_targets_changes_nothing(form: Form) -> None:
    scores, logprobs, mask = random_case()
    wide = torch.cat([logprobs, torch.full((4, 3, 5), -1e4)], -1)
    longer = torch.cat([mask, torch.zeros(4, 5, dtype=torch.bool)], -1)
    wide.requires_grad_()
    loss = rag_loss(scores, wide, longer, form)
    assert torch.allclose(loss, rag_loss(scores, logprobs, mask, form))
    loss.sum().backward()
    assert not wide.grad[:, :, 6:].any() and wide.grad[:, :, 0].all()


@pytest.mark.parametrize("form", FORMS)
def test_one_passage_is_plain_negative_log_likelihood(form: Form) -> None:
    scores, logprobs, mask = random_case(n=1)
    assert torch.allclose(rag_loss(scores, logprobs, mask, form), -(logprobs[:, 0] * mask).sum(-1), atol=1e-5)


def test_forms_agree_on_one_token_and_only_there() -> None:
    one, more = random_case(tokens=1), random_case(tokens=6)
    assert torch.allclose(rag_loss(*one, "sequence"), rag_loss(*one, "token"), atol=1e-6)
    assert (rag_loss(*more, "sequence") - rag_loss(*more, "token")).abs().max() > 0.05


@pytest.mark.parametrize("form", FORMS)
def test_loss_does_not_see_a_constant_and_stays_finite(form: Form) -> None:
    scores, logprobs, mask = random_case()
    assert torch.allclose(
        rag_loss(scores + 50, logprobs, mask, form), rag_loss(scores, logprobs, mask, form), atol=1e-4
    )
    scores = (scores * 500).requires_grad_()
    rag_loss(scores, logprobs * 300, mask, form).sum().backward()
    assert torch.isfinite(scores.grad).all()


def test_an_unknown_form_is_one_line() -> None:
    with pytest.raises(KardError, match="form 'both'"):
        rag_loss(*random_case(), "both")  # type: ignore[arg-type]


# --- token probabilities ----------------------------------------------------------------------------------------------


def test_token_logprobs_do_not_depend_on_what_stands_beside(base: str, mini: MiniSet) -> None:
    encoder, model = Encoder(base, HYPER), load_student(base).eval()
    q, pad = mini.splits["train"][0], load_tokenizer(base).pad_token_id
    sources = [encoder.ids(encoder.prompt(q, p.text), "")[0] for p in mini.passages[:3]]
    targets = [encoder.ids("", text)[1] for text in ("so.", "It is spread by rats. " + ANSWER_MARK + " rats.")]
    assert len({len(s) for s in sources}) > 1 and len(targets[0]) < len(targets[1])
    with torch.no_grad():
        together, mask = token_logprobs(model, sources, [targets] * 3, pad)
        for i, source in enumerate(sources):
            for j, target in enumerate(targets):
                alone, whole = token_logprobs(model, [source], [[target]], pad)
                assert whole.all() and mask[i, j].sum() == len(target)
                assert torch.allclose(together[i, j, : len(target)], alone[0, 0], atol=1e-4)
    assert (together[0, 1] - together[1, 1]).abs().max() > 1e-3, "the source counts"


def test_mean_of_token_logprobs_is_the_students_loss(base: str, items: Items) -> None:
    encoder, model = Encoder(base, HYPER), load_student(base).eval()
    prompt, target = build_prompt(items[0][0]), items[0][1]
    source, labels = encoder.ids(prompt, target)
    encode = student.encode_seq2seq if base.endswith("t5") else student.encode_causal
    row = encode(encoder.tokenizer, student.Pair(prompt, target), HYPER)
    with torch.no_grad():
        expected = model(**student.collator(encoder.tokenizer)([row])).loss.item()
        logprobs, _ = token_logprobs(model, [source], [[labels]], encoder.tokenizer.pad_token_id)
    assert -logprobs.mean().item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_that_of_transformers_own_rag(form: Form, tiny_t5: str, tiny_bert: str, items: Items) -> None:
    from transformers import AutoModel, RagConfig, RagSequenceForGeneration, RagTokenForGeneration

    model, question = load_student(tiny_t5).eval(), AutoModel.from_pretrained(tiny_bert)
    model.config.bos_token_id = None  # RAG-Sequence asks for it, and T5's configuration has none
    config = RagConfig.from_question_encoder_generator_configs(question.config, model.config, n_docs=3)
    kind = RagSequenceForGeneration if form == "sequence" else RagTokenForGeneration
    reference = kind(config, question_encoder=question, generator=model).eval()
    encoder, scores = Encoder(tiny_t5, HYPER), torch.tensor([[1.0, 0.2, -2.0]])
    texts = ["Rats are feared.", "It is treated with bordol.", "Summer is warm."]
    sources, labels = (
        [encoder.ids(encoder.prompt(items[0][0], t), "")[0] for t in texts],
        encoder.ids("", items[0][1])[1],
    )
    pad = encoder.tokenizer.pad_token_id
    ids, mask = rag._padded(sources, pad, model.device)
    started = torch.tensor([[model.config.decoder_start_token_id, *labels]])
    with torch.no_grad():
        expected = reference(
            context_input_ids=ids, context_attention_mask=mask, doc_scores=scores, labels=started, n_docs=3
        ).loss
        logprobs, whole = token_logprobs(model, sources, [[labels]] * 3, pad)
        found = rag_loss(scores, logprobs.transpose(0, 1), whole[:1, 0], form)
    assert found.item() == pytest.approx(expected.sum().item(), rel=1e-4)


# --- retriever --------------------------------------------------------------------------------------------------------


def test_search_is_the_full_sort_of_inner_products(retriever: DenseRetriever, mini: MiniSet) -> None:
    queries = [query_of(q) for q in mini.splits["train"][:5]]
    queries += ["x", queries[0]]
    by_id = sorted(mini.passages[:40], key=lambda p: p.id)
    assert [p.id for p in retriever.passages] == [p.id for p in by_id]
    for query, hits in zip(queries, retriever.search(queries, 7, batch=3), strict=True):
        one = retriever.query_encoder.encode(query)
        scores = [float(retriever.passage_encoder.encode(p.text) @ one) for p in by_id]
        order = sorted(range(40), key=lambda i: (-scores[i], i))[:7]
        assert [h.score for h in hits] == pytest.approx([scores[i] for i in order], abs=1e-3)
    assert np.std(scores) > 1e-2
    assert len(retriever.search(["x"], 99)[0]) == 40
    with pytest.raises(KardError, match="k = 0"):
        retriever.search(["x"], 0)


def test_ties_go_by_id(tiny_bert: str) -> None:
    same = [Passage(id=i, text="Vorosis is spread by rats.") for i in "cabd"]
    retriever = DenseRetriever.fresh(tiny_bert, [*same, Passage(id="e", text="Summer is warm.")])
    found = [[retriever.passages[h.index].id for h in hits] for hits in retriever.search(["rats", "summer"], 5)]
    assert all([i for i in row if i != "e"] == list("abcd") for row in found)


def test_a_saved_retriever_finds_the_same_and_only_for_its_passages(
    retriever: DenseRetriever, mini: MiniSet, tmp_path: Path
) -> None:
    queries = [query_of(q) for q in mini.splits["train"][:4]]
    with torch.no_grad():
        next(retriever.query_encoder.parameters()).mul_(1.5)
    retriever.save(tmp_path / "saved")
    again = DenseRetriever.load(tmp_path / "saved", mini.passages[:40][::-1])
    assert again.search(queries, 5) == retriever.search(queries, 5)
    assert not same_weights(tmp_path / "saved" / "query", tmp_path / "saved" / "passages")
    with pytest.raises(KardError, match="another knowledge base"):
        DenseRetriever.load(tmp_path / "saved", mini.passages[:39])
    (tmp_path / "saved" / "vectors.safetensors").write_bytes(b"half")
    with pytest.raises(KardError, match="saved") as caught:
        DenseRetriever.load(tmp_path / "saved", mini.passages[:40])
    assert "\n" not in str(caught.value)


def test_warm_up_pairs_hold_the_answer_where_bm25_finds_it(mini: MiniSet, search: BM25) -> None:
    questions = mini.splits["train"][:20]
    pairs = warm_up_pairs(questions, search, depth=30)
    assert [query for query, _ in pairs] == [query_of(q) for q in questions]
    holding = 0
    for question, (query, text) in zip(questions, pairs, strict=True):
        order = np.argsort(-search.scores(query), kind="stable")[:30]
        found = [search.passages[i].text for i in order]
        with_answer = [t for t in found if question.answer_text.lower() in t.lower()]
        assert text == (with_answer or found)[0]
        holding += bool(with_answer) and with_answer[0] != found[0]
    assert holding, "the answer decides somewhere"
    wrong = [q.model_copy(update={"answer": None}) for q in questions[:1]]
    with pytest.raises(KardError, match="no gold answer"):
        warm_up_pairs(wrong, search)


def right_share(folder: str, pairs: list[tuple[str, str]]) -> float:
    """Mean probability of each query's own passage among all passages of the pairs."""
    texts = sorted({text for _, text in pairs})
    retriever = DenseRetriever.fresh(folder, [Passage(id=f"{i:03}", text=text) for i, text in enumerate(texts)])
    with torch.no_grad():
        scores = retriever.query_vectors([query for query, _ in pairs]) @ retriever.vectors.T
    right = torch.tensor([texts.index(text) for _, text in pairs])
    return torch.softmax(scores, -1).gather(1, right[:, None]).mean().item()


def test_warm_up_brings_queries_to_their_passages(
    mini: MiniSet, search: BM25, tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = warm_up_pairs(mini.splits["train"][:24], search)
    warm_up(tiny_bert, pairs, 2e-3, 5, 8, 0, tmp_path / "straight", tmp_path / "work1")
    assert right_share(str(tmp_path / "straight"), pairs) > right_share(tiny_bert, pairs) + 0.1
    kill_training_at(5, monkeypatch)
    monkeypatch.setattr(dense_retriever, "SaveByTime", student.SaveByTime)
    with pytest.raises(Killed):
        warm_up(tiny_bert, pairs, 2e-3, 5, 8, 0, tmp_path / "killed", tmp_path / "work2")
    assert not (tmp_path / "killed").exists()
    steps = watch_training(monkeypatch)
    monkeypatch.setattr(dense_retriever, "SaveByTime", student.SaveByTime)
    warm_up(tiny_bert, pairs, 2e-3, 5, 8, 0, tmp_path / "killed", tmp_path / "work2")
    assert steps[0] == 5
    for side in ("query", "passages"):
        assert same_weights(tmp_path / "straight" / side, tmp_path / "killed" / side)


def test_warm_up_needs_two_passages(tiny_bert: str, tmp_path: Path) -> None:
    with pytest.raises(KardError, match="warm-up"):
        warm_up(tiny_bert, [("a", "b"), ("c", "b")], 1e-3, 1, 2, 0, tmp_path / "out", tmp_path / "work")


# --- joint training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_reaches_query_encoder_and_generator_and_not_the_passage_side(
    form: Form, base: str, retriever: DenseRetriever, items: Items
) -> None:
    model = Rag(base, retriever, items, replace(HYPER, form=form))
    model(torch.tensor([0, 1]))["loss"].backward()
    for part in (model.query_encoder, model.generator):
        assert sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None) > 0
    assert all(p.grad is None for p in retriever.passage_encoder.parameters())
    assert retriever.vectors.grad is None and not retriever.vectors.requires_grad
    trained = {id(p) for p in model.parameters()}
    assert not trained & {id(p) for p in retriever.passage_encoder.parameters()}


@pytest.mark.parametrize("form", FORMS)
def test_the_batch_loss_is_the_marginal_of_single_targets(
    form: Form, base: str, retriever: DenseRetriever, items: Items
) -> None:
    model = Rag(base, retriever, items, replace(HYPER, form=form)).eval()
    sizes = [len(model.encoder.ids("", target)[1]) for _, target in items[:3]]
    with torch.no_grad():
        alone = [model(torch.tensor([i]))["loss"].item() for i in range(3)]
        together = model(torch.tensor([0, 1, 2]))["loss"].item()
    assert together == pytest.approx(sum(s * v for s, v in zip(sizes, alone, strict=True)) / sum(sizes), rel=1e-4)


def test_one_passage_is_a_student_that_reads_it(base: str, retriever: DenseRetriever, items: Items) -> None:
    model = Rag(base, retriever, items, replace(HYPER, n=1)).eval()
    question, target = items[0]
    best = retriever.passages[retriever.search([query_of(question)], 1)[0][0].index].text
    encode = student.encode_seq2seq if base.endswith("t5") else student.encode_causal
    row = encode(model.encoder.tokenizer, student.Pair(build_prompt(question, [best]), target), HYPER)
    batch = student.collator(model.encoder.tokenizer)([row])
    with torch.no_grad():
        assert model(torch.tensor([0]))["loss"].item() == pytest.approx(model.generator(**batch).loss.item(), rel=1e-4)


def train(base: str, encoder: str, mini: MiniSet, items: Items, folder: Path, seed: int = 0, **change: Any) -> list:
    retriever = DenseRetriever.fresh(encoder, mini.passages[:40])
    return train_rag(
        base, retriever, items, replace(HYPER, **change), seed, folder, folder.with_name(f"{folder.name}-w")
    )


def same(first: Path, second: Path) -> bool:
    return all(same_weights(first / part, second / part) for part in ("generator", "retriever/query"))


def test_training_lowers_the_loss_and_leaves_passages_alone(
    base: str, tiny_bert: str, mini: MiniSet, items: Items, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    form: Form = "sequence" if base.endswith("t5") else "token"
    curve = train(base, tiny_bert, mini, items, tmp_path / "out", epochs=7, form=form)
    assert [row["step"] for row in curve] == [10, 20] and curve[1]["loss"] < curve[0]["loss"]
    retriever = DenseRetriever.load(tmp_path / "out" / "retriever", mini.passages[:40])
    fresh = DenseRetriever.fresh(tiny_bert, mini.passages[:40])
    assert torch.equal(retriever.vectors, fresh.vectors)
    before, after = (r.query_encoder.state_dict() for r in (fresh, retriever))
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(moved) > len(before) / 2
    kept = load_file(tmp_path / "out" / "retriever" / "passages" / "model.safetensors")
    start = load_encoder(tiny_bert).state_dict()
    assert all(torch.equal(v, start[f"0.model.{n}"]) for n, v in kept.items()) and len(kept) > 5
    assert AutoTokenizer.from_pretrained(tmp_path / "out" / "generator")("x").input_ids


def test_the_seed_decides_the_weights(
    tiny_t5: str, tiny_bert: str, mini: MiniSet, items: Items, tmp_path: Path
) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        train(tiny_t5, tiny_bert, mini, items, tmp_path / name, seed)
    assert same(tmp_path / "one", tmp_path / "again")
    assert not same(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize("step", [7])
def test_a_killed_training_goes_on_to_the_same_weights(
    step: int,
    base: str,
    tiny_bert: str,
    mini: MiniSet,
    items: Items,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    straight = train(base, tiny_bert, mini, items, tmp_path / "straight", epochs=4)
    assert len(straight) == 1
    kill_training_at(step, monkeypatch)
    monkeypatch.setattr(rag, "SaveByTime", student.SaveByTime)
    with pytest.raises(Killed):
        train(base, tiny_bert, mini, items, tmp_path / "killed", epochs=4)
    assert not (tmp_path / "killed").exists()
    steps = watch_training(monkeypatch)
    monkeypatch.setattr(rag, "SaveByTime", student.SaveByTime)
    assert train(base, tiny_bert, mini, items, tmp_path / "killed", epochs=4) == straight
    assert steps == list(range(step, 12)), "what was done is not done again"
    assert same(tmp_path / "straight", tmp_path / "killed")


def test_nothing_to_train_on_is_one_line(tiny_t5: str, retriever: DenseRetriever, tmp_path: Path) -> None:
    with pytest.raises(KardError, match="no question"):
        train_rag(tiny_t5, retriever, [], HYPER, 0, tmp_path / "out", tmp_path / "work")


# --- inference --------------------------------------------------------------------------------------------------------


def reader(base: str, retriever: DenseRetriever, n: int = 3, form: Form = "sequence", **more: Any) -> RagReader:
    return RagReader(base, retriever, n, form, replace(HYPER, target_tokens=12), **more)


@pytest.mark.parametrize("form", FORMS)
def test_the_text_is_the_likeliest_hypothesis_of_the_passages(
    form: Form, base: str, retriever: DenseRetriever, mini: MiniSet
) -> None:
    questions, texts = mini.splits["test"][:3], {p.id: p.text for p in mini.passages}
    rag_reader = reader(base, retriever, form=form)
    writer = Generator(base, HYPER.source_tokens, 12)
    for question, answer in zip(questions, rag_reader.predict(questions), strict=True):
        prompts = [build_prompt(question, [texts[i]]) for i in answer.passages.passages]
        assert answer.texts == tuple(writer.greedy(prompts)) and len(prompts) == 3
        assert answer.text == answer.texts[int(np.argmax(answer.values))]
        alone = [
            rag_reader.hypothesis_values(torch.tensor(answer.passages.scores), prompts, [text])[0]
            for text in answer.texts
        ]
        assert answer.values == pytest.approx(alone, abs=1e-3)


def test_predictions_do_not_depend_on_the_gold_answer_or_on_neighbours(
    base: str, retriever: DenseRetriever, mini: MiniSet
) -> None:
    questions = mini.splits["test"][:4]
    blind = [q.model_copy(update={"answer": None, "meta": {}}) for q in questions]
    rag_reader = reader(base, retriever)
    answers = rag_reader.predict(questions)
    assert [a.chosen for a in answers] == [a.chosen for a in rag_reader.predict(blind)]
    assert rag_reader.predict(questions[2:3])[0].passages.passages == answers[2].passages.passages


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("begin", ["", f"It is spread by rats. {ANSWER_MARK}"])
def test_one_passage_scores_options_as_the_generator_does(
    form: Form, begin: str, base: str, retriever: DenseRetriever, mini: MiniSet
) -> None:
    rag_reader, writer = reader(base, retriever, 1, form), Generator(base, HYPER.source_tokens, 12)
    for question in mini.splits["test"][:8]:
        prompt = build_prompt(question, [mini.passages[3].text])
        values = rag_reader.option_values(torch.tensor([2.0]), [prompt], begin, question.options)
        assert values.index(max(values)) == writer.likeliest([prompt], [begin], [question.options])[0]


def test_option_values_are_the_quotient_of_two_marginals(base: str, retriever: DenseRetriever, mini: MiniSet) -> None:
    question, begin = mini.splits["test"][0], f"It is spread by rats. {ANSWER_MARK}"
    prompts = [build_prompt(question, [p.text]) for p in mini.passages[:3]]
    scores, rag_reader = torch.tensor([1.0, 0.0, -1.0]), reader(base, retriever, 3)
    prior = torch.softmax(scores, -1).double()
    encoder, model = Encoder(base, HYPER), load_student(base).eval()
    values = rag_reader.option_values(scores, prompts, begin, question.options)
    gap = "" if base.endswith("t5") else " "
    head = len(encoder.tokenizer(gap + begin, add_special_tokens=False).input_ids)
    for option, value in zip(question.options, values, strict=True):
        row = encoder.tokenizer(f"{gap}{begin} {option}", add_special_tokens=False).input_ids
        with torch.no_grad():
            sources = [encoder.ids(prompt, "")[0] for prompt in prompts]
            each, _ = token_logprobs(model, sources, [[row]] * 3, encoder.tokenizer.pad_token_id)
        probs = each[:, 0].double().exp()
        quotient = (prior * probs.prod(-1)).sum() / (prior * probs[:, :head].prod(-1)).sum()
        assert value == pytest.approx(quotient.log().item() / (len(row) - head), rel=1e-3)


def test_fast_decoding_counts_only_passages_that_wrote_the_text(
    base: str, retriever: DenseRetriever, mini: MiniSet
) -> None:
    question, texts, scores = mini.splits["test"][0], ["rats", "bordol", "rats"], torch.tensor([1.0, 0.0, -1.0])
    prompts = [build_prompt(question, [p.text]) for p in mini.passages[:3]]
    thorough = reader(base, retriever).hypothesis_values(scores, prompts, texts)
    fast = reader(base, retriever, decoding="fast").hypothesis_values(scores, prompts, texts)
    alone = reader(base, retriever, 1).hypothesis_values(scores[1:2], prompts[1:2], texts[1:2])[0]
    assert fast[1] == pytest.approx(alone + torch.log_softmax(scores, -1)[1].item(), abs=1e-3)
    assert fast[0] == pytest.approx(fast[2], abs=1e-3)
    assert all(f < t for f, t in zip(fast, thorough, strict=True))
