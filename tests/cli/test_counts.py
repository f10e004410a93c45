"""Token lengths in classes, as `stats --model` shows them."""

from __future__ import annotations

import numpy as np
import pytest

from robointervlm.cli.data.counts import _classes


@pytest.mark.parametrize(
    "tokens, classes",
    [
        ([], {}),
        ([7], {"7": 1}),
        # 40 lengths in 20 classes of two, of which those after the third are empty up to the last.
        ([10, 11, 12, 13, 14, 49], {"10": 2, "12": 2, "14": 1, **{str(n): 0 for n in range(16, 48, 2)}, "48": 1}),
    ],
)
def test_every_length_is_in_a_class_of_whole_tokens(tokens, classes):
    assert _classes(np.array(tokens, dtype=np.int32)) == classes
