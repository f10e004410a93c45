"""Puts `tests/` on the path, for `scripted_benchmark`, and this folder, for `api_server`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
