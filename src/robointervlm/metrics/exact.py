"""Whether an answer is the reference: letters, yes and no, words."""

from __future__ import annotations

from robointervlm.core.answer import Answer, Text
from robointervlm.core.coordinates import ImageSize


def exact(predicted: Answer, reference: Answer, _image: ImageSize | None = None) -> float:
    """1 if both are the same answer, else 0; in texts, white space counts as one space and not at all at the ends."""
    if isinstance(predicted, Text) and isinstance(reference, Text):
        return float(predicted.text.split() == reference.text.split())
    return float(predicted == reference)
