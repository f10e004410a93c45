"""Evaluates language understanding: `python evaluation_intermediate_lang.py --help`."""

import sys
from pathlib import Path
from runpy import run_path

try:
    from robointervlm.compat.scripts import evaluate, script
except ModuleNotFoundError:
    run_path(str(Path(__file__).resolve().parents[3] / "requirements/not_installed.py"), run_name=__name__)

if __name__ == "__main__":
    script(evaluate, sys.argv[1:], Path(__file__).resolve().parent, language=True)
