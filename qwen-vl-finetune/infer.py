"""Asks a model one question: `python infer.py --model_type qwen --model_path DIR --prompt TEXT --images FILE…`"""

import sys
from pathlib import Path
from runpy import run_path

try:
    from robointervlm.compat.scripts import infer, script
except ModuleNotFoundError:
    run_path(str(Path(__file__).resolve().parents[1] / "requirements/not_installed.py"), run_name=__name__)

if __name__ == "__main__":
    script(infer, sys.argv[1:])
