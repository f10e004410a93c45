"""Asks a model one question: `python infer.py --model_type qwen --model_path DIR --prompt TEXT --images FILE…`"""

import sys

from robointervlm.cli.documented import infer, script

if __name__ == "__main__":
    script(infer, sys.argv[1:])
