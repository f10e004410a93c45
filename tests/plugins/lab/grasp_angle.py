"""Grasp angles: how far the gripper is turned, in degrees. An answer that fails counts as half a turn."""

from robointervlm.tasks.numbers import number_task

TASKS = (number_task("grasp_angle", unit="deg", penalty=180.0),)
