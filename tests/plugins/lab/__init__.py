"""A package of somebody else, as `--plugin` takes it: a task, a model family and an answer type."""

from . import constant, needle
from .grasp_angle import TASKS as ANGLES

TASKS = (*ANGLES, *needle.TASKS)
MODELS = {"constant": constant}
