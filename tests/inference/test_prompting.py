"""A sample is put to a model in the numbers that this model writes, and refused where its image is another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.errors import DataError
from robointervlm.core.sample import ImageRef
from robointervlm.inference.prompting import refuse_other_size, space_of


class Halving:
    """A model that sees images in half their size and writes pixels of that."""

    coordinates = CoordinateFormat.RESIZED

    def processed_size(self, image: ImageSize) -> ImageSize:
        return ImageSize(image.width // 2, image.height // 2)


class Sized:
    """What of a sample its size is checked by."""

    images = (ImageRef(Path("root"), "a.png"),)

    def __init__(self, size: ImageSize | None) -> None:
        self.size = size


def test_the_space_of_a_model_is_of_the_stored_and_of_the_seen_size():
    space = space_of(Halving(), ImageSize(200, 100))
    assert space is not None
    assert (space.image, space.processed) == (ImageSize(200, 100), ImageSize(100, 50))
    assert space_of(Halving(), None) is None


def test_another_size_than_the_annotations_is_refused_with_both():
    with pytest.raises(DataError, match=r"says the picture is 200x100, a\.png is 100x200"):
        refuse_other_size(Sized(ImageSize(200, 100)), ImageSize(100, 200))


@pytest.mark.parametrize("known, stored", [(None, (1, 1)), ((3, 2), (3, 2)), ((3, 2), None)])
def test_an_unknown_or_equal_size_passes(known, stored):
    refuse_other_size(Sized(ImageSize(*known) if known else None), ImageSize(*stored) if stored else None)
