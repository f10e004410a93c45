"""Asks a model every question of a recipe and keeps each reply the moment it is there.

A run can be killed at any moment and goes on with the same command: what is in `records.jsonl` is not asked again
unless the question, the picture, the decoding or the model changed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from robointervlm.core.errors import DataError, ExhaustedError, RecipeError, RefusedError, StoppedError
from robointervlm.core.prompt import Decoding, Picture, Prompt, Reply
from robointervlm.core.sample import ImageRef
from robointervlm.data import images
from robointervlm.evaluate.another_run import refuse_another_run, warn_of_another_address
from robointervlm.evaluate.batches import Batches
from robointervlm.evaluate.questions import Asked, Asker, Question, questions_of
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.records import RECORDS, SCHEMA, RequestedList, write_requested
from robointervlm.evaluate.shards import folder_of, positions_of, write_positions
from robointervlm.inference.judging import ANSWERED, Problem, judged, one_line, unasked
from robointervlm.jobs.progress import progress_bar
from robointervlm.jobs.share import Share
from robointervlm.models.model import Model, StreamingModel, check_section, load_model
from robointervlm.runs.files import write_atomically
from robointervlm.runs.journal import Entry, Journal, read_journal
from robointervlm.runs.log import console
from robointervlm.runs.run import Run
from robointervlm.runs.signals import StopRequested, stopping_on_signals

logger = logging.getLogger(__name__)

USAGE = "usage.json"


@dataclass(frozen=True)
class Outcome:
    """How many of the requested questions ended in which status; `reused` ones were answered by an earlier call."""

    folder: Path
    counts: Mapping[str, int]
    reused: int

    @property
    def requested(self) -> int:
        return sum(self.counts.values())

    @property
    def error_rate(self) -> float:
        """The share of questions that got no answer at all."""
        failed = sum(count for status, count in self.counts.items() if status not in ANSWERED)
        return failed / self.requested if self.requested else 0.0


def predict(
    recipe: EvaluationRecipe, *, model: Model | None = None, samples: Sequence[Question] | None = None
) -> Outcome:
    """Answers every question of the recipe that has no answer yet, into `recipe.run.dir`, or a shard's folder in it.

    `model` and `samples` stand in for what the recipe names, for callers that have them at hand. Raises `StopRequested`
    when told to stop, and `RecipeError` if another process is writing the run, or another evaluation lies there.
    """
    with stopping_on_signals():
        questions = questions_of(recipe) if samples is None else list(samples)[: recipe.limit]
        if not questions:
            raise DataError("there is nothing to ask: the data holds no sample.")
        if model is None:
            check_section(recipe.model)  # before anything of it is written down: it may hold what it should not
        shard = None if recipe.shard is None else Share.named(recipe.shard)
        with Run.opened(folder_of(recipe.run.dir, shard)) as run:
            answering = model if model is not None else load_model(recipe.model)
            positions = range(len(questions)) if shard is None else positions_of(shard, questions)
            asker = Asker(answering, recipe.decoding, recipe.style)
            with progress_bar(console()) as progress:
                mine = [questions[position] for position in positions]
                asked = [asker.asked(each) for each in progress.track(mine, description="checking the pictures")]
            coordinates = answering.coordinates.value
            named = {"name": answering.name, "fingerprint": answering.fingerprint, "coordinates": coordinates}
            decoding = recipe.decoding.model_dump(mode="json")
            requested = RequestedList(named, decoding, recipe.style, tuple(each.requested for each in asked))
            refuse_another_run(run.folder, requested, recipe.data)
            warn_of_another_address(run.folder, recipe.model)
            run.record(recipe)
            logger.info("asking %s %d questions, into %s", answering.name, len(asked), run.folder)
            write_requested(run.folder, requested)
            if shard is not None:
                write_positions(run.folder, shard, positions, len(questions))
            with Journal(run.folder / RECORDS) as journal:
                return _answered(asked, answering, journal, recipe)


def _answered(asked: Sequence[Asked], model: Model, journal: Journal, recipe: EvaluationRecipe) -> Outcome:
    known = {str(entry["key"]): str(entry["status"]) for entry in journal.entries}
    unique = {each.requested.key: each for each in asked}
    waiting = [each for key, each in unique.items() if known.get(key) not in ANSWERED]
    reused = sum(known.get(each.requested.key) in ANSWERED for each in asked)
    if journal.entries:
        logger.info("%d of %d questions were answered by an earlier run and are kept.", reused, len(asked))
    with progress_bar(console()) as progress:
        bar = progress.add_task("answering", total=len(unique), completed=len(unique) - len(waiting))
        work = _Answering(model, journal, known, recipe, advance=lambda: progress.advance(bar))
        try:
            with _usage_kept(model, journal):
                work.answer_all(waiting)
        except StopRequested as stop:
            raise StopRequested(stop.number, f"rerun the same command to go on; {_done(asked, journal)}.") from None
        except StoppedError as stop:
            raise StoppedError(f"{stop}; {_done(asked, journal)}. Rerun the same command to go on.") from None
    counts = Counter(known[each.requested.key] for each in asked)
    logger.info("finished: %s.", ", ".join(f"{count} {status}" for status, count in counts.items()))
    return Outcome(journal.path.parent, dict(counts), reused)


def _done(asked: Sequence[Asked], journal: Journal) -> str:
    kept = {entry["key"] for entry in read_journal(journal.path).entries if entry["status"] in ANSWERED}
    return f"{sum(each.requested.key in kept for each in asked)} of {len(asked)} done"


@contextlib.contextmanager
def _usage_kept(model: Model, journal: Journal) -> Iterator[None]:
    """Tells a model that is paid for what the run has used before, and writes down what it used however that ends."""
    if not isinstance(model, StreamingModel):
        yield
        return
    counts = [[entry.get(name) for entry in journal.entries] for name in ("input_tokens", "output_tokens")]
    read, written = (sum(count for count in found if isinstance(count, int)) for found in counts)
    model.count_earlier(read, written, sum(entry["status"] in ANSWERED for entry in journal.entries))
    try:
        yield
    finally:
        usage = model.usage()
        write_atomically(journal.path.parent / USAGE, json.dumps(usage, indent=2) + "\n")
        logger.info("used: %s.", ", ".join(f"{name} {value}" for name, value in usage.items() if value))


class _Answering:
    """Asks what waits and records what comes. `statuses` is kept up to date with what is on the disk."""

    def __init__(
        self,
        model: Model,
        journal: Journal,
        statuses: dict[str, str],
        recipe: EvaluationRecipe,
        *,
        advance: Callable[[], object],
    ) -> None:
        self._model = model
        self._journal = journal
        self._statuses = statuses
        self._recipe = recipe
        self._advance = advance
        self._said_at = time.monotonic()

    def answer_all(self, waiting: Sequence[Asked]) -> None:
        if isinstance(self._model, StreamingModel):
            self._answer_each(self._model, waiting)
        else:
            self._answer_in_batches(waiting)

    def _answer_each(self, model: StreamingModel, waiting: Sequence[Asked]) -> None:
        """Keeps every answer the moment it is there, while the others are still in flight."""
        sent: list[Asked] = []

        def questions() -> Iterator[tuple[Prompt, Decoding]]:
            for asked in waiting:
                prompt = _prompt(asked)
                if isinstance(prompt, Problem):
                    self._record(asked, prompt)
                else:
                    sent.append(asked)
                    yield prompt, asked.decoding

        answers = model.answer_each(questions())
        with contextlib.closing(answers):
            for done, (index, result) in enumerate(answers, start=1):
                self._record(sent[index], result)
                self._say_so(done, len(waiting))

    def _answer_in_batches(self, waiting: Sequence[Asked]) -> None:
        batches = Batches(waiting, self._model, size=self._recipe.batch_size, tokens=self._recipe.batch_tokens)
        while batches:
            again = self._answer_batch(batches.take())
            if again:
                smaller, unit = batches.retry_smaller(again), "tokens" if self._recipe.batch_tokens else "questions"
                logger.warning("a batch of %d ran out of memory; going on with %d %s.", len(again), smaller, unit)
            self._say_so(len(waiting) - len(batches), len(waiting))

    def _answer_batch(self, batch: Sequence[Asked]) -> Sequence[Asked]:
        """Answers and records a batch; what has to be tried again in a smaller one is returned."""
        load = functools.cache(images.load)  # one array for all questions on a picture, which models know it by
        ready: list[Asked] = []
        prompts: list[Prompt] = []
        for asked in batch:
            prompt = _prompt(asked, load)
            if isinstance(prompt, Problem):
                self._record(asked, prompt)
            else:
                ready.append(asked)
                prompts.append(prompt)
        return self._ask(ready, prompts) if ready else ()

    def _ask(self, ready: Sequence[Asked], prompts: Sequence[Prompt]) -> Sequence[Asked]:
        try:
            replies = self._model.answer(prompts, ready[0].decoding)
            if len(replies) != len(prompts):
                raise RuntimeError(f"{self._model.name} gave {len(replies)} replies to {len(prompts)} prompts")
        except (RecipeError, ExhaustedError):
            raise  # nothing that another question would fare better with, such as a refused key
        except Exception as error:  # noqa: BLE001 - the boundary to a model: the failure becomes a counted value
            if len(ready) == 1:
                self._record(ready[0], error)
                return ()
            # By name, because torch.OutOfMemoryError cannot be imported here.
            if any(kind.__name__ in {"MemoryError", "OutOfMemoryError"} for kind in type(error).__mro__):
                return ready
            logger.warning("a batch of %d failed (%s); asking one by one.", len(ready), one_line(error))
            for asked, prompt in zip(ready, prompts, strict=True):
                self._ask([asked], [prompt])
            return ()
        for asked, reply in zip(ready, replies, strict=True):
            self._record(asked, reply)
        return ()

    def _record(self, asked: Asked, result: Reply | Exception | Problem) -> None:
        entry = record_of(asked, result)
        self._journal.append(entry)
        self._statuses[asked.requested.key] = str(entry["status"])
        if entry["status"] not in ANSWERED:
            logger.warning("%s %s: %s", asked.requested.id, entry["status"], entry["reason"])
        self._advance()

    def _say_so(self, done: int, total: int) -> None:
        """A line every half minute where no progress bar is seen."""
        if not console().is_terminal and time.monotonic() - self._said_at > 30:
            self._said_at = time.monotonic()
            logger.info("answered %d of %d", done, total)


def _prompt(asked: Asked, load: Callable[[ImageRef], Picture] = images.load) -> Prompt | Problem:
    if asked.problem is not None:
        return asked.problem
    try:
        return asked.prompt(load)
    except (RefusedError, DataError) as error:
        return unasked(error)


def record_of(asked: Asked, result: Reply | Exception | Problem) -> Entry:
    """The record of one answer or failure; with the requested list it can be scored without model and dataset."""
    space = asked.space
    question = asked.messages[-1].text if asked.messages else ""
    found = judged(asked.task, result, space, question)
    reply = result if isinstance(result, Reply) else None
    return {
        "schema": SCHEMA,
        **asdict(asked.requested),
        "image_size": None if space is None else space.image,
        "processed_size": None if space is None else space.processed,
        "format": None if space is None else space.format.value,
        "prompt": question,
        "history": [[message.role, message.text] for message in asked.messages[:-1]],
        "reply": found.text,
        "status": found.status,
        "reason": found.reason,
        "seconds": None if reply is None else round(reply.seconds, 6),
        "input_tokens": None if reply is None else reply.input_tokens,
        "output_tokens": None if reply is None else reply.output_tokens,
        "finish_reason": None if reply is None else reply.finish_reason,
    }
