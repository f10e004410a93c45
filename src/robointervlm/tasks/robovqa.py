"""RoboVQA: free-text questions about several frames, among them such that are answered by yes or no.

The headline is the mean of BLEU-1 to BLEU-4; `Exact` says how many answers are the reference: for a reference of yes or
no, whether the answer says the same in any wording. Source of the data: Sermanet et al. 2024.
"""

from __future__ import annotations

from functools import partial

from robointervlm.core.answer import Answer, Text
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.reading import read_yes_no
from robointervlm.core.writing import write_answer
from robointervlm.metrics.standard import exact
from robointervlm.metrics.text import strict_bleu
from robointervlm.tasks.task import Metric, Task, text_reading

_YES_NO = {"yes": True, "no": False}


def _bleu(predicted: Answer, reference: Answer, _image: ImageSize | None) -> float:
    assert isinstance(predicted, Text)
    assert isinstance(reference, Text)
    return strict_bleu(predicted.text, reference.text).mean


def _bleu_of_order(order: int, predicted: Answer, reference: Answer, _image: ImageSize | None) -> float:
    assert isinstance(predicted, Text)
    assert isinstance(reference, Text)
    return strict_bleu(predicted.text, reference.text)[order - 1]


def _exact(predicted: Answer, reference: Answer, image: ImageSize | None) -> float:
    assert isinstance(predicted, Text)
    assert isinstance(reference, Text)
    wanted = _YES_NO.get(reference.text.strip(" .").lower())
    if wanted is None:
        return exact(predicted, reference, image)
    said = read_yes_no(predicted.text).answer
    return float(getattr(said, "yes", None) is wanted)


TASKS = (
    Task(
        name="robovqa",
        reading=text_reading,
        write=write_answer,
        metrics=(
            Metric("BLEU", "higher", _bleu, "share", worst=0.0),
            *(
                Metric(f"BLEU-{order}", "higher", partial(_bleu_of_order, order), "share", worst=0.0)
                for order in (1, 2, 3, 4)
            ),
            Metric("Exact", "higher", _exact, "share", worst=0.0),
        ),
        file_stems=("robovqa", "robovqa_val"),
        max_new_tokens=256,
        column="RoboVQA",
    ),
)
