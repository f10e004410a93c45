"""A simulated tabletop: random scenes, a scripted arm, pictures cast ray by ray, and labels from the same rays.

Physics is kinematic on purpose: a grasped object follows the gripper, a released one stands where it was put. What has
to be right is the geometry, because the labels are read from it. Needs the extra ``sim`` (mujoco), nothing else.
"""
