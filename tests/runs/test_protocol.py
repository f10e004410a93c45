"""What makes two results comparable, and what is said where they are not."""

from __future__ import annotations

import pytest

from robointervlm.runs.protocol import AskedQuestion, differences, protocol_of

YES = {"yes_no": True}


def protocol(*questions, style="default", decoding=None, metrics=("Accuracy",)):
    asked = [AskedQuestion("contact_decide", name, answer, (10, 10)) for name, answer in questions]
    return protocol_of(asked, {"contact_decide": list(metrics)}, style=style, decoding=decoding or {})


def test_the_same_questions_in_any_order_are_the_same_protocol():
    assert protocol(("a", YES), ("b", YES)) == protocol(("b", YES), ("a", YES))
    assert differences(protocol(("a", YES)), protocol(("a", YES))) == []


def test_a_question_asked_twice_is_another_protocol():
    assert protocol(("a", YES), ("a", YES))["hash"] != protocol(("a", YES))["hash"]


def test_a_lists_size_is_the_size_of_a_tuple():
    asked = [AskedQuestion("t", "a", YES, size) for size in ((10, 20), [10, 20])]
    one, other = (protocol_of([each], {"t": []}, style="", decoding={}) for each in asked)
    assert one == other


@pytest.mark.parametrize(
    "changed, said",
    [
        (protocol(("a", YES), style="refindoor"), "prompt style: default / refindoor"),
        (protocol(("a", YES), decoding={"temperature": 0.7}), "decoding: not known / temperature=0.7"),
        (protocol(("a", {"yes_no": False})), "contact_decide: 1 other questions, references or picture sizes"),
        (protocol(("a", YES), ("b", YES)), "contact_decide: 1 questions / 2 questions"),
        (protocol(("a", YES), metrics=("F1",)), "metrics of contact_decide: Accuracy / F1"),
        (protocol(), "contact_decide: asked / not asked"),
        ({**protocol(("a", YES)), "edition": 7}, "scoring edition: 1 / 7"),
    ],
)
def test_what_differs_is_named(changed, said):
    assert differences(protocol(("a", YES)), changed) == [said]


def test_only_the_tasks_that_are_looked_at_count():
    assert differences(protocol(("a", YES)), protocol(), tasks=["traj"]) == []


def test_the_seed_counts_only_where_something_is_drawn():
    greedy = [protocol(("a", YES), decoding={"temperature": 0.0, "seed": seed}) for seed in (0, 1)]
    drawn = [protocol(("a", YES), decoding={"temperature": 0.5, "seed": seed}) for seed in (0, 1)]
    assert greedy[0] == greedy[1]
    assert differences(*drawn) == ["decoding: seed=0 temperature=0.5 / seed=1 temperature=0.5"]
