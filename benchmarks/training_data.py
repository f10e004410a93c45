"""The workloads of benchmarks/training.py: made-up pictures and questions of realistic length, written for every side.

    G  six questions on each of two pictures, one of 320x180 and one of 640x480
    P  ten questions on eight frames of 320x180

A question has 85 to 165 words unless told otherwise, an answer about 30; a word is a token. The words are random; only
their number matters to how long a step takes - and to what packing saves, which is less the longer the questions are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from robointervlm.core.prompt import Message
from robointervlm.models.qwen2_5_vl.encoder import Encoded, Encoder

SMALL, LARGE = (320, 180), (640, 480)
QUESTION_WORDS = (85, 165)
ANSWER_WORDS = (24, 34)
WORDS = re.findall(
    r"\w+",
    "the red cup on table next to blue bowl that robot arm is about move left of plate where should gripper go what "
    "happens after it has been picked up describe object which was placed in front drawer and then give its position "
    "as follows step by first second grasp open close push pull towards away from edge center top bottom right",
)


@dataclass(frozen=True)
class Workload:
    """Groups of questions, each on pictures of its own: the sizes of these, and how many questions."""

    groups: tuple[tuple[tuple[tuple[int, int], ...], int], ...]
    question_words: tuple[int, int] = QUESTION_WORDS

    @property
    def samples(self) -> int:
        return sum(questions for _, questions in self.groups)


WORKLOADS = {
    "G": Workload((((SMALL,), 6), ((LARGE,), 6))),
    "P": Workload((((SMALL,) * 8, 10),)),
}
# Enough to run everything once; nothing is timed with it.
QUICK = Workload((((SMALL,), 2), (((84, 56),), 2)))


@dataclass(frozen=True)
class Record:
    """One question with its answer; pictures relative to the folder."""

    name: str
    group: int
    pictures: tuple[str, ...]
    question: str
    answer: str


def sentence(random: np.random.Generator, words: tuple[int, int]) -> str:
    """A text of that many words, from the least to the most."""
    return " ".join(random.choice(WORDS, int(random.integers(words[0], words[1], endpoint=True))))


def records(workload: Workload, seed: int = 0) -> Iterator[Record]:
    """All questions of a workload, the same ones for the same seed."""
    random = np.random.default_rng(seed)
    for group, (sizes, questions) in enumerate(workload.groups):
        pictures = tuple(f"{group}-{place}.jpg" for place in range(len(sizes)))
        for number in range(questions):
            name = f"{group}-{number}"
            yield Record(
                name, group, pictures, sentence(random, workload.question_words), sentence(random, ANSWER_WORDS)
            )


def texts() -> list[str]:
    """What the tokenizer should know, so that a word is about a token."""
    return [text for record in records(WORKLOADS["G"]) for text in (record.question, record.answer)] * 20


def encoded(record: Record, folder: Path, encoder: Encoder) -> Encoded:
    """A question as our own side encodes it."""
    pictures = [np.asarray(Image.open(folder / picture)) for picture in record.pictures]
    question = Message("user", "<image>" * len(pictures) + record.question)
    return encoder.encode([question, Message("assistant", record.answer)], pictures)


def write(workload: Workload, folder: Path) -> None:
    """The pictures, and the records as we, TRL and ms-swift read them."""
    folder.mkdir(parents=True, exist_ok=True)
    for group, (sizes, _) in enumerate(workload.groups):
        for place, size in enumerate(sizes):
            _picture(size, seed=100 * group + place).save(folder / f"{group}-{place}.jpg", quality=90)
    made = list(records(workload))
    (folder / "questions.json").write_text(json.dumps([_ours(record) for record in made]))
    (folder / "catalog.yaml").write_text("root: .\nquestions: {task: chat, annotations: questions.json}\n")
    for name, line in (("trl.jsonl", _trl), ("swift.jsonl", _swift)):
        (folder / name).write_text("".join(json.dumps(line(record, folder)) + "\n" for record in made))


def _picture(size: tuple[int, int], seed: int) -> Image.Image:
    """Coarse noise made smooth: a JPEG of it is about as large as one of a photograph."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def _ours(record: Record) -> dict[str, object]:
    markers = "<image>" * len(record.pictures)
    return {
        "id": record.name,
        "images": list(record.pictures),
        "conversations": [
            {"from": "human", "value": f"{markers}{record.question}"},
            {"from": "gpt", "value": record.answer},
        ],
    }


def _trl(record: Record, folder: Path) -> dict[str, object]:
    return {
        "prompt": [{"role": "user", "content": record.question}],
        "completion": [{"role": "assistant", "content": record.answer}],
        "images": [str(folder / picture) for picture in record.pictures],
    }


def _swift(record: Record, folder: Path) -> dict[str, object]:
    return {
        "messages": [
            {"role": "user", "content": "<image>" * len(record.pictures) + record.question},
            {"role": "assistant", "content": record.answer},
        ],
        "images": [str(folder / picture) for picture in record.pictures],
    }
