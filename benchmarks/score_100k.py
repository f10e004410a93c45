"""How long a large run takes to score: boxes, trajectories, letters, yes/no and texts, in the forms models write.

python benchmarks/score_100k.py [--records 100000] [--folder FOLDER] [--profile]

Builds a run folder without a model (answers near the truth, some in prose, some unreadable), scores it, and prints the
seconds of one core: the whole of `score(folder)`, then its parts by themselves.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import platform
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from robointervlm.core.answer import Answer, Box, Choice, Text, Trajectory, YesNo
from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.core.writing import answer_to_json
from robointervlm.evaluate.records import RECORDS, Requested, RequestedList, read_requested, write_requested
from robointervlm.evaluate.score import report_of, score, score_all, write_samples
from robointervlm.runs.journal import Entry, encoded_line, read_journal
from robointervlm.tasks import task_named

IMAGE = ImageSize(320, 180)
TASKS = ("current_box", "traj", "traj_direction_choice", "contact_decide", "naming")
NAMES = ("red cube", "blue bowl", "green plate", "grey gripper")
SKILLS = ("pick", "place", "push")
# Six questions of each task are about one episode, as in the simulated data.
QUESTIONS_PER_EPISODE = 6
# One in so many answers is prose without an answer in it; no multiple of five, so that every task has some.
UNREADABLE = 51


def reference_of(task: str, generator: Generator) -> Answer:
    """A true answer of a task, in pixels."""
    if task == "current_box":
        x, y = generator.uniform(0, 240), generator.uniform(0, 120)
        return Box(x, y, x + generator.uniform(8, 80), y + generator.uniform(8, 60))
    if task == "traj":
        steps = generator.normal((8, 2), 6, size=(10, 2)).cumsum(axis=0) + (60, 60)
        return Trajectory(tuple((round(x, 2), round(y, 2)) for x, y in steps.tolist()))
    if task == "traj_direction_choice":
        return Choice("ABCD"[generator.integers(4)])
    if task == "contact_decide":
        return YesNo(bool(generator.integers(2)))
    return Text(NAMES[generator.integers(4)])


def reply_of(task: str, truth: Answer, number: int, generator: Generator) -> str:
    """What a model may answer: the truth with an error, in one of several forms."""
    if number % UNREADABLE == 7:
        return "I am not sure; it may be hidden behind the gripper."
    near = moved(truth, generator)
    written = task_named(task).write(near, Space.pixels(IMAGE))
    match near:
        case Box() | Trajectory():
            forms = (written, f"```json\n{written}\n```", f"The answer is {written.partition(': ')[2].rstrip('}')}.")
        case Choice():
            forms = (written, f"The answer is {written}.", f"({written}) because the arm moves there")
        case YesNo():
            forms = (written, f"{written}.", f"{written}, the gripper touches it.")
        case _:
            forms = (written, written.capitalize(), f"a {written}")
    return forms[number % 3]


def moved(truth: Answer, generator: Generator) -> Answer:
    """A near answer; one in four letters and words is another one."""
    match truth:
        case Box():
            dx, dy = generator.normal(0, 8, size=2)
            return Box(truth.x1 + dx, truth.y1 + dy, truth.x2 + dx, truth.y2 + dy)
        case Trajectory():
            return Trajectory(tuple(map(tuple, (truth.array + generator.normal(0, 6, size=(10, 2))).tolist())))
        case Choice():
            return Choice("ABCD"[generator.integers(4)]) if generator.random() < 0.25 else truth
        case YesNo():
            return YesNo(truth.yes == (generator.random() > 0.25))
        case _:
            return Text(NAMES[generator.integers(4)]) if generator.random() < 0.25 else truth


def build(folder: Path, count: int) -> None:
    """The run folder: `requested.json` and `records.jsonl`, as predicting leaves them."""
    generator = np.random.default_rng(0)
    questions, lines = [], []
    for number in range(count):
        task = TASKS[number % len(TASKS)]
        episode = number // (len(TASKS) * QUESTIONS_PER_EPISODE)
        truth = reference_of(task, generator)
        asked = Requested(
            key=f"{number:064x}",
            id=f"episode_{episode}_{number}_{task}",
            dataset=f"synthetic_{task}_{episode % 2}",
            task=task,
            episode=f"episode_{episode}",
            images=(("images", f"{episode}.png"),),
            image_size=IMAGE,
            answer=answer_to_json(truth),
            raw_answer=task_named(task).write(truth, Space.pixels(IMAGE)),
            skill=SKILLS[episode % 3],
        )
        questions.append(asked)
        lines.append(encoded_line(record_of(asked, reply_of(task, truth, number, generator))))
    model = {"name": "synthetic", "fingerprint": "0", "coordinates": "pixel"}
    write_requested(folder, RequestedList(model, {"temperature": 0.0}, "default", tuple(questions)))
    (folder / RECORDS).write_bytes(b"".join(lines))


def record_of(asked: Requested, reply: str) -> Entry:
    """A journal entry as predicting writes it, without what scoring does not read."""
    return {
        "key": asked.key,
        "image_size": IMAGE,
        "processed_size": None,
        "format": "pixel",
        "prompt": f"<image>\nWhat is asked of {asked.id}?",
        "reply": reply,
        "status": "ok",
        "reason": "",
        "seconds": 0.1,
        "input_tokens": 90,
        "output_tokens": 30,
        "finish_reason": "stop",
    }


def timed(name: str, work: Callable[[], Any]) -> Any:
    """Does the work and prints the seconds of processor time it took."""
    start = time.process_time()
    result = work()
    print(f"{name:32} {time.process_time() - start:7.2f} s")
    return result


def measure(folder: Path, count: int) -> None:
    """The seconds of building, of scoring, and of each part of scoring."""
    gc.disable()  # as `score` does; the parts would otherwise take longer than the whole
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}; {count} records, one core"
    )
    timed("build the run folder", lambda: build(folder, count))
    timed("score(folder), the whole", lambda: score(folder))
    print("its parts, by themselves:")
    requested = timed("  read requested.json", lambda: read_requested(folder))
    content = timed("  read records.jsonl", lambda: read_journal(folder / RECORDS))
    records = {str(entry["key"]): entry for entry in content.entries}
    scored = timed("  read the answers, measure", lambda: score_all(requested.questions, records))
    timed("  means, intervals, slices", lambda: report_of(requested, scored))
    timed("  write the samples", lambda: write_samples(folder, scored))


def profiled(folder: Path, count: int) -> None:
    """Prints where the time of `score(folder)` goes, function by function."""
    build(folder, count)
    profile = cProfile.Profile()
    profile.runcall(score, folder)
    pstats.Stats(profile).sort_stats("tottime").print_stats(40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="default: a temporary one")
    parser.add_argument("--profile", action="store_true")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = profiled if flags.profile else measure
        work(flags.folder or Path(temporary), flags.records)


if __name__ == "__main__":
    main()
