"""Which of the questions that wait are asked at once: so many of them, or as many as make so many tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from robointervlm.core.errors import ModelError, RoboInterError
from robointervlm.evaluate.questions import Asked
from robointervlm.models.model import MeasuringModel, Model


class Batches:
    """A queue of questions that is taken from in batches of one set of decoding settings.

    With `tokens`, a batch takes what its rows have room for, padding and the longest answer included, and at least one
    question. The longest come first, so that what does not fit into memory shows at once, and questions on the same
    pictures one after the other. Otherwise a batch is `size` questions, in the order of the list.
    """

    def __init__(self, waiting: Sequence[Asked], model: Model, *, size: int, tokens: int | None = None) -> None:
        self._size = size
        self._tokens = tokens
        self._lengths: dict[str, int] = {}
        if tokens is not None and waiting:
            if not isinstance(model, MeasuringModel):
                raise ModelError(
                    f"{model.name} cannot tell how many tokens a question takes; use batch_size, not batch_tokens."
                )
            self._lengths = {each.requested.key: _length(each, model) for each in waiting}
            waiting = self._by_length(waiting)
        self._queue = deque(sorted(waiting, key=lambda each: each.decoding.max_new_tokens))

    def __len__(self) -> int:
        return len(self._queue)

    def take(self) -> list[Asked]:
        """The next batch, at least one question of those that wait."""
        batch = [self._queue.popleft()]
        while self._queue and self._queue[0].decoding == batch[0].decoding:
            larger = [*batch, self._queue[0]]
            if not (len(larger) <= self._size if self._tokens is None else self._cost(larger) <= self._tokens):
                break
            batch.append(self._queue.popleft())
        return batch

    def retry_smaller(self, batch: Sequence[Asked]) -> int:
        """Puts a batch of several back and makes this and later ones smaller; how much now goes into one."""
        self._queue.extendleft(reversed(batch))
        if self._tokens is None:
            self._size = max(1, len(batch) // 2)
            return self._size
        self._tokens = max(1, self._cost(batch) // 2)
        return self._tokens

    def _cost(self, batch: Sequence[Asked]) -> int:
        longest = max(self._lengths[each.requested.key] for each in batch)
        return len(batch) * (longest + batch[0].decoding.max_new_tokens)

    def _by_length(self, waiting: Sequence[Asked]) -> list[Asked]:
        groups: dict[object, list[Asked]] = {}
        for each in waiting:
            groups.setdefault((each.decoding, each.references), []).append(each)

        def length(asked: Asked) -> int:
            return self._lengths[asked.requested.key]

        ordered = [sorted(group, key=length, reverse=True) for group in groups.values()]
        ordered.sort(key=lambda group: length(group[0]), reverse=True)
        return [each for group in ordered for each in group]


def _length(asked: Asked, model: MeasuringModel) -> int:
    """The tokens of a question; 0 for one that will not be asked, or not without an error."""
    if asked.problem is not None:
        return 0
    try:
        return model.prompt_tokens(asked.messages, asked.sizes)
    except RoboInterError:
        return 0  # answering it says what is wrong
