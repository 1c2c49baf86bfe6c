"""The mini world: names that no two inventories share, facts that decide, questions that BM25 half answers."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
import Stemmer

from kardlib.bm25 import BM25, STOP_WORDS
from kardlib.candidates import question_candidates, rationale_candidates
from kardlib.mini import MiniSet, make_mini_medqa
from kardlib.mini_medqa import answer_of, chain_of
from kardlib.mini_tokenizer import Role, make_tokenizer, vocabulary
from kardlib.names import KINDS, SYLLABLES, Inventory, Kind, endings, inventory, is_name
from kardlib.pretrain import SMALL_WORLD
from kardlib.records import Question
from kardlib.teacher import ScriptedTeacher
from kardlib.world import World, WorldSize, make_world

INVENTORIES: tuple[Inventory, ...] = get_args(Inventory)
APART: tuple[Inventory, ...] = ("pretraining", "development", "reported")
PLACES = list(itertools.product(KINDS, APART))
PLURALS: dict[Kind, str] = {
    "disease": "diseases", "finding": "findings", "drug": "drugs", "enzyme": "enzymes", "carrier": "carriers",
    "town": "towns", "trade": "trades",
}  # fmt: skip
EVERY_NAME = [name for kind, which in PLACES for name in inventory(kind, which)]


def questions_of(mini: MiniSet) -> list[Question]:
    return [question for questions in mini.splits.values() for question in questions]


def words_of(text: str) -> set[str]:
    return set("".join(c if c.isalnum() else " " for c in text.lower()).split())


# --- names and tokens -------------------------------------------------------------------------------------------------


def test_every_name_is_known_as_one_and_ordinary_words_are_not() -> None:
    for which in ("pretraining", "development", "reported"):
        for kind in KINDS:
            assert all(is_name(name) for name in inventory(kind, which)[:200])
    template = "a patient with the disease is treated with which target is blocked by carrier enzyme so the answer is"
    assert not any(is_name(word) for word in template.split())


def test_no_name_is_in_two_places() -> None:
    assert len(set(EVERY_NAME)) == len(EVERY_NAME)
    for (kind, which), (other_kind, other) in itertools.combinations(PLACES, 2):
        assert not set(inventory(kind, which)) & set(inventory(other_kind, other))


def test_the_narrow_inventory_is_a_part_of_pretraining() -> None:
    for kind in KINDS:
        assert set(inventory(kind, "narrow")) < set(inventory(kind, "pretraining"))


def test_inventories_are_large_enough_for_a_world_and_every_cell_is_in_one() -> None:
    for kind in KINDS:
        sizes = {which: len(inventory(kind, which)) for which in APART}
        assert sum(sizes.values()) == len(SYLLABLES) * len(endings(kind))
        assert min(sizes["development"], sizes["reported"]) >= vars(WorldSize())[PLURALS[kind]]
        assert sizes["pretraining"] > 4 * sizes["reported"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_two_tokens_and_pretraining_has_seen_both(kind: Kind) -> None:
    tokenizer = make_tokenizer("seq2seq")
    used = {}
    for which in INVENTORIES:
        pieces = [tokenizer.tokenize(name) for name in inventory(kind, which)]
        assert all(len(p) == 2 and p[0] in SYLLABLES and p[1][2:] in endings(kind) for p in pieces)
        assert pieces == [tokenizer.tokenize(name.capitalize()) for name in inventory(kind, which)]
        used[which] = {token for p in pieces for token in p}
    assert used["pretraining"] == {*SYLLABLES, *(f"##{tail}" for tail in endings(kind))}
    assert used["development"] <= used["pretraining"] and used["reported"] <= used["pretraining"]


def test_names_keep_distinct_stems_and_are_no_other_words() -> None:
    stems = Stemmer.Stemmer("porter").stemWords(EVERY_NAME)
    assert len(set(stems)) == len(EVERY_NAME)
    plain = [token for token in vocabulary() if not token.startswith("##") and token not in SYLLABLES]
    assert not set(stems) & set(Stemmer.Stemmer("porter").stemWords(plain))
    assert not set(EVERY_NAME) & STOP_WORDS


@pytest.mark.parametrize("role", get_args(Role))
def test_any_text_is_tokens_without_unknown_ones(role: Role, mini: MiniSet) -> None:
    tokenizer = make_tokenizer(role)
    texts = [p.text for p in mini.passages[:200]] + [q.stem for q in questions_of(mini)]
    texts += ["Naïve zebras weigh 1440 kg (on average): 3.5 < 4; x_y!", "aaaaaaaaaaaaaaaaaaaaaaaaaa"]
    for text in texts:
        assert tokenizer.unk_token_id not in tokenizer(text).input_ids
    ids = tokenizer("vote").input_ids
    ends = {"seq2seq": (None, "</s>"), "causal": ("</s>", None), "encoder": ("[CLS]", "[SEP]")}[role]
    assert [i for i in tokenizer.convert_ids_to_tokens(ids) if i in ("</s>", "[CLS]", "[SEP]")] == [
        end for end in ends if end
    ]


def test_the_vocabulary_has_no_token_twice_and_is_the_same_for_all_roles() -> None:
    assert len(set(vocabulary())) == len(vocabulary())
    assert len({tuple(sorted(make_tokenizer(role).get_vocab().items())) for role in get_args(Role)}) == 1


def test_world_texts_survive_the_tokenizer(mini: MiniSet) -> None:
    tokenizer = make_tokenizer("seq2seq")
    for question, told in zip(
        mini.splits["train"], ScriptedTeacher(mini).rationales(mini.splits["train"], 1, True), strict=True
    ):
        for text in (told.text, *question.options):
            assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text.lower()


# --- worlds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", INVENTORIES)
@pytest.mark.parametrize("seed, size", [(1, WorldSize()), (2, SMALL_WORLD), (3, SMALL_WORLD)])
def test_two_findings_identify_one_disease(seed: int, which: Inventory, size: WorldSize) -> None:
    world = make_world(seed, which, size)
    assert len(world.diseases) == size.diseases
    shared = 0
    for disease, findings in world.findings.items():
        assert len(set(findings)) == 3
        for a, b in itertools.combinations(findings, 2):
            assert set(world.with_finding(a)) & set(world.with_finding(b)) == {disease}
        shared += any(len(world.with_finding(f)) > 1 for f in findings)
    assert shared > size.diseases / 2, "one finding alone must not be enough"


def test_a_world_takes_its_names_from_its_inventory() -> None:
    for which in INVENTORIES:
        world = make_world(1, which, SMALL_WORLD)
        for kind, names in (
            ("disease", world.diseases),
            ("drug", world.enzyme),
            ("carrier", world.carrier.values()),
            ("enzyme", world.enzyme.values()),
            ("town", world.town_trade),
            ("trade", world.town_trade.values()),
            ("finding", [f for group in world.findings.values() for f in group]),
        ):
            assert set(names) <= set(inventory(kind, which))


def test_frequencies_fall_with_rank() -> None:
    weights = make_world(1, "development", SMALL_WORLD).weights
    assert weights == sorted(weights, reverse=True) and weights[0] > weights[-1]


# --- mini-MedQA -------------------------------------------------------------------------------------------------------


def test_the_seed_decides_the_set() -> None:
    sizes = {"train": 10, "test": 5}
    first, again, other = (make_mini_medqa(seed, "development", sizes, SMALL_WORLD) for seed in (1, 1, 2))
    assert first.splits == again.splits and first.passages == again.passages and first.facts == again.facts
    assert first.splits["train"] != other.splits["train"] and first.passages != other.passages


def test_questions_are_unique_and_split_by_id(mini: MiniSet) -> None:
    questions = questions_of(mini)
    assert len(questions) == 100
    assert len({q.id for q in questions}) == len({q.stem for q in questions}) == len(questions)
    assert len({p.id for p in mini.passages}) == len({p.text for p in mini.passages}) == len(mini.passages)


def test_the_answer_is_right_and_stands_once_among_four_options(mini: MiniSet) -> None:
    places = []
    for q in questions_of(mini):
        right = answer_of(mini.world, q.meta["disease"], q.meta["kind"])
        assert len(q.options) == 4 and q.options.count(right) == 1 and q.answer_text == right
        assert chain_of(mini.world, q.meta["disease"], q.meta["kind"])[-1] == right
        places.append(q.gold)
    assert set(places) == {0, 1, 2, 3}


def test_wrong_options_are_of_the_same_kind_and_some_are_near(mini: MiniSet) -> None:
    near = 0
    for q in questions_of(mini):
        kind = q.meta["kind"]
        assert set(q.options) <= {answer_of(mini.world, d, kind) for d in mini.world.diseases}
        around = {d for f in q.meta["findings"] for d in mini.world.with_finding(f)} - {q.meta["disease"]}
        close = {answer_of(mini.world, d, kind) for d in around}
        near += len((set(q.options) & close) - {q.answer_text}) >= min(2, len(close - {q.answer_text}))
    assert near == len(questions_of(mini))


def test_a_stem_names_two_findings_and_gives_nothing_away(mini: MiniSet) -> None:
    for q in questions_of(mini):
        words = words_of(q.stem)
        assert set(q.meta["findings"]) <= words
        assert not words & {*chain_of(mini.world, q.meta["disease"], q.meta["kind"]), *q.options}


TRUTH = {
    "treated_with": lambda world: world.drug,
    "spread_by": lambda world: world.carrier,
    "blocks": lambda world: world.enzyme,
    "lives_near": lambda world: world.carrier_town,
    "known_for": lambda world: world.town_trade,
}


def is_true(world: World, fact: tuple[str, str, str]) -> bool:
    subject, relation, thing = fact
    if relation == "shows":
        return thing in world.findings[subject]
    return TRUTH[relation](world)[subject] == thing


def test_a_passage_states_its_facts_and_they_are_true(mini: MiniSet) -> None:
    assert mini.facts.keys() == {p.id for p in mini.passages}
    stating = 0
    for passage in mini.passages:
        words = words_of(passage.text)
        for fact in mini.facts[passage.id]:
            assert is_true(mini.world, fact) and {fact.subject, fact.object} <= words
        stating += bool(mini.facts[passage.id])
    assert 0.3 < stating / len(mini.passages) < 1.0, "there are distractors and there are facts"


def test_needed_facts_are_true_and_nearly_always_in_the_knowledge_base(mini: MiniSet) -> None:
    stated = set().union(*mini.facts.values())
    whole = 0
    for q in questions_of(mini):
        needed = mini.needed(q)
        assert all(is_true(mini.world, fact) for fact in needed)
        assert q.answer_text in {fact.object for fact in needed}
        assert len(needed) == {"carrier": 3, "drug": 3, "enzyme": 4}[q.meta["kind"]]
        whole += needed <= stated
    assert 0.9 * len(questions_of(mini)) <= whole


def test_rationales_find_more_of_what_is_needed_than_questions_do() -> None:
    mini = make_mini_medqa(2, "development", {"dev": 250})
    search, questions = BM25(mini.passages), mini.splits["dev"]
    told = ScriptedTeacher(mini).rationales(questions, 1, show_gold=True)

    def share(found: list[tuple[str, ...]]) -> float:
        stated = [set().union(*(mini.facts[i] for i in ids)) for ids in found]
        return sum(mini.needed(q) <= s for q, s in zip(questions, stated, strict=True)) / len(questions)

    by_question = {k: share([question_candidates(search, q, k).passages for q in questions]) for k in (1, 3, 10)}
    by_rationale = {k: share([rationale_candidates(search, r, k).passages for r in told]) for k in (1, 3, 10)}
    assert 0.3 < by_question[3] < 0.65
    assert all(by_rationale[k] > by_question[k] + 0.1 for k in (1, 3))
    assert by_question[1] <= by_question[3] <= by_question[10], "more passages cover more"
