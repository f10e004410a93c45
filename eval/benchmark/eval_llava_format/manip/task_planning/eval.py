"""Scores prediction files of the task-planning questions: `python eval.py --help`."""

import sys

from robointervlm.cli.documented import script
from robointervlm.cli.documented_scores import score_planning_files

if __name__ == "__main__":
    script(score_planning_files, sys.argv[1:])
