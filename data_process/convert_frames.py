"""Turns annotated frames into datasets; the same as `robointer data convert --from frames …`."""

import sys

from robointervlm.cli import main

if __name__ == "__main__":
    main(["data", "convert", "--from", "frames", *sys.argv[1:]])
