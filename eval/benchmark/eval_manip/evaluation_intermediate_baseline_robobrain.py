"""Evaluates RoboBrain models: `python evaluation_intermediate_baseline_robobrain.py --help`."""

import sys
from pathlib import Path
from runpy import run_path

try:
    from robointervlm.compat.baselines import evaluate_baseline
    from robointervlm.compat.scripts import script
except ModuleNotFoundError:
    run_path(str(Path(__file__).resolve().parents[3] / "requirements/not_installed.py"), run_name=__name__)

if __name__ == "__main__":
    script(evaluate_baseline, sys.argv[1:], Path(__file__).resolve().parent, name="robobrain")
