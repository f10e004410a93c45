"""Makes simulated episodes; the same as `robointer data build --source sim …`."""

import sys

from robointervlm.cli import main

if __name__ == "__main__":
    main(["data", "build", "--source", "sim", *sys.argv[1:]])
