"""Turns annotated frames into datasets; the same as `robointer data convert --from frames …`."""

import sys
from pathlib import Path
from runpy import run_path

try:
    from robointervlm.cli import main
except ModuleNotFoundError:
    run_path(str(Path(__file__).resolve().parents[1] / "requirements/not_installed.py"), run_name=__name__)

if __name__ == "__main__":
    main(["data", "convert", "--from", "frames", *sys.argv[1:]])
