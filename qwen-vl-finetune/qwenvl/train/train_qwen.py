"""Fine-tunes Qwen2.5-VL with the documented flags: `python train_qwen.py --help` is the README; torchrun works, too."""

import sys

from robointervlm.cli.documented import script
from robointervlm.cli.documented_train import train

if __name__ == "__main__":
    script(train, sys.argv[1:])
