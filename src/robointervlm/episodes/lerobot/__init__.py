"""Recordings in the LeRobot layout, v2.1 and v3.0, as episodes: files, which column means what, and pictures."""
