"""Answerers that never see a picture find every leak that is planted, and none in our questions."""

from __future__ import annotations

from collections import Counter, defaultdict
from multiprocessing import get_context

import numpy as np
import pytest
from blind import blind
from made_episodes import balanced

from robointervlm.core.coordinates import ImageSize
from robointervlm.episodes.questions import questions_about
from robointervlm.episodes.sim.simulate import SimConfig, simulate

WORDS = ("cup", "ball", "plate", "brick", "bowl", "cube")


def choice(rng, right, others, question="Which one?"):
    letter = int(rng.integers(4))
    options = [others[i] for i in rng.permutation(3)]
    options.insert(letter, right)
    listed = "\n".join(f"{name}. {option}" for name, option in zip("ABCD", options, strict=True))
    return {"conversations": [{"value": f"<image>\n{question}\n{listed}"}], "gt": "ABCD"[letter]}


def halves(make, count=400):
    rng = np.random.default_rng(1)
    records = [make(rng) for _ in range(count)]
    return records[: count // 2], records[count // 2 :]


def four(rng):
    return [WORDS[i] for i in rng.permutation(len(WORDS))[:4]]


def test_options_drawn_alike_tell_nothing():
    found = blind(*halves(lambda rng: choice(rng, (words := four(rng))[0], words[1:]), 2000))
    assert found.asked == 1000
    assert found.chance == 0.25
    assert found.farthest < 0.05


def test_a_word_that_is_always_right_is_found():
    found = blind(*halves(lambda rng: choice(rng, "cup", [word for word in four(rng) if word != "cup"][:3])))
    assert found.options == 1.0


def test_the_longest_option_is_found():
    def make(rng):
        words = four(rng)
        return choice(rng, f"{words[0]} and {words[0]} again", words[1:])

    assert blind(*halves(make)).options == 1.0


def test_the_option_that_has_most_in_common_with_the_others_is_found():
    def make(rng):
        one, two, three, other = four(rng)
        return choice(
            rng, f"{one} {two} {three}", [f"{other} {two} {three}", f"{one} {other} {three}", f"{one} {two} x"]
        )

    assert blind(*halves(make)).options > 0.6


def test_the_option_that_the_question_names_is_found():
    def make(rng):
        words = four(rng)
        return choice(rng, words[0], words[1:], f"Task: take the {words[0]}.")

    assert blind(*halves(make)).options == 1.0


def test_wordings_that_go_with_an_answer_are_found():
    def make(rng):
        yes = bool(rng.integers(2))
        return {"conversations": [{"value": "Is it?" if yes else "Is it not?"}], "gt": "Yes" if yes else "No"}

    found = blind(*halves(make))
    assert (found.chance, found.words, found.options) == (0.5, 1.0, None)


def test_a_frequent_answer_is_found():
    rows = [{"conversations": [{"value": "Is it?"}], "gt": "Yes" if n % 4 else "No"} for n in range(80)]
    assert blind(rows, rows).majority == 0.75


TRAIN, VAL = 600, 900
SMALL = SimConfig(size=ImageSize(98, 56))


def labelled(number):
    return simulate(21, number, SMALL)


def by_kind(episodes, split):
    """All questions with letters or yes and no by task, of planning by kind; what a build keeps of them."""
    rows, wanted = defaultdict(list), defaultdict(list)
    for episode in episodes:
        made = questions_about(episode, [f"{frame.index}.png" for frame in episode.frames], split=split)
        for task, records in made.records.items():
            rows[task] += records
            wanted[task] += made.balances[task]
    kinds = defaultdict(list)
    for task, records in rows.items():
        for record, keep in zip(records, balanced(wanted[task]), strict=True):
            if keep and record["gt"] in {"A", "B", "C", "D", "Yes", "No"}:
                kinds[record.get("kind", task).replace("_Positive_Task", "").replace("_Negative_Task", "")].append(
                    record
                )
    return kinds


@pytest.mark.slow
def test_without_the_picture_every_choice_and_decision_is_a_guess():
    with get_context("spawn").Pool(2) as pool:
        numbers = [*range(TRAIN), *range(1_000_000, 1_000_000 + VAL)]
        episodes = pool.map(labelled, numbers, chunksize=50)
    train, val = by_kind(episodes[:TRAIN], "train"), by_kind(episodes[TRAIN:], "val")
    assert len(val) == 17
    for kind, records in val.items():
        found = blind(train[kind], records)
        counts = Counter(record["gt"] for record in records)
        assert found.asked >= 500, kind
        assert found.farthest <= 0.03, (kind, found)
        assert all(abs(count / len(records) - found.chance) <= 0.03 for count in counts.values()), (kind, counts)
