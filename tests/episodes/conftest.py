import pytest

from robointervlm.episodes.episode import Episode
from robointervlm.episodes.sim.simulate import SimConfig, simulate


@pytest.fixture(scope="session")
def successes() -> list[Episode]:
    """Eight simulated episodes in which nothing goes wrong."""
    return [simulate(7, number, SimConfig(failure_share=0.0)) for number in range(8)]


@pytest.fixture(scope="session")
def failures() -> list[Episode]:
    """Sixteen simulated episodes that all fail."""
    return [simulate(8, number, SimConfig(failure_share=1.0, frames=2)) for number in range(16)]
