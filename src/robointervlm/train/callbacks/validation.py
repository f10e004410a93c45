"""How well the model in training answers: a small fixed set of questions, asked, read and scored as `predict` does.

Nothing of the training changes by it: no generator advances, no weight moves, and the network learns on as before.
Every question counts; one without a readable answer is charged as in a report.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator
from accelerate.utils import gather_object
from rich.table import Table

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import Space
from robointervlm.core.errors import DataError, RoboInterError
from robointervlm.core.prompt import Decoding, Prompt, Reply
from robointervlm.core.sample import Sample
from robointervlm.core.writing import answer_to_json
from robointervlm.data import images
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.inference.judging import Problem, judged, unasked
from robointervlm.inference.prompting import prompted
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.runs.files import write_atomically
from robointervlm.runs.log import MetricsLog, console
from robointervlm.runs.signals import StopFlag
from robointervlm.tasks import Case, Task, task_named
from robointervlm.train.data.dataset import stored_size
from robointervlm.train.engines.engine import Engine
from robointervlm.train.recipe import TrainRecipe, ValidationSection

logger = logging.getLogger(__name__)

VALIDATION = "validation.jsonl"
REPLIES = "validation"


@dataclass(frozen=True, order=True)
class Judged:
    """What became of one question: its number, the answer in pixels where one was read, and what is recorded."""

    number: int
    answer: Answer | None = field(compare=False)
    record: dict[str, Any] = field(compare=False)


@dataclass
class Validation:
    """The questions of a run. Every process holds all of them and answers its share."""

    section: ValidationSection
    mixture: Mixture
    model: Qwen25VL
    accelerator: Accelerator
    numbers: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = spread(self.mixture, self.section.samples)

    @classmethod
    def of(cls, recipe: TrainRecipe, model: Qwen25VL, accelerator: Accelerator) -> Validation | None:
        """The recipe's validation, None if it asks for none. Raises `DataError` where there is nothing to ask."""
        section = recipe.watch.validation
        if section is None:
            return None
        catalog = Catalog(*recipe.data.catalog)
        mixture = Mixture(
            section.mixture,
            seed=recipe.run.seed,
            root=recipe.data.root,
            catalog=catalog,
            split="val",
            follow_links=recipe.data.follow_links,
        )
        if not len(mixture):
            raise DataError(f"watch.validation.mixture {list(section.mixture)} holds no record.")
        return cls(section, mixture, model, accelerator)

    def due(self, step: int, steps: int) -> bool:
        """Whether the model is asked after this many steps."""
        return step % self.section.every == 0 or step == steps

    def answers(self, engine: Engine, stop: StopFlag) -> list[Judged] | None:
        """Every question with what became of it, in order, in every process; None if one of them is told to stop."""
        mine = self.numbers[self.accelerator.process_index :: self.accelerator.num_processes]
        judged: list[Judged | None] = []
        with engine.answering() as network:
            model = Qwen25VL(network, self.model.encoder, name=self.model.name)
            for batch in self._batches(mine):
                if stop.requested:
                    judged.append(None)
                    break
                judged += self._judged(model, batch)
        everyone: list[Judged | None] = gather_object(judged) if self.accelerator.num_processes > 1 else judged
        answered = [each for each in everyone if each is not None]
        return sorted(answered) if len(answered) == len(everyone) else None

    def record(self, step: int, judged: Sequence[Judged], seconds: float) -> dict[str, Any]:
        """The line of `validation.jsonl`: statuses and metrics of each task."""
        by_task: dict[str, list[Judged]] = {}
        for each in judged:
            by_task.setdefault(each.record["task"], []).append(each)
        tasks = [self._task_record(task_named(name), mine) for name, mine in by_task.items()]
        return {"step": step, "questions": len(judged), "seconds": round(seconds, 3), "tasks": tasks}

    def _batches(self, numbers: Sequence[int]) -> Iterator[list[_Prompt]]:
        """The questions in batches that are generated with the same number of tokens."""
        by_length: dict[int, list[int]] = {}
        for number in numbers:
            by_length.setdefault(self._max_new_tokens(self._task(number)), []).append(number)
        for same in by_length.values():
            for start in range(0, len(same), self.section.batch_size):
                yield [self._put(number) for number in same[start : start + self.section.batch_size]]

    def _task(self, number: int) -> Task:
        """The task of a question by its dataset, which also one that cannot be read has."""
        return task_named(self.mixture.datasets[self.mixture.locate(number)[0]].spec.task)

    def _max_new_tokens(self, task: Task) -> int:
        return self.section.max_new_tokens or task.max_new_tokens

    def _put(self, number: int) -> _Prompt:
        task, sample = self._task(number), None
        try:
            sample = self.mixture[number]
            task = task_named(sample.task)
            pictures = tuple(images.load(reference) for reference in sample.images)
            put = prompted(sample, task, self.model, stored_size(pictures))
            return _Prompt(number, task, sample, put.space, Prompt(put.messages, pictures))
        except RoboInterError as error:
            return _Prompt(number, task, sample, None, unasked(error))

    def _judged(self, model: Qwen25VL, batch: Sequence[_Prompt]) -> list[Judged]:
        ready = [each.prompt for each in batch if isinstance(each.prompt, Prompt)]
        replies = iter(_replies(model, ready, Decoding(self._max_new_tokens(batch[0].task))) if ready else ())
        return [_judgement(each, next(replies) if isinstance(each.prompt, Prompt) else each.prompt) for each in batch]

    def _task_record(self, task: Task, judged: Sequence[Judged]) -> dict[str, Any]:
        statuses = Counter(each.record["status"] for each in judged)
        samples = [self._sample(each.number) for each in judged]
        readable = [place for place, each in enumerate(judged) if each.answer is not None]
        metrics = {}
        for metric in task.metrics:
            cases = [
                Case(answer, sample.answer, sample.size)
                for place in readable
                if (answer := judged[place].answer) is not None and (sample := samples[place]) is not None
            ]
            values: dict[int, float] = dict(zip(readable, metric.measured(cases), strict=True))
            charged = [
                metric.charge(values.get(place), *((sample.answer, sample.size) if sample else (None, None)))
                for place, sample in enumerate(samples)
            ]
            metrics[metric.name] = {
                **metric.in_report,
                "mean": _mean(charged if metric.worst is not None else list(values.values())),
                "over": "questions" if metric.worst is not None else "readable",
                **({} if metric.worst is not None else {"charged": _mean(charged)}),
            }
        return {
            "task": task.name,
            "questions": len(judged),
            "readable": len(readable),
            "statuses": dict(statuses),
            "cut_short": sum(each.record["finish_reason"] == "length" for each in judged),
            "metrics": metrics,
        }

    def _sample(self, number: int) -> Sample | None:
        try:
            return self.mixture[number]
        except RoboInterError:
            return None


class _Prompt(NamedTuple):
    """A question as it is put to the model, or why it is not."""

    number: int
    task: Task
    sample: Sample | None
    space: Space | None
    prompt: Prompt | Problem


def _replies(model: Qwen25VL, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
    """The replies; what fails in a batch is asked again alone, and what fails alone is counted."""
    try:
        return model.answer(prompts, decoding)
    except Exception as error:  # noqa: BLE001 - the boundary to the model: a failure becomes a counted value
        if len(prompts) == 1:
            return [error]
    return [reply for prompt in prompts for reply in _replies(model, [prompt], decoding)]


def _judgement(put: _Prompt, result: Reply | Exception | Problem) -> Judged:
    """What became of a question, and what is recorded of it."""
    question = put.prompt.messages[-1].text if isinstance(put.prompt, Prompt) else ""
    found = judged(put.task, result, put.space, question)
    record: dict[str, Any] = {
        "id": put.sample.id if put.sample is not None else f"#{put.number}",
        "task": put.task.name,
        "question": question,
        "reply": found.text,
        "status": found.status,
        "reason": found.reason,
        "finish_reason": result.finish_reason if isinstance(result, Reply) else None,
        "reference": None if put.sample is None else answer_to_json(put.sample.answer),
        "predicted": None if found.answer is None else answer_to_json(found.answer),
    }
    return Judged(put.number, found.answer, record)


def spread(mixture: Mixture, count: int) -> list[int]:
    """The places of `count` samples in the mixture, as evenly over its datasets as their sizes allow.

    The same for the same mixture and seed; of each dataset the first ones of the mixture's own first order.
    """
    by_dataset: dict[int, list[int]] = {}
    for number in mixture.order(0).tolist():
        by_dataset.setdefault(mixture.locate(number)[0], []).append(number)
    queues = [by_dataset[part] for part in sorted(by_dataset)]
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    return sorted(turns[:count])


def validated_steps(path: Path) -> set[int]:
    """The steps whose line is in `validation.jsonl`."""
    if not path.is_file():
        return set()
    return {int(json.loads(line)["step"]) for line in path.read_text(encoding="utf-8").splitlines()}


def write_validation(run: Path, record: dict[str, Any], judged: Sequence[Judged]) -> None:
    """The replies in a file of their own, then the step's line: what has a line is whole."""
    replies = run / REPLIES / f"step-{record['step']:08d}.jsonl"
    write_atomically(replies, "".join(json.dumps(each.record) + "\n" for each in judged))
    with MetricsLog(run / VALIDATION) as log:
        log.write(**record)


def table_of(record: dict[str, Any]) -> Table:
    """The record as it is printed: a row for each task, each with its own metrics."""
    title = f"Validation after step {record['step']}: {record['questions']} questions, {record['seconds']:.0f} s"
    table = Table("task", "questions", "readable", "metrics", title=title)
    for task in record["tasks"]:
        failed = {name: count for name, count in task["statuses"].items() if name != "ok"}
        said = ", ".join(f"{count} {name}" for name, count in failed.items())
        readable = f"{task['readable']}" + (f" ({said})" if said else "")
        metrics = "  ".join(f"{name} {_shown(values)}" for name, values in task["metrics"].items())
        table.add_row(task["task"], str(task["questions"]), readable, metrics)
    return table


def numbers_of(record: dict[str, Any]) -> dict[str, float]:
    """The record as trackers take it: `validation/<task>/<metric>` and the share that was readable."""
    found: dict[str, float] = {}
    for task in record["tasks"]:
        prefix = f"validation/{task['task']}"
        found[f"{prefix}/readable"] = task["readable"] / task["questions"]
        for name, values in task["metrics"].items():
            found |= {f"{prefix}/{name}": values["mean"]} if values["mean"] is not None else {}
            found |= {f"{prefix}/{name} charged": values["charged"]} if values.get("charged") is not None else {}
    return found


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None


def _shown(values: dict[str, Any]) -> str:
    unit = f" {values['unit']}" if values.get("unit") else ""
    mean = "–" if values["mean"] is None else f"{values['mean']:.4g}{unit}"
    charged = values.get("charged")
    return mean if charged is None else f"{mean} ({charged:.4g}{unit} charged)"


@dataclass
class Validating:
    """Asks when it is time, once for each step, and writes and prints what came of it."""

    validation: Validation
    run: Path
    done: set[int]

    @classmethod
    def begun(cls, validation: Validation, run: Path) -> Validating:
        """Goes on after what is written; every process has to know the same."""
        accelerator = validation.accelerator
        mine = sorted(validated_steps(run / VALIDATION)) if accelerator.is_main_process else []
        known: list[int] = gather_object(mine) if accelerator.num_processes > 1 else mine
        return cls(validation, run, set(known))

    def ask(self, step: int, steps: int, engine: Engine, stop: StopFlag) -> dict[str, float] | None:
        """The numbers for trackers if the model was asked now."""
        if step in self.done or not self.validation.due(step, steps):
            return None
        started = time.perf_counter()
        judged = self.validation.answers(engine, stop)
        if judged is None:
            return None  # asked again when the run goes on
        self.done.add(step)
        record = self.validation.record(step, judged, time.perf_counter() - started)
        if self.validation.accelerator.is_main_process:
            write_validation(self.run, record, judged)
            console().print(table_of(record), highlight=False)
        return numbers_of(record)
