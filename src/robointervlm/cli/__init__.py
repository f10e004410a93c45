"""The command line: the only place in the package that parses arguments."""

from robointervlm.cli.main import main

__all__ = ["main"]
