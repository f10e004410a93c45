import sys

import pytest

from robointervlm.core.errors import DataError
from robointervlm.episodes.sim.engine import load_mujoco

USABLE = "def mj_multiRay(): ...\n"
ANEW = "pip uninstall -y mujoco mujoco-core mujoco-studio && pip install 'robointervlm[sim]'"


@pytest.fixture
def installation(tmp_path, monkeypatch):
    """Puts distributions and a module `mujoco` in front of those that are installed; the module's text may be None."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "mujoco"}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    load_mujoco.cache_clear()
    monkeypatch.delenv("MUJOCO_GL", raising=False)

    def install(module, **versions):
        for name, version in versions.items():
            about = tmp_path / f"{name}-{version}.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
            )
        if module is not None:
            (tmp_path / "mujoco").mkdir()
            (tmp_path / "mujoco" / "__init__.py").write_text(module)
        # Nothing else is installed.
        monkeypatch.setattr(sys, "path", [str(tmp_path)])

    yield install
    load_mujoco.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "mujoco"]:
        del sys.modules[name]


def problem():
    with pytest.raises(DataError) as caught:
        load_mujoco()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_mujoco_3_under_the_files_of_mujoco_core_4_is_told_with_both_releases_and_the_remedy(installation):
    # Seen with mujoco 3.17.0, then mujoco-core 4.0.1, installed by pip.
    raises = "raise OSError('libmujoco.so.3.17.0: cannot open shared object file: No such file or directory')"
    installation(raises, mujoco="3.17.0", mujoco_core="4.0.1")
    message = problem()
    assert message.startswith("mujoco 3.17.0 and mujoco-core 4.0.1 cannot be used (libmujoco.so.3.17.0: cannot open")
    assert message.endswith(ANEW)


def test_files_that_an_upgrade_removed_are_told(installation):
    # Seen with mujoco 3.17.0 upgraded to 4.0.0 by pip: it installs mujoco-core first, then removes the old files.
    raises = "raise ImportError('The mujoco package is installed, but its core bindings are missing.\\nRepair it')"
    installation(raises, mujoco="4.0.0", mujoco_core="4.0.0", mujoco_studio="4.0.0")
    assert "core bindings are missing. Repair it" in problem()


def test_a_module_without_its_functions_is_told(installation):
    installation("", mujoco="4.0.0")
    assert "(files are missing)" in problem()


def test_a_module_of_another_release_than_is_installed_is_told(installation):
    installation("__version__ = '4.0.1'\n" + USABLE, mujoco="3.17.0")
    assert "mujoco 3.17.0 cannot be used (its module is of version 4.0.1)" in problem()


def test_a_folder_that_is_all_that_is_left_is_told(installation):
    installation(None, mujoco_core="4.0.0")
    assert problem().startswith("mujoco-core 4.0.0 cannot be used (No module named 'mujoco')")


def test_mujoco_that_is_not_installed_is_told_with_the_extra(installation):
    installation(None)
    assert problem() == (
        "the simulated tabletop needs mujoco, which is not installed; pip install 'robointervlm[sim]'."
    )


def test_a_release_that_is_too_old_is_told_with_the_oldest_that_works(installation):
    installation("__version__ = '3.9.0'\n" + USABLE, mujoco="3.9.0")
    assert "mujoco 3.9.0 is too old for the simulated tabletop, which needs 3.10 or newer" in problem()


def test_an_unusable_rendering_backend_is_told_apart_from_a_clash(installation, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "junk")
    raises = "raise RuntimeError('invalid value for environment variable MUJOCO_GL: junk')"
    installation(raises, mujoco="4.0.0", mujoco_core="4.0.0")
    assert problem().startswith("mujoco cannot be imported with MUJOCO_GL=junk (invalid value")


@pytest.mark.parametrize("releases", [{"mujoco": "3.10.0"}, {"mujoco": "4.0.0", "mujoco_core": "4.0.0"}])
def test_a_release_that_works_is_taken(installation, releases):
    installation(f"__version__ = '{releases['mujoco']}'\n" + USABLE, **releases)
    assert load_mujoco().__version__ == releases["mujoco"]


def test_the_core_alone_is_enough(installation):
    installation("__version__ = '4.0.1'\n" + USABLE, mujoco_core="4.0.1")
    assert load_mujoco().__version__ == "4.0.1"
