"""A small benchmark with pictures, and a scripted model that answers it: for tests that run whole commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
SIZE = (196, 112)
COMMAND = [sys.executable, "-m", "robointervlm.cli"]

KEYS = {
    "current_box": "current_bbox",
    "gripper_det": "gripper_det_bbox",
    "traj_wo_init_pos": "future_traj",
    "contact_point": "contact_point",
}


@dataclass(frozen=True)
class Benchmark:
    """An annotation file of one task, the folder of its pictures, and a scripted model in a checkpoint's place."""

    task: str
    file: Path
    images: Path
    model: Path
    count: int

    def options(self, out: Path) -> list[str]:
        return [
            *("--model", str(self.model), "--data", str(self.file), "--task", self.task),
            *("--image-dir", str(self.images), "--out", str(out)),
        ]

    def overrides(self, out: Path) -> list[str]:
        return [
            f"model.path={self.model}",
            f"data.file={self.file}",
            f"data.task={self.task}",
            f"data.image_dir={self.images}",
            f"run.dir={out}",
        ]


def make_benchmark(folder: Path, *, task: str = "current_box", count: int = 12, **config: object) -> Benchmark:
    """Questions about `count` pictures. Every tenth answer is prose, every fifth far off, the others near or right."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    records, answers = [], {}
    for number in range(count):
        box = _box(number)
        _draw(images / f"{number:04}.png", box, number)
        question = f"Where is object {number}?"
        truth = _answer(task, box)
        records.append(
            {
                "id": f"{task}-{number:04}",
                "episode": f"episode-{number // 3}",
                "image_path": f"{number:04}.png",
                "question": f"<image>\n{question}",
                "ground_truth": truth,
            }
        )
        answers[question] = _said(task, box, number)
    file = folder / f"{task}.json"
    file.write_text(json.dumps(records))
    return Benchmark(task, file, images, make_model(folder / f"model-{task}", answers, **config), count)


def make_model(folder: Path, answers: dict[str, object], **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "scripted", "name": "scripted", **config}))
    (folder / "answers.json").write_text(json.dumps(answers))
    return folder


def robointer(
    *arguments: object, cwd: Path | None = None, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def _box(number: int) -> tuple[int, int, int, int]:
    left, top = 8 + (number * 37) % 130, 10 + (number * 23) % 60
    return left, top, left + 30 + number % 7, top + 22 + number % 5


def _said(task: str, box: tuple[int, int, int, int], number: int) -> str:
    if number % 10 == 9:
        return "I am not sure; it may be hidden behind the gripper."
    shift = 90 if number % 5 == 4 else 2 * (number % 4)
    left, top, right, bottom = box
    return _answer(task, (left + shift, top + shift // 2, right + shift, bottom + shift // 2))


def _answer(task: str, box: tuple[int, int, int, int]) -> str:
    left, top, right, bottom = box
    points = [[left, top], [right, bottom]]
    if task == "traj_wo_init_pos":
        points = [[left + step * (180 - left) // 9, bottom - step * step] for step in range(10)]
    return json.dumps({KEYS[task]: points})


def _draw(path: Path, box: tuple[int, int, int, int], number: int) -> None:
    image = Image.new("RGB", SIZE, (196, 178, 150))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIZE[0], 26), fill=(120, 132, 140))
    draw.ellipse((120, 60, 170, 90), fill=(225, 225, 220))
    colours = [(190, 60, 50), (60, 110, 180), (70, 150, 80), (220, 180, 60)]
    draw.rounded_rectangle(box, 4, fill=colours[number % 4])
    draw.line((98, 0, box[0] + 12, box[1] - 4), fill=(60, 60, 64), width=7)
    image.save(path)
