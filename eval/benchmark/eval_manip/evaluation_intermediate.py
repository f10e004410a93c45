"""Evaluates boxes, grippers, trajectories and choices: `python evaluation_intermediate.py --help`."""

import sys
from pathlib import Path

from robointervlm.cli.documented import evaluate, script

if __name__ == "__main__":
    script(evaluate, sys.argv[1:], Path(__file__).resolve().parent, language=False)
