"""The errors a user can meet, each with the exit code the command line answers with."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a `robointer` process answers with; the meanings are part of the interface."""

    COMPLETE = 0
    USAGE = 2
    BAD_INPUT = 3
    TOO_MANY_FAILURES = 4
    REFUSED = 5
    EXHAUSTED = 6
    NON_FINITE_LOSS = 7
    STOPPED = 75
    INTERRUPTED = 130
    TERMINATED = 143


class RoboInterError(Exception):
    """Base of every error this package raises on purpose. The message says what, where and what to do."""

    exit_code: ExitCode = ExitCode.USAGE


class RecipeError(RoboInterError):
    """A recipe, an override, a flag or a name that does not mean anything."""


class DataError(RoboInterError):
    """Input that is missing or does not say what it has to say."""

    exit_code = ExitCode.BAD_INPUT


class ModelError(RoboInterError):
    """A model that cannot be loaded or does not fit the job."""

    exit_code = ExitCode.BAD_INPUT


class RefusedError(RoboInterError):
    """Content that is not trusted: a path outside its root, a picture that would not fit into memory."""

    exit_code = ExitCode.REFUSED


class ExhaustedError(RoboInterError):
    """No disk or memory left."""

    exit_code = ExitCode.EXHAUSTED


class StoppedError(RoboInterError):
    """Work that was ended in order before it was done, such as at a spent budget; the same command goes on."""

    exit_code = ExitCode.STOPPED


class NonFiniteLossError(RoboInterError):
    """The loss or a gradient is not a number; the step was not applied."""

    exit_code = ExitCode.NON_FINITE_LOSS


class LostProcessError(RoboInterError):
    """Another process of the run failed, was killed or hangs; the same command goes on from the last checkpoint."""

    exit_code = ExitCode.STOPPED


class TooManyFailuresError(RoboInterError):
    """The work is finished and reported, but more samples failed than the user allowed."""

    exit_code = ExitCode.TOO_MANY_FAILURES
