"""Recordings in the LeRobot layout, v2.1 and v3.0, as episodes: what is on disk, which column means what, and pictures."""
