"""Code of the user's own beside ours: tasks, model families, answer types and sources of episodes (docs/plugins.md).

A plugin is a Python file or a module. Which ones there are stands in `ROBOINTER_PLUGINS`, so that every process that
is started from here has them too. Installed packages name theirs as entry points instead.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from robointervlm.core.errors import RecipeError, RoboInterError

VARIABLE = "ROBOINTER_PLUGINS"
Group = Literal["robointervlm.tasks", "robointervlm.models", "robointervlm.sources"]


@dataclass(frozen=True, eq=False)
class Plugin:
    """A loaded plugin under the name it was given by."""

    name: str
    module: ModuleType


_loaded: dict[str, Plugin] = {}
# What the variable said when `_of_variable` was made of it.
_said: str | None = None
_of_variable: tuple[Plugin, ...] = ()


def use(named: Iterable[str]) -> None:
    """Loads these plugins beside those there are, for this process and for those it starts.

    Raises `RecipeError` for one that is not there or cannot be imported.
    """
    before = os.environ.get(VARIABLE)
    names = list(dict.fromkeys([*given(), *map(absolute, named)]))
    if not names:
        return
    os.environ[VARIABLE] = os.pathsep.join(names)
    try:
        loaded()
    except RoboInterError:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        raise


def given() -> tuple[str, ...]:
    """The plugins of this process as `--plugin` takes them, files by their absolute path."""
    return tuple(map(absolute, filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))))


def absolute(name: str) -> str:
    """A plugin's name that means the same in any folder."""
    if not _is_path(name):
        return name
    path = str(Path(name).expanduser().resolve())
    if os.pathsep in path:
        raise RecipeError(f"plugin {name}: a path with '{os.pathsep}' in it cannot be handed on; move the file.")
    return path


def loaded() -> tuple[Plugin, ...]:
    """The plugins of this process, loaded when they are first asked for; `RecipeError` for a bad one."""
    global _said, _of_variable  # noqa: PLW0603 - asked for every record of a dataset
    said = os.environ.get(VARIABLE)
    if said != _said:
        found = tuple(map(_plugin, given()))
        _said, _of_variable = said, found
    return _of_variable


def load_all(group: Group) -> None:
    """Loads the plugins and all that installed packages name in this group."""
    loaded()
    for point in of_entry_points(group):
        entry_point_object(point)


@cache
def of_entry_points(group: Group) -> tuple[EntryPoint, ...]:
    """What installed packages name in this group, in the order of the names; nothing is imported."""
    return tuple(sorted(entry_points(group=group), key=lambda point: (point.name, point.value)))


@cache
def entry_point_object(point: EntryPoint) -> Any:
    """What an entry point names; `RecipeError` if it cannot be imported."""
    try:
        return point.load()
    except RoboInterError as error:
        raise type(error)(f"{in_words(point)}: {error}") from error
    except Exception as error:
        raise RecipeError(
            f"{in_words(point)} cannot be loaded: {_what(error)}. Mend that package, or uninstall it."
        ) from error


def source() -> str:
    """The code of every plugin and of the packages that name tasks, as far as it is loaded: all that theirs may do."""
    named = [plugin.module.__name__ for plugin in loaded()]
    named += [point.module for point in of_entry_points("robointervlm.tasks")]
    packages = {name.partition(".")[0] for name in named}
    files = {
        str(module.__file__)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in packages and str(getattr(module, "__file__", None)).endswith(".py")
    }
    return "\0".join(Path(file).read_text(encoding="utf-8") for file in sorted(files))


def in_words(point: EntryPoint) -> str:
    """An entry point and the package it is of, for a message."""
    package = f" of the package {point.dist.name}" if point.dist is not None else ""
    return f"entry point {point.name} = {point.value} ({point.group}){package}"


def _is_path(name: str) -> bool:
    return name.endswith(".py") or os.sep in name or Path(name).is_dir()


def _plugin(name: str) -> Plugin:
    if name in _loaded:
        return _loaded[name]
    module = _module_of_file(Path(name)) if _is_path(name) else name
    try:
        found = importlib.import_module(module)
    except RoboInterError as error:
        raise type(error)(f"plugin {name}: {error}") from error
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise RecipeError(
                f"plugin {name}: there is no module of this name; give its file or folder, or install its package."
            ) from None
        raise RecipeError(f"plugin {name} cannot be imported: {_what(error)}.") from error
    except Exception as error:
        raise RecipeError(f"plugin {name} cannot be imported: {_what(error)}.") from error
    _loaded[name] = Plugin(name, found)
    return _loaded[name]


def _module_of_file(path: Path) -> str:
    """The name to import a file or a package's folder by; the folder it is found in is searched last from now on.

    A name, so that what is defined there can be pickled: processes that are started here search the same folders.
    """
    file = path / "__init__.py" if path.is_dir() else path
    if not file.is_file():
        what = "the folder has no __init__.py, so it is no package" if path.is_dir() else "there is no such file"
        raise RecipeError(f"plugin {path}: {what}.")
    names: Sequence[str] = [] if path.is_dir() else [path.stem]
    folder = file.parent
    while (folder / "__init__.py").is_file():
        names, folder = [folder.name, *names], folder.parent
    if not all(name.isidentifier() for name in names):
        raise RecipeError(
            f"plugin {path}: '{'.'.join(names)}' is no name of a module; rename the file, such as mine.py."
        )
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()
    _refuse_another_module(names[0], folder, path)
    return ".".join(names)


def _refuse_another_module(top: str, folder: Path, path: Path) -> None:
    known = sys.modules.get(top)
    spec = known.__spec__ if known is not None else importlib.util.find_spec(top)
    places = [spec.origin] if spec is not None and spec.origin else []
    places += list(spec.submodule_search_locations or ()) if spec is not None else []
    mine = {folder / f"{top}.py", folder / top, folder / top / "__init__.py"}
    if not mine & {Path(place).resolve() for place in places}:
        other = f" ({places[0]})" if places else ""
        raise RecipeError(f"plugin {path}: there is another module called '{top}'{other}; rename yours.")


def _what(error: Exception) -> str:
    """What an import failed with, and where if it says so."""
    where = ""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    traceback = error.__traceback__
    while traceback is not None:
        where = f" ({traceback.tb_frame.f_code.co_filename}, line {traceback.tb_lineno})"
        traceback = traceback.tb_next
    return f"{' '.join(f'{type(error).__name__}: {error}'.split())[:300]}{where}"
