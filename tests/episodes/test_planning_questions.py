from collections import Counter
from dataclasses import replace

import pytest
from made_episodes import OBJECTS, PLACE, PLACED, numbered, segments

from robointervlm.core.reading import options_in
from robointervlm.episodes.questions import questions_about
from robointervlm.tasks.planning import KINDS, planning_kind

SUBTASKS = [subtask for subtask, _, _ in PLACE]
PRIMITIVES = [primitive for _, primitive, _ in PLACE]
# The last time step of each.
ENDS = [8, 11, 16, 22, 26, 29, 33]


def rows(episode, task):
    """The records of a planning task, with the time steps their pictures show."""
    made = questions_about(episode, ["a.png", "b.png", "c.png"], tasks=[task])
    return [(record, [made.moments[path] for path in record["images"]]) for record in made.records[task]]


def of_kind(kind, episodes=range(30)):
    task = next(known.family for known in KINDS if known.name == kind)
    found = [row for number in episodes for row in rows(numbered(number), task) if row[0]["kind"] == kind]
    assert found
    return found


def question(record):
    return record["conversations"][0]["value"].removeprefix("<image>" * 8 + "\n")


def test_every_published_kind_is_asked_and_named_by_its_id():
    found = set()
    for number in range(30):
        episode = numbered(number)
        for task in ("planning", "planning_choice", "planning_decide"):
            for record, _ in rows(episode, task):
                assert planning_kind(record["id"]).name == record["kind"]
                assert planning_kind(record["id"]).family == task == record["task"]
                found.add(record["kind"])
    assert found == {kind.name for kind in KINDS}


def test_a_question_shows_eight_frames_in_order_from_the_first_on():
    for task in ("planning", "planning_choice", "planning_decide"):
        for record, moments in rows(PLACED, task):
            assert len(set(moments)) == 8
            assert question(record).count("<image>") == 0
            if record["kind"] != "Temporal_Understanding":
                assert moments == sorted(moments)
                assert moments[0] == 0


@pytest.mark.parametrize("kind", ["Planning_Task", "Planning_with_Context_Task", "Generative_Affordance_Task"])
def test_the_next_step_is_the_one_after_the_last_frame(kind):
    for record, moments in of_kind(kind):
        assert record["gt"] == SUBTASKS[ENDS.index(moments[-1]) + 1]


def test_the_context_is_what_was_done_so_far():
    for record, moments in of_kind("Planning_with_Context_Task"):
        done = ", ".join(SUBTASKS[: ENDS.index(moments[-1]) + 1])
        assert f": {done}. " in question(record)


def test_the_remaining_steps_are_all_of_them_in_order():
    for record, moments in of_kind("Planning_Remaining_Steps_Task"):
        assert record["gt"].split(", ") == SUBTASKS[ENDS.index(moments[-1]) + 1 :]


def test_the_past_is_the_step_that_ends_with_the_last_frame():
    for record, moments in of_kind("Past_Description_Task"):
        assert record["gt"] == SUBTASKS[ENDS.index(moments[-1])]


def test_the_future_is_asked_while_the_step_before_it_is_done():
    for record, moments in of_kind("Future_Prediction_Task"):
        place = SUBTASKS.index(record["gt"])
        assert ([-1, *ENDS][place - 1] < moments[-1] <= ENDS[place - 1]) or moments[-1] == 7
        assert "red cube on" not in question(record)


@pytest.mark.parametrize(
    "kind, names, shift",
    [
        ("Past_Primitive_Selection", PRIMITIVES, 0),
        ("Future_Primitive_Selection", PRIMITIVES, 1),
        ("Future_Multi_task_Selection", SUBTASKS, 1),
    ],
)
def test_four_options_of_the_episode_are_each_right_at_their_own_moment(kind, names, shift):
    right = Counter()
    for record, moments in of_kind(kind):
        options = options_in(question(record))
        assert set(options.values()) <= set(names)
        assert options[record["gt"]] == names[ENDS.index(moments[-1]) + shift]
        right[options[record["gt"]]] += 1
    assert len(right) >= 6


def test_past_steps_are_mixed_with_those_of_another_thing():
    for record, moments in of_kind("Past_Multi_task_Selection"):
        options = options_in(question(record))
        assert options[record["gt"]] == SUBTASKS[ENDS.index(moments[-1])].replace("red cube", "red object")
        others = [option for option in options.values() if "red object" not in option]
        assert len(others) == 2
        (colour,) = {word for option in others for word in ("blue", "green", "yellow") if word in option}
        same = {option.replace(colour, "red") for option in others}
        assert same == {option for option in options.values() if "red object" in option}


def test_scenes_differ_in_two_colours_that_are_not_there():
    for record, _ in of_kind("Scene_Understanding"):
        options = {letter: set(option.split(", ")) for letter, option in options_in(question(record)).items()}
        right = options[record["gt"]]
        assert right == {*OBJECTS, "white plate"}
        assert sorted(len(option - right) for option in options.values()) == [0, 1, 1, 2]
        strange = set().union(*options.values()) - right
        assert {name.split()[0] for name in strange} == {"orange", "purple"}


def test_the_right_order_sorts_the_pictures_and_every_option_differs_from_two_others_by_one_exchange():
    for record, moments in of_kind("Temporal_Understanding"):
        orders = {k: [int(n) - 1 for n in v.split(", ")] for k, v in options_in(question(record)).items()}
        for letter, order in orders.items():
            shown = [moments[place] for place in order]
            assert (shown == sorted(shown)) == (letter == record["gt"])
            changes = sorted(sum(a != b for a, b in zip(order, other, strict=True)) for other in orders.values())
            assert changes == [0, 2, 2, 4]


def test_a_step_is_done_at_its_end_and_not_before_it_begins():
    for answer, kind in (("Yes", "Success_Positive_Task"), ("No", "Success_Negative_Task")):
        for record, moments in of_kind(kind):
            assert record["gt"] == answer
            named = [place for place, subtask in enumerate(SUBTASKS) if question(record).endswith(f"{subtask}?")]
            # "move to …" is never asked of; the whole task ends like its last step but one.
            if "put the red cube on the white plate?" in question(record) and moments[-1] == 33:
                assert answer == "Yes"
                continue
            assert moments[-1] == ENDS[named[0] - (answer == "No")]


def test_a_failed_task_is_not_done():
    failed = numbered(3, success=False, failure="missed_grasp")
    records = [record for record, _ in rows(failed, "planning_decide")]
    assert [(record["kind"], record["gt"]) for record in records] == [("Success_Negative_Task", "No")]


def test_what_needs_a_held_thing_is_possible_only_with_one():
    for record, moments in of_kind("Discriminative_Affordance_Negative_Task"):
        grasped = moments[-1] >= 11
        assert grasped == ("grasp the red cube" in question(record))
        assert record["gt"] == "No"
    for record, moments in of_kind("Discriminative_Affordance_Positive_Task"):
        place = ENDS.index(moments[-1]) + 1
        assert question(record).endswith(f"{SUBTASKS[place]}?")
        assert record["gt"] == "Yes"


def test_an_episode_of_three_primitives_has_too_few_to_choose_from():
    pushed = replace(
        PLACED, segments=segments([PLACE[0], ("push it", "push", 6), ("move away", "retreat", 5)]), steps=20
    )
    kinds = {record["kind"] for record, _ in rows(pushed, "planning_choice")}
    assert kinds == {"Scene_Understanding", "Temporal_Understanding"}


def test_an_episode_of_seven_steps_is_too_short_for_eight_frames():
    short = replace(
        PLACED, segments=segments([("move to the red cube", "reach", 4), ("grasp it", "grasp", 3)]), steps=7
    )
    for task in ("planning", "planning_choice", "planning_decide"):
        assert rows(short, task) == []
