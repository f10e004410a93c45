"""Lists everything that is wrong with datasets; the same as `robointer data check NAME_OR_FILE…`."""

import sys

from robointervlm.cli import main

if __name__ == "__main__":
    main(["data", "check", *sys.argv[1:]])
