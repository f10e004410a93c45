"""Pictures of any moment of a simulated episode."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from robointervlm.episodes.sim.motion import Motion
from robointervlm.episodes.sim.render import render
from robointervlm.episodes.sim.scene import Scene
from robointervlm.episodes.sim.simulate import pose_of
from robointervlm.episodes.sim.stage import Stage


def film(scene: Scene, motion: Motion, moments: Collection[int]) -> dict[int, NDArray[np.uint8]]:
    """The pictures of these time steps.

    The arm goes through all steps up to the last one wanted, so that a picture does not depend on which others are.
    """
    pictures: dict[int, NDArray[np.uint8]] = {}
    if not moments:
        return pictures
    stage = Stage(scene)
    for index in range(max(moments) + 1):
        stage.pose(pose_of(motion, index))
        if index in moments:
            pictures[index] = render(stage).rgb
    return pictures
