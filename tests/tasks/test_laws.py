"""Laws of the strict column: the right answer is best, no failure is better than an answer, and no loss helps."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.core.answer import Unparsed
from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.core.metric import charged
from robointervlm.tasks import task_named

SIZE = ImageSize(320, 180)
PIXELS = Space.pixels(SIZE)
GARBAGE = ["", " \n", "[]", "{}", "null", "I cannot see it.", "???", "<think>B", "[[", "nan, nan, nan, nan"]


def costs(task, reply, reference):
    """What each metric says of a reply, lower being better: a failure costs the worst value or the penalty.

    A reply of None is a question without an answer: a model that failed, or a record that was dropped.
    """
    wanted = task.read(reference, PIXELS)
    answer = Unparsed("", "no reply") if reply is None else task.read(reply, PIXELS)
    found = []
    for metric in task.metrics:
        value = None if isinstance(answer, Unparsed) else metric.measure(answer, wanted, SIZE)
        if metric.worst is None:
            found.append(charged(value, metric.penalty(wanted, SIZE)))
        else:
            found.append(-(metric.worst if value is None else value))
    return found


def places(count):
    point = st.tuples(st.integers(0, 320), st.integers(0, 180)).map(list)
    return st.lists(point, min_size=count, max_size=count)


real_box = places(2).filter(lambda corners: corners[0][0] != corners[1][0] and corners[0][1] != corners[1][1])
letter = st.sampled_from("ABCD")
words = st.lists(st.sampled_from(["pick", "up", "the", "cup", "again"]), min_size=1, max_size=6).map(" ".join)
REFERENCES = {
    "current_box": real_box.map(lambda corners: json.dumps({"current_bbox": corners})),
    "grounding": real_box.map(lambda corners: json.dumps({"bbox_2d": corners})),
    "contact_point": places(2).map(lambda points: json.dumps({"contact_point": points})),
    "traj": places(10).map(lambda points: json.dumps({"future_traj": points})),
    "traj_choice": letter,
    "contact_decide": st.sampled_from(["Yes", "No"]),
    "planning": words,
    "planning_choice": st.one_of(letter, words),
    "planning_decide": st.sampled_from(["yes", "no", "graspable"]),
    "chat": words,
}
law = pytest.mark.parametrize("name", REFERENCES)


@law
@given(data=st.data())
def test_no_reply_is_better_than_the_reference(name, data):
    task, reference = task_named(name), data.draw(REFERENCES[name])
    reply = data.draw(st.one_of(REFERENCES[name], st.sampled_from(GARBAGE), st.text(max_size=30)))
    best = costs(task, reference, reference)
    assert all(right <= other + 1e-9 for right, other in zip(best, costs(task, reply, reference), strict=True))


@law
@given(data=st.data())
def test_the_reference_has_the_best_value_there_is(name, data):
    task, reference = task_named(name), data.draw(REFERENCES[name])
    for metric, cost in zip(task.metrics, costs(task, reference, reference), strict=True):
        assert cost == pytest.approx(0 if metric.worst is None else -1), metric.name


@law
@given(data=st.data())
def test_putting_nothing_or_garbage_for_a_reply_never_helps(name, data):
    task, reference = task_named(name), data.draw(REFERENCES[name])
    reply = data.draw(st.one_of(REFERENCES[name], st.text(max_size=30)))
    before = costs(task, reply, reference)
    for garbage in [None, *GARBAGE]:
        after = costs(task, garbage, reference)
        assert all(lost >= kept - 1e-9 for lost, kept in zip(after, before, strict=True)), garbage


@law
@given(data=st.data())
def test_a_reply_that_fails_costs_as_much_as_no_reply(name, data):
    task, reference = task_named(name), data.draw(REFERENCES[name])
    nothing = costs(task, None, reference)
    assert all(cost == nothing for cost in (costs(task, empty, reference) for empty in ("", " \n", "<think>B")))
    assert all(cost in {0, -0.0} or cost > 100 for cost in nothing)  # the worst value, or a diagonal of 367 pixels
