"""What a notebook says about single rationales: where their names come from, and whether they say what is false."""

from __future__ import annotations

import numpy as np
import pytest
from constructed import answer, experiment_on

from kardlib.announcements import words_of
from kardlib.explore import sources_of_names
from kardlib.hallucination import says_false
from kardlib.mini import MiniSet, make_mini_medqa
from kardlib.names import is_name

NAME = "KARD (BM25)"


@pytest.fixture(scope="module")
def mini() -> MiniSet:
    return make_mini_medqa(3, "development", {"train": 6, "dev": 2, "test": 4})


def test_a_name_comes_from_what_was_read_else_from_the_options_else_from_the_weights(mini: MiniSet) -> None:
    question = mini.splits["test"][0]
    shown = next(p for p in mini.passages if question.options[0] in p.text)
    unread = next(o for o in question.options if o not in shown.text)
    asked = next(word for word in words_of(question.stem) if is_name(word))
    rationale = f"{asked} {question.options[0]} {unread} patvosis and so on"
    one = answer(question, NAME, 0, rationale=rationale, passages=(shown.id,))
    counts = sources_of_names(experiment_on(mini, [one]), [one])
    assert counts == {"passages": 1, "options": 1, "weights": 1}, "and a name of the stem counts nowhere"


def test_a_rationale_is_false_where_the_knowledge_base_says_otherwise(mini: MiniSet) -> None:
    fact = next(f for facts in mini.facts.values() for f in facts if f.relation == "treated_with")
    other = next(f.object for facts in mini.facts.values() for f in facts
                 if f.relation == "treated_with" and f.object != fact.object)  # fmt: skip
    texts = [f"{fact.subject} is treated with {name}." for name in (fact.object, other)]
    rows = [[answer(q, NAME, 0, seed=seed, rationale=texts[(seed + i) % 2]) for i, q in enumerate(mini.splits["test"])]
            for seed in (0, 1)]  # fmt: skip
    found = says_false(experiment_on(mini, [p for run in rows for p in run], seeds=(0, 1)), NAME, (0, 1))
    order = np.argsort([q.id for q in mini.splits["test"]])
    assert found.tolist() == [[float((seed + i) % 2) for i in order] for seed in (0, 1)]
