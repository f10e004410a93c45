"""What the documented scripts run in place of an import that failed: one line that says what to install.

By its path (`runpy.run_path`), because where the package is missing there is nothing to import it from. A script ends
with exit code 2; whoever imports a module of ours gets the same words as the error.
"""

import sys
from pathlib import Path


def remedy(missing: str) -> str:
    """What to do about a module that this Python does not have."""
    checkout = Path(__file__).resolve().parents[1]
    return (
        f"{missing} is not installed in {sys.executable}: run `make setup` in {checkout} and use its .venv/bin/python, "
        f"or run `pip install -e '.[train]'` there with this Python (3.11 or newer)."
    )


error = sys.exc_info()[1]
name = getattr(error, "name", None) or "robointervlm"
# Within the package, a module that is missing is a fault of the installation or of ours: the traceback says which.
if name.startswith("robointervlm."):
    raise error
if __name__ == "__main__":
    sys.stderr.write(f"error: {remedy(name)}\n")
    sys.exit(2)
raise ModuleNotFoundError(remedy(name), name=name) from None
