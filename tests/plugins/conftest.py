"""What tests of plugins share: the package of somebody else, and pictures with grasp angles."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robointervlm.core import plugins

LAB = Path(__file__).parent / "lab"
ANGLES = (10, 20, 30, 40, 50, 60)


@pytest.fixture
def lab() -> Path:
    return LAB


@pytest.fixture
def grasps(tmp_path) -> Path:
    """A catalog with `grasps_train` and `grasps_val`: six pictures each, asked for the angle of the grasp."""
    for split in ("train", "val"):
        records = []
        for number, angle in enumerate(ANGLES):
            name = f"{split}{number}.png"
            Image.fromarray(np.full((56, 84, 3), 40 * number, dtype=np.uint8)).save(tmp_path / name)
            conversation = [
                {"from": "human", "value": "<image>\nHow far is the gripper turned?"},
                {"from": "gpt", "value": json.dumps({"grasp_angle": angle})},
            ]
            records.append({"id": f"{split}{number}", "conversations": conversation, "images": name, "h": 56, "w": 84})
        (tmp_path / f"{split}.json").write_text(json.dumps(records))
    (tmp_path / "catalog.yaml").write_text(
        "root: .\n"
        "grasps_train: {task: grasp_angle, annotations: train.json}\n"
        "grasps_val: {task: grasp_angle, annotations: val.json, split: val}\n"
    )
    return tmp_path / "catalog.yaml"


@pytest.fixture
def no_plugins():
    """Takes back what a test loads into this process."""
    before = os.environ.get(plugins.VARIABLE)
    yield
    os.environ.pop(plugins.VARIABLE, None)
    if before is not None:
        os.environ[plugins.VARIABLE] = before
    plugins.of_entry_points.cache_clear()
