"""Letters, yes and no, and texts out of texts."""

import pytest

from robointervlm.core.answer import Choice, Text, Unparsed, YesNo
from robointervlm.core.reading import options_in, read_choice, read_text, read_yes_no, without_question


def letter_in(text, options=None):
    answer = read_choice(text, options).answer
    return answer.letter if isinstance(answer, Choice) else None


def yes_in(text):
    answer = read_yes_no(text).answer
    return answer.yes if isinstance(answer, YesNo) else None


@pytest.mark.parametrize(
    "text, letter, tier",
    [
        ("B", "B", "alone"),
        ("b", "B", "alone"),
        ("B.", "B", "alone"),
        ("(b)", "B", "alone"),
        ("**B**", "B", "alone"),
        ("Option B", "B", "alone"),
        ("Ｂ", "B", "alone"),  # noqa: RUF001
        ("\\boxed{B}", "B", "alone"),
        ("$\\boxed{\\text{B}}$", "B", "alone"),
        ("B\n\nExplanation: option A would drop it.", "B", "alone"),
        ("<think>A? No.</think>\nB", "B", "alone"),
        ("user\nOptions: A, B, C, D. Answer with the letter.\nassistant\nB", "B", "alone"),
        ("B. pick up the cup", "B", "leading"),
        ("B) left, since A is too far", "B", "leading"),
        ("Option B: move left", "B", "leading"),
        ("B - the first", "B", "leading"),
        ("**B.** It is closer", "B", "leading"),
        ("B. " + "The robot moves slowly over the table. " * 10, "B", "leading"),
        ("The answer is B.", "B", "statement"),
        ("The answer is B because the cup is closer.", "B", "statement"),
        ("Answer: A. Wait, no. Answer: B", "B", "statement"),
        ("I first thought A, but it is B.", "B", "statement"),
        ("A. x\nB. y\nThe answer is B", "B", "statement"),
        ("Of the options, A shows the arm and C the cup. So I choose B", "B", "statement"),
        ("The correct option is (B) because", "B", "statement"),
        ("option (B) is correct", "B", "statement"),
        ("It is B, not A", "B", "statement"),
        ("The answer is B. It cannot be A.", "B", "statement"),
        ('{"answer": "B"}', "B", "statement"),
        ("答案是Ｂ。", "B", "statement"),  # noqa: RUF001
        ("选B", "B", "statement"),
        ("B, not D", "B", "leading"),
        ("A is wrong. B is better.", "B", "statement"),
        ("Not A but B", "B", "mention"),
        ("The grasp shown in B", "B", "mention"),
    ],
)
def test_the_letter_that_is_the_answer_is_read(text, letter, tier):
    reading = read_choice(text)
    assert (reading.answer, reading.tier) == (Choice(letter), tier)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "All",
        "Both",
        "Grab the Apple",
        "None of the above",
        "A, B, C or D",
        "A or B",
        "Both A and B",
        "The answer is A or B",
        "B. pick up\nC. put down",
        "A robot moves the cup",
        "The answer is a cup",
        "The answer is not A",
        "I would not choose A",
        "I think I see a car",
        "Z",
        "e.g.",
        "<think>The answer is B",
    ],
)
def test_a_text_that_chooses_nothing_is_unparsed_and_never_a_substring(text):
    reading = read_choice(text)
    assert isinstance(reading.answer, Unparsed)
    assert reading.answer.reason


def test_the_words_of_an_option_count_as_its_letter():
    options = {"A": "Pick up the cup", "B": "Put down the cup."}
    assert letter_in("put down the cup", options) == "B"
    assert letter_in("The answer is: Put down the cup.", options) == "B"
    assert letter_in("It would put down the cup and leave", options) is None
    assert letter_in("pick", options) is None


@pytest.mark.parametrize(
    "question, options",
    [
        ("Which?\nA. left\nB. right\nAnswer with a letter.", {"A": "left", "B": "right"}),
        ("Which? A) move left B) move right", {"A": "move left", "B": "move right"}),
        ("(A) one, (B) two, (C) three", {"A": "one", "B": "two", "C": "three"}),
        ("A: up\nB: down", {"A": "up", "B": "down"}),
        ("A：上\nB：下", {"A": "上", "B": "下"}),  # noqa: RUF001
        ("A.up B.down", {"A": "up", "B": "down"}),
        ("Not A. This: A. left\nB. right", {"A": "left", "B": "right"}),
        ("Is it A. left?", {}),
        ("B. left\nC. right", {}),
        ("A. left\nC. right", {}),
        ("Answer A or B.", {}),
        ("", {}),
    ],
)
def test_the_options_of_a_question_are_the_last_list_that_begins_with_a(question, options):
    assert options_in(question) == options


def test_a_question_in_front_of_an_answer_is_taken_off_but_not_one_of_a_few_letters():
    question = "<image>\nWhere is the red cup now?"
    assert without_question("Where is the red cup now? [1, 2]", question) == (" [1, 2]", True)
    assert without_question("The cup is at [1, 2]", question) == ("The cup is at [1, 2]", False)
    assert without_question("A cup", "A") == ("A cup", False)
    assert without_question("A cup", "") == ("A cup", False)


def test_a_letter_that_is_no_option_is_no_answer():
    assert letter_in("D", {"A": "left", "B": "right"}) is None
    assert letter_in("I", None) is None


@pytest.mark.parametrize(
    "text",
    [
        "Yes",
        "yes.",
        "YES",
        "ＹＥＳ",  # noqa: RUF001
        "**Yes**",
        "True",
        "1",
        "Yes, there is no obstacle.",
        "Yes it does",
        "No. Wait, yes.",
        "Now it is touching, so Yes",
        "Answer: Yes\nExplanation: there is no gap.",
        "The answer is Yes because it touches.",
        "I'm not sure, but yes.",
        '{"answer": "Yes"}',
        "<answer>Yes</answer>",
        "<think>No, no, no</think>Yes",
        "user\nAnswer Yes or No.\nassistant\nYes",
        "是",
        "是的，接触了",  # noqa: RUF001
        "答案：是",  # noqa: RUF001
        "有",
        "Y",
        "It does.",
        "Certainly",
        "The statement is true because they touch",
        "The answer should be 'Yes'",
        "接触了，所以是",  # noqa: RUF001
        "我认为是的",
        "成立",
        "No... Actually, yes.",
    ],
)
def test_yes_is_read_in_any_wording(text):
    assert yes_in(text) is True


@pytest.mark.parametrize(
    "text",
    [
        "No",
        "no",
        "No.",
        "False",
        "0",
        "No, that was yesterday",
        "No. " + "The robot gripper moves slowly over the table. " * 5,
        "No contact yet",
        "The answer is no.",
        "That is not true.",
        "I don't think so. No.",
        "Yes. Wait, no.",
        "否",
        "不是",
        "没有",
        "没有接触",
        "答案：否",  # noqa: RUF001
        "n",
        "It isn't.",
        "Not at all",
        "Definitely not",
        "Of course not.",
        "No way",
        "I know the answer: no",
        "答案是否",
        "答案是否定的",
        "并没有",
        "未接触",
        "无",
        "不，没有",  # noqa: RUF001
    ],
)
def test_no_is_read_in_any_wording(text):
    assert yes_in(text) is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "e",
        "Not sure",
        "I am not sure",
        "Yes. I am not sure",
        "unknown",
        "know",
        "Nothing is touched",
        "It is now",
        "Yes or No",
        "yes/no",
        "No idea",
        "I cannot determine that",
        "It is not possible to say yes or no",
        "不确定",
        "不一定",
        "是否",
        "能否",
        "否则",
        "对面",
        "有点难说",
        "不同",
        "make sure",
        "I'm sure",
        "no-one",
        "a yes-man",
        "There's no way to tell",
        "It does not touch the cup",  # whether that is a no depends on the question
        "<think>Yes",
    ],
)
def test_what_is_neither_yes_nor_no_is_unparsed(text):
    assert yes_in(text) is None


def test_an_echoed_prompt_is_noted_and_never_an_answer():
    assert read_yes_no("user\nAnswer Yes or No.\nassistant\nNo").notes == ("after an echoed prompt",)
    assert read_choice("user\nAnswer A or B.\nassistant\nB").notes == ("after an echoed prompt",)
    for read in (read_yes_no, read_choice, read_text):
        for prompt in ("system\nBe brief.\nuser\nThe answer is B: yes?", "user\nThe answer is B: yes?\nassistant\n"):
            assert "only the prompt" in read(prompt).answer.reason


def test_a_text_is_itself_without_its_thinking():
    assert read_text(" Pick up 2 cups at [1, 2].\n").answer == Text("Pick up 2 cups at [1, 2].")
    assert read_text("<think>hm</think>Put it down").answer == Text("Put it down")
    assert isinstance(read_text(" \n").answer, Unparsed)
