"""Scores the published prediction files of boxes, trajectories and choices: `python generation.py --help`."""

import sys

from robointervlm.cli.documented import script
from robointervlm.cli.documented_scores import score_generation

if __name__ == "__main__":
    script(score_generation, sys.argv[1:])
