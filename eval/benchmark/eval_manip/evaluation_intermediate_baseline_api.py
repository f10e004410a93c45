"""Evaluates models behind an API: `python evaluation_intermediate_baseline_api.py --help`."""

import sys
from pathlib import Path

from robointervlm.cli.documented import script
from robointervlm.cli.documented_baselines import evaluate_baseline

if __name__ == "__main__":
    script(evaluate_baseline, sys.argv[1:], Path(__file__).resolve().parent, name="api")
