"""Arrays whose entries have fields, as detections are stored in, read out of pickles."""

import pickle

import numpy as np
import pytest

from robointervlm.core.errors import DataError, RefusedError
from robointervlm.data.pickles import read_pickle

BOXES = np.array([(7, 1.5), (9, -2.0)], dtype=[("label", "<u4"), ("x", "<f4")])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_an_array_of_records_keeps_its_fields(protocol):
    read = read_pickle(pickle.dumps(BOXES, protocol=protocol), "it")
    assert read.dtype.names == ("label", "x")
    assert read.tolist() == [(7, 1.5), (9, -2.0)]


def test_records_may_have_gaps_between_their_fields():
    spaced = np.zeros(2, np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i4"], "offsets": [0, 12], "itemsize": 20}))
    spaced["b"] = [3, 4]
    assert read_pickle(pickle.dumps(spaced), "it").tolist() == [(0, 3), (0, 4)]


def test_a_field_that_leads_out_of_its_record_is_damage():
    content = pickle.dumps(BOXES, protocol=2)
    # The second field begins at byte 4: `K\x04\x86`, a number and the pair it ends. The record has 8 bytes.
    assert content.count(b"K\x04\x86") == 1
    with pytest.raises((DataError, RefusedError)):
        read_pickle(content.replace(b"K\x04\x86", b"K\x30\x86"), "it")


def test_records_of_objects_are_refused():
    with pytest.raises(RefusedError, match="plain numbers and texts"):
        read_pickle(pickle.dumps(np.array([(1,)], dtype=[("a", "O")])), "it")
