"""How a question is put: the question types of the public release, by their names and in their words.

A style never names a model; a model family that was trained on a wording says so in its protocol card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from robointervlm.core.errors import RecipeError
from robointervlm.core.sample import IMAGE_MARKER

Style = Literal[
    "default", "qwen_grounding", "refindoor", "w2p", "robobrain", "robobrain_grounding", "robobrain_refindoor"
]

# The first four as in the release's evaluation_intermediate.py. It leaves "w2p" unimplemented: the Where2Place
# questions already ask for what they want. The others are of its baseline for RoboBrain, which calls the last two
# "qwen_grounding" and "refindoor" as well; "robobrain" is worded by each task (`WORDINGS`).
_TEMPLATES: dict[str, str] = {
    "default": "{question}",
    "qwen_grounding": (
        "Please provide the bounding box coordinate of the region this sentence describes: <ref>{question}</ref>"
    ),
    "refindoor": (
        "Give the box coordinates according to the instruction, Instruction: {question}, output the bbox coordinates."
    ),
    "w2p": "{question}",
    "robobrain": "{question}",
    "robobrain_grounding": "Locate the {question}, output the bbox coordinates.",
    "robobrain_refindoor": (
        "Give the box coordinates according to the instruction, Instruction: {question}, output the bbox coordinates "
        "in the format of [x1, y1, x2, y2]."
    ),
}

_GROUNDING = "Please provide the bounding box coordinate of the region this sentence describes: {about}."

GROUNDING: Mapping[str, str] = {"robobrain": _GROUNDING}
REFERRING: Mapping[str, str] = {"robobrain": _GROUNDING.format(about="{question}")}
GROUNDING_GRIPPER: Mapping[str, str] = {"robobrain": _GROUNDING.format(about="The gripper")}
TRAJECTORY: Mapping[str, str] = {
    "robobrain": (
        'You are a robot using the joint control. "{about}". Please predict up to 10 key trajectory points to complete '
        "the task. Your answer should be formatted as a list of tuples, i.e. [[x1, y1], [x2, y2], ...], where each "
        "tuple contains the x and y coordinates of a point."
    )
}
POINTING: Mapping[str, str] = {
    "robobrain": (
        "{question}. Your answer should be formatted as a list of tuples, i.e. [(x1, y1), (x2, y2), ...], where each "
        "tuple contains the x and y coordinates of a point satisfying the conditions above. The coordinates should "
        "indicate the normalized pixel locations of the points in the image."
    )
}
# Quotation marks have nothing of a word on their outer side; an apostrophe stands between two letters.
_QUOTED = re.compile(r"(?<!\w)'((?:[^']|(?<=\w)'(?=\w))+)'(?!\w)")


def styled(question: str, style: str, wordings: Mapping[str, str] | None = None) -> str:
    """The question put in a style; image markers in front of it stay in front of the whole text.

    `wordings` are a task's own, by style; they go before the style's. `{question}` in one is the whole question,
    `{about}` is what it is about: the second text in quotation marks, where the release's prompts have the object or
    the task, and the whole question where there are none.
    """
    if style not in _TEMPLATES:
        raise RecipeError(f"question type '{style}' is not known; one of: {', '.join(_TEMPLATES)}.")
    body = question.lstrip()
    markers = ""
    while body.startswith(IMAGE_MARKER):
        rest = body[len(IMAGE_MARKER) :]
        body = rest.lstrip("\n")
        markers += IMAGE_MARKER + rest[: len(rest) - len(body)]
    template = (wordings or {}).get(style, _TEMPLATES[style])
    if "{about}" in template:
        # The release counts quotation marks and ends at the first comma, with apostrophes and commas in the way.
        quoted = _QUOTED.findall(body)
        about = str(quoted[1]) if len(quoted) > 1 and IMAGE_MARKER not in body else body
        return markers + template.replace("{about}", about)
    return markers + template.replace("{question}", body)
