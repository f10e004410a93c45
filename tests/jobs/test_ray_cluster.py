"""A cluster that cannot be had is one line; what goes wrong on one is told from a bug of ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from pool_jobs import divide_by, exit_at_odd, fail_at_two

from robointervlm.core.errors import DataError, LostProcessError, RecipeError
from robointervlm.jobs.ray_cluster import cluster, run_on_ray


def test_without_ray_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RecipeError, match=r"robointervlm\[ray\]"), cluster("local", 1):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_an_address_where_nobody_answers_is_told_at_once(address):
    pytest.importorskip("ray")
    with pytest.raises(RecipeError, match="no cluster answers"), cluster(address, 2):
        pass


@pytest.fixture(scope="module")
def ray():
    """A cluster for all tests; it takes long to start."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # Jobs of this folder are found by Ray's processes, too.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        with cluster("local", 2) as connected:
            yield connected


def run(ray, work, jobs, *, told=lambda _: None, block=1):
    def lost(job: object, said: str) -> LostProcessError:
        return LostProcessError(f"lost {job}: {said}")

    run_on_ray(ray, work, jobs, told=told, lost=lost, block=block)


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 3])
def test_every_job_is_told_of_once(ray, block):
    told = []
    run(ray, divide_by, iter(range(1, 11)), told=told.extend, block=block)
    assert sorted(told) == list(range(1, 11))


@pytest.mark.slow
def test_jobs_are_taken_a_few_at_a_time(ray):
    told, ahead = [], []

    def jobs():
        for number in range(1, 31):
            ahead.append(number - len(told))
            yield number

    run(ray, divide_by, jobs(), told=told.extend)
    assert max(ahead) <= 5  # two for each of two processors, and the one that is asked for


@pytest.mark.slow
def test_an_error_of_a_job_is_raised_as_it_is(ray):
    with pytest.raises(DataError) as raised:
        run(ray, fail_at_two, range(4))
    assert str(raised.value) == "number 2 is odd"


@pytest.mark.slow
def test_a_bug_in_a_job_stays_one(ray):
    with pytest.raises(ZeroDivisionError, match="in divide_by"):
        run(ray, divide_by, [0])


@pytest.mark.slow
def test_a_job_that_is_lost_again_and_again_is_named(ray):
    with pytest.raises(LostProcessError, match="lost 1: "):
        run(ray, exit_at_odd, [1])
