"""Scores the published prediction files of boxes, trajectories and choices: `python generation.py --help`."""

import sys
from pathlib import Path
from runpy import run_path

try:
    from robointervlm.compat.scores import score_generation
    from robointervlm.compat.scripts import script
except ModuleNotFoundError:
    run_path(str(Path(__file__).resolve().parents[4] / "requirements/not_installed.py"), run_name=__name__)

if __name__ == "__main__":
    script(score_generation, sys.argv[1:])
