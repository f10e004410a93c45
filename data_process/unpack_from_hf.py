"""Unpacks the published picture archives; the same as `robointer data unpack …`."""

import sys

from robointervlm.cli import main

if __name__ == "__main__":
    main(["data", "unpack", *sys.argv[1:]])
