"""The published scorer of the planning questions: choices, yes or no, and plans by BLEU, told apart by the id."""

from __future__ import annotations

from typing import Literal

from robointervlm.evaluate.paper.answers import Record
from robointervlm.metrics.text import Bleu, published_bleu
from robointervlm.tasks.planning import KINDS, Family

PlanType = Literal["choice", "decide", "planning"]

_FAMILIES: dict[PlanType, Family] = {
    "choice": "planning_choice",
    "decide": "planning_decide",
    "planning": "planning",
}
# In the order of the published scorer, which takes the first that is anywhere in the id, case counting (trap 20).
PUBLISHED_KINDS = {
    kind: tuple(each.name for each in KINDS if each.family == family) for kind, family in _FAMILIES.items()
}


def plan_type(identifier: str) -> PlanType:
    """The type of a planning question by its id (`decide_task_type`); `ValueError` for an unknown one (trap 20)."""
    for kind, names in PUBLISHED_KINDS.items():
        if any(name in identifier for name in names):
            return kind
    raise ValueError("Unknown task type")


def score_planning(record: Record) -> tuple[PlanType, float, dict[str, float] | None]:
    """The published type and score of one planning record, and for a plan its BLEU values.

    `ValueError` for an unknown id, `AttributeError` for an answer that is None; both end the scoring of the whole file
    (trap 20).
    """
    kind = plan_type(record["id"])
    predicted = record["pred"].split("\n")[-1].lower()  # trap 17: only the last line, even if it is empty
    reference = record["gt"].lower()
    if kind == "planning":
        bleu = bleu_values(published_bleu(predicted, reference))
        return kind, bleu["score"], bleu
    correct = predicted == reference
    if kind == "choice":
        correct = reference in predicted or predicted in reference  # trap 18
    elif reference in ("yes", "no"):
        correct = _yes_or_no(predicted) == reference
    return kind, float(correct), None


def _yes_or_no(predicted: str) -> str:
    """Trap 19: "yesterday" is yes, "unknown" is no, and true and false are neither."""
    return next((word for word in ("yes", "no") if word in predicted), predicted)


def bleu_values(bleu: Bleu) -> dict[str, float]:
    """BLEU as the published scorers return it: `score` is the mean of the four."""
    return {"score": bleu.mean, **bleu._asdict()}
