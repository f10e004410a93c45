"""RoboInterVLM: fine-tune vision-language models on robot-manipulation questions, and evaluate any model on them.

One rule holds everywhere in the package: a coordinate is in pixels of the stored image, x to the right and y down. Any
other convention is a `core.coordinates.CoordinateFormat`, applied at two doors only: reading a dataset and talking to a
model. Importing the package needs neither torch nor files.
"""

__version__ = "0.1.0"
