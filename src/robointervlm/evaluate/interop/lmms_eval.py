"""Our tasks as a folder that lmms-eval's own command line runs: YAML, questions, pictures, the way to our scoring."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS, CoordinateFormat, ImageSize, smart_resize
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.core.sample import ImageRef
from robointervlm.data import images
from robointervlm.evaluate.interop.lmms_docs import metric_names
from robointervlm.evaluate.questions import Asked, Asker, Question
from robointervlm.evaluate.recipe import DecodingSettings
from robointervlm.runs.files import write_atomically
from robointervlm.tasks import Task

logger = logging.getLogger(__name__)

PREFIX = "robointer_"
_PICTURES = "images"
# lmms-eval looks functions up in a file beside the YAML, and calls them with nothing but the question.
_UTILS = '''"""What lmms-eval calls. The package robointervlm has to be in its environment: pip install --no-deps."""

from pathlib import Path

from robointervlm.evaluate.interop import lmms_docs

FOLDER = Path(__file__).parent


def doc_to_visual(doc):
    return lmms_docs.doc_to_visual(doc, FOLDER)


def doc_to_text(doc):
    return lmms_docs.doc_to_text(doc)


def doc_to_messages(doc):
    return lmms_docs.doc_to_messages(doc, FOLDER)


def process_results(doc, results):
    return lmms_docs.process_results(doc, results)


def mean(values):
    return lmms_docs.mean(values)
'''


@dataclass(frozen=True)
class Answerer:
    """What has to be known of the model that will be asked: how it writes places, and how it sees pictures.

    With `resized` the pictures are exported in the size that Qwen2.5-VL's processor makes of them between these limits,
    which a server with no narrower limits leaves alone.
    """

    coordinates: CoordinateFormat
    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS

    @property
    def fingerprint(self) -> str:
        return f"lmms-eval {self.coordinates.value} {self.min_pixels} {self.max_pixels}"

    def processed_size(self, image: ImageSize) -> ImageSize:
        """The size a picture is exported in."""
        if self.coordinates is not CoordinateFormat.RESIZED:
            return image
        return smart_resize(image, min_pixels=self.min_pixels, max_pixels=self.max_pixels)


def export(questions: Iterable[Question], answerer: Answerer, folder: Path, *, style: str = "default") -> list[str]:
    """Writes the folder; the names of its tasks in lmms-eval, besides `robointer` for all of them.

    Raises `RecipeError` if there is something in the folder, `DataError` if any question cannot be asked: a folder with
    fewer questions would give other numbers.
    """
    if folder.exists() and any(folder.iterdir()):
        raise RecipeError(f"{folder} is not empty; give a folder that does not exist.")
    asker = Asker(answerer, DecodingSettings(), style)
    by_task: dict[str, list[Asked]] = {}
    for question in questions:
        asked = asker.asked(question)
        if asked.problem is not None:
            raise DataError(f"{asked.requested.id} cannot be asked: {asked.problem.reason}")
        by_task.setdefault(asked.task.name, []).append(asked)
    (folder / _PICTURES).mkdir(parents=True)
    pictures = _Pictures(folder, answerer)
    for name, each in by_task.items():
        lines = [json.dumps(_doc(asked, pictures)) + "\n" for asked in each]
        write_atomically(folder / f"{PREFIX}{name}.jsonl", "".join(lines))
        write_atomically(folder / f"{PREFIX}{name}.yaml", _task_yaml(each[0].task, folder))
    write_atomically(folder / "utils.py", _UTILS)
    names = [PREFIX + name for name in by_task]
    write_atomically(folder / "robointer.yaml", "group: robointer\ntask:\n" + "".join(f"- {each}\n" for each in names))
    logger.info("%d questions and %d pictures, into %s", sum(map(len, by_task.values())), pictures.count, folder)
    return names


class _Pictures:
    """The pictures of a folder: each once, in the size it is to be sent in, as PNG."""

    def __init__(self, folder: Path, answerer: Answerer) -> None:
        self._folder = folder
        self._answerer = answerer
        self._written: dict[ImageRef, str] = {}

    @property
    def count(self) -> int:
        return len(set(self._written.values()))

    def written(self, ref: ImageRef) -> str:
        """The path of this picture in the folder, where it is written if it was not yet."""
        if ref not in self._written:
            digest, size = images.content_and_size(ref)
            name = f"{_PICTURES}/{digest[:20]}.png"
            if not (self._folder / name).exists():
                picture = Image.fromarray(images.load(ref))
                sent = self._answerer.processed_size(size)
                # As models/openai_api sends it.
                resized = picture if sent == size else picture.resize(sent, Image.Resampling.BICUBIC)
                resized.save(self._folder / name)
            self._written[ref] = name
        return self._written[ref]


def _doc(asked: Asked, pictures: _Pictures) -> dict[str, str]:
    space = asked.space
    record = {
        "task": asked.task.name,
        "messages": [[message.role, message.text] for message in asked.messages],
        "images": [pictures.written(ref) for ref in asked.references],
        "format": None if space is None else space.format.value,
        "image_size": None if space is None else space.image,
        "processed_size": None if space is None else space.processed,
        "answer": asked.requested.answer,
    }
    return {"id": asked.requested.id, "target": asked.requested.raw_answer, "record": json.dumps(record)}


def _task_yaml(task: Task, folder: Path) -> str:
    """The task as lmms-eval reads it. Paths in it are absolute: relative ones start where lmms-eval is run."""
    metrics = "".join(
        f"- metric: {json.dumps(name)}\n  aggregation: !function utils.mean\n  higher_is_better: {json.dumps(higher)}\n"
        for name, higher in metric_names(task.name)
    )
    return (
        f"task: {PREFIX}{task.name}\n"
        "dataset_path: json\n"
        "dataset_kwargs:\n"
        "  data_files:\n"
        f"    test: {json.dumps(str((folder / f'{PREFIX}{task.name}.jsonl').absolute()))}\n"
        "test_split: test\n"
        "output_type: generate_until\n"
        "doc_to_visual: !function utils.doc_to_visual\n"
        "doc_to_text: !function utils.doc_to_text\n"
        "doc_to_messages: !function utils.doc_to_messages\n"
        "doc_to_target: target\n"
        # Without `until` lmms-eval would end every answer at an empty line.
        "generation_kwargs:\n"
        f"  max_new_tokens: {task.max_new_tokens}\n"
        "  temperature: 0\n"
        "  do_sample: false\n"
        "  until: []\n"
        "process_results: !function utils.process_results\n"
        f"metric_list:\n{metrics}"
        "metadata:\n  version: 1.0\n"
    )
