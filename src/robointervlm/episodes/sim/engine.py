"""The mujoco module: imported on first use, and told apart where it is missing, too old or broken."""

import functools
import importlib
import importlib.metadata
import os
import textwrap
from typing import Any

from robointervlm.core.errors import DataError

# The distributions that bring the module. Before MuJoCo 4 `mujoco` holds all of it; since then `mujoco-core` does, and
# `mujoco` depends on it. pip keeps neither from overwriting, nor from removing, the other's files.
DISTRIBUTIONS = ("mujoco", "mujoco-core", "mujoco-studio")
# `mj_multiRay` gives normals and takes its arguments as the stage passes them.
OLDEST = (3, 10)
_ANEW = f"pip uninstall -y {' '.join(DISTRIBUTIONS)} && pip install 'robointervlm[sim]'"


@functools.cache
def load_mujoco() -> Any:
    """The mujoco module, or a `DataError` of one line that says how to get one that works."""
    try:
        mujoco = importlib.import_module("mujoco")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        # What an import of mixed-up files, or one with an unusable MUJOCO_GL, was seen to raise.
        raise DataError(_why_not(error)) from None
    version = getattr(mujoco, "__version__", None)
    if version is None or not hasattr(mujoco, "mj_multiRay") or version not in (installed().values() or (version,)):
        raise DataError(_broken(f"its module is of version {version}" if version else "files are missing"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise DataError(
            f"mujoco {version} is too old for the simulated tabletop, which needs {'.'.join(map(str, OLDEST))} or "
            "newer; pip install --upgrade 'robointervlm[sim]'."
        )
    return mujoco


def installed() -> dict[str, str]:
    """The installed distributions that bring the module, with their versions."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _why_not(error: Exception) -> str:
    if not installed() and isinstance(error, ModuleNotFoundError):
        return "the simulated tabletop needs mujoco, which is not installed; pip install 'robointervlm[sim]'."
    reason = textwrap.shorten(str(error) or type(error).__name__, 120, placeholder=" …")
    backend = os.environ.get("MUJOCO_GL")
    if backend and not isinstance(error, OSError):
        return (
            f"mujoco cannot be imported with MUJOCO_GL={backend} ({reason}); unset it, the simulated tabletop needs no "
            f"OpenGL. If it still cannot be imported: {_ANEW}"
        )
    return _broken(reason)


def _broken(reason: str) -> str:
    names = " and ".join(f"{name} {version}" for name, version in installed().items()) or "mujoco"
    return (
        f"{names} cannot be used ({reason}); another release of MuJoCo has overwritten or removed files of it. "
        f"Install it anew: {_ANEW}"
    )
