"""Fine-tunes Qwen2.5-VL with the documented flags: `python train_qwen.py --help` is the README; torchrun works, too."""

import sys
from pathlib import Path
from runpy import run_path

try:
    from robointervlm.compat.scripts import script
    from robointervlm.compat.training import train
except ModuleNotFoundError:
    run_path(str(Path(__file__).resolve().parents[3] / "requirements/not_installed.py"), run_name=__name__)

if __name__ == "__main__":
    script(train, sys.argv[1:])
