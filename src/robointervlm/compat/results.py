"""Where the documented evaluation scripts leave what they found: a folder, a log and a list of answers of its own each.

An evaluation is told from every other by its model, its questions, and how it asks. Its folder and its log bear that in
their names. The documented names, which hold less (`{model}_{type}.log`, `eval_details_{type}.json`), are copies of the
newest of their kind.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robointervlm.core.errors import ExitCode
from robointervlm.models.locate import model_folder
from robointervlm.runs.files import in_file_name, write_atomically
from robointervlm.tasks import all_tasks

# The longest type, folder, file and question type in a label. A file name holds 255 bytes, of which the model's name,
# the digest, the ending, and what is added while it is written want some.
_LONGEST_PARTS = (32, 32, 60, 24)
_LONGEST_STEM = 200  # bytes
_DIGEST_LETTERS = 8


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a documented script.

    Attributes:
        model: the checkpoint's path, hub name, or name at its endpoint.
        model_name: what results and logs call it.
        file: the questions.
        task: what they ask for; `kind` is the `--type` that said so, the task's name where none was given.
        style: how they are put, as the script's flag says it.
        settings: everything else that decides the answers.
    """

    model: str
    model_name: str
    file: Path
    task: str
    kind: str
    style: str
    settings: Sequence[str]

    @property
    def label(self) -> str:
        """`{type}-{folder of the file}-{file}-{question type}-{digest}`: no two evaluations share one.

        The digest is over the model's name, the real paths of model and questions, and all settings: the same command
        has the same label, so that it goes on where it was interrupted.
        """
        model = model_folder(self.model)
        real = [os.path.realpath(path) if Path(path).exists() else str(path) for path in (model, self.file)]
        decisive = json.dumps([self.model_name, *real, self.task, self.style, *self.settings])
        digest = hashlib.sha256(decisive.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LETTERS]
        folder = Path(os.path.realpath(self.file)).parent.name
        parts = zip((self.kind, folder, self.file.stem, self.style), _LONGEST_PARTS, strict=True)
        return "-".join([*(in_file_name(part, longest) for part, longest in parts if part), digest])

    @property
    def details_name(self) -> str:
        """The documented name of the list of answers: by the task, or by the file where `--type` names none."""
        stem = self.file.stem.encode("utf-8", "surrogateescape")[:_LONGEST_STEM].decode("utf-8", "ignore")
        return f"eval_details_{self.kind if self.kind in all_tasks() else stem}.json"

    def folder(self, output_dir: Path | None, results: Path) -> Path:
        """The run folder: the one that was asked for, or the evaluation's own in the results of its model."""
        return output_dir or results / in_file_name(self.model_name) / self.label


def run_evaluation(evaluation: Evaluation, model_flags: Sequence[str], *, out: Path) -> int:
    """Has `robointer predict` do it; the exit code. `model_flags` name the model and what decides no answer."""
    from robointervlm.cli.main import run

    return run(
        [
            *("predict", *model_flags, f"model.name={json.dumps(evaluation.model_name)}"),
            *("--data", str(evaluation.file), "--task", evaluation.task, "--out", str(out)),
            *evaluation.settings,
        ]
    )


def publish(evaluation: Evaluation, out: Path, code: int, *, results: Path, logs: Path) -> None:
    """Writes the log and the list of answers of an evaluation that was scored, and their documented copies.

    Nothing where `predict` ended with another code: what lies in the folder then is not this evaluation's.
    """
    if code not in (ExitCode.COMPLETE, ExitCode.TOO_MANY_FAILURES):
        return
    from robointervlm.report import scored, write

    run = scored.read_scored(out)
    about = {"model path": evaluation.model, "questions": str(evaluation.file), "results": str(out)}
    name = in_file_name(evaluation.model_name)
    text = write.log_text(run, run.report["tasks"], about)
    own, documented = f"{name}_{evaluation.label}.log", f"{name}_{in_file_name(evaluation.kind)}.log"
    for path in (logs / own, logs / documented):
        write_atomically(path, text)
        sys.stdout.write(f"{path}\n")
    details = details_text(out)
    write_atomically(out / evaluation.details_name, details)
    if out.parent == results / name:
        write_atomically(out.parent / evaluation.details_name, details)
    sys.stdout.write(f"{out / evaluation.details_name}\n")


def details_text(run_folder: Path) -> str:
    """The documented list of answers: `pred` as the model wrote it, `gt` as the annotation has it.

    `processed_size` is what `resized` numbers of the model are in; it is left out where the annotation's own numbers
    are `resized`, whose size may be another.
    """
    from robointervlm.evaluate import recipe, records
    from robointervlm.report.scored import read_scored
    from robointervlm.runs import journal, settings

    written = settings.load_recipe(recipe.EvaluationRecipe, run_folder / "recipe.yaml").data.coordinates
    resized = written in ("resized", "smart_resize_format")
    kept = () if resized else journal.read_journal(run_folder / records.RECORDS).entries
    sizes = {entry["key"]: entry.get("processed_size") for entry in kept}
    details = [
        {
            "id": sample["id"],
            "pred": sample["reply"],
            "gt": sample["raw_answer"],
            "image_path": [path for _, path in sample["images"]],
            "image_size": sample["image_size"],
            "processed_size": sizes.get(sample["key"]),
            "prompt": sample["prompt"],
        }
        for sample in read_scored(run_folder).samples
    ]
    return json.dumps(details, indent=1) + "\n"
