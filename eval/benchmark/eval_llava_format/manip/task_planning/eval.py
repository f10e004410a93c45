"""Scores prediction files of the task-planning questions: `python eval.py --help`."""

import sys
from pathlib import Path
from runpy import run_path

try:
    from robointervlm.compat.scores import score_planning_files
    from robointervlm.compat.scripts import script
except ModuleNotFoundError:
    run_path(str(Path(__file__).resolve().parents[5] / "requirements/not_installed.py"), run_name=__name__)

if __name__ == "__main__":
    script(score_planning_files, sys.argv[1:])
