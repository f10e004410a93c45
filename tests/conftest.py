"""What holds for every test."""

from hypothesis import settings

# A busy machine is not a failure: pytest-timeout stops what hangs.
settings.register_profile("robointervlm", deadline=None)
settings.load_profile("robointervlm")
