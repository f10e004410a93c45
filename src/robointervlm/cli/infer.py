"""The command `infer`: one question about pictures, or one after another in a dialogue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robointervlm.core.answer import Unparsed
from robointervlm.core.errors import RecipeError
from robointervlm.core.prompt import Decoding
from robointervlm.report.overlay import in_words, save_overlay


def infer(  # noqa: PLR0913 - one per flag
    more_images: Annotated[list[Path] | None, typer.Argument(metavar="MORE_IMAGES", hidden=True)] = None,
    *,
    model: Annotated[str, typer.Option(help="A checkpoint's folder, the run it was trained in, or a hub name.")],
    prompt: Annotated[
        str | None, typer.Option(help="The prompt; <image> marks where an image stands, by default images come first.")
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE…", help="One or more images, in order; …/EPISODE#N is a frame of LMDB."),
    ] = None,
    family: Annotated[str | None, typer.Option(help="Model family; detected from config.json if not given.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Parse the answer as this task's, in pixels; without --prompt, ask its question.")
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option("--overlay", "--out", help="Draw the answer over the first image, into this PNG.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum number of tokens to generate.")] = 512,
    setting: Annotated[list[str] | None, typer.Option("--set", help="Keys of the model section: device=cpu.")] = None,
) -> None:
    """Ask a model about your own pictures: one question, or without --prompt and --task one after another.

    For example:

      robointer infer --model runs/sft/model --images a.jpg --task gripper_det --out answer.png

      robointer infer --model runs/sft/model --images a.jpg b.jpg --prompt "Where is the red cube?" --task grounding

      robointer infer --model runs/sft/model
    """
    from robointervlm.evaluate.infer import ask_once

    pictures = [*(images or []), *(more_images or [])]
    section = model_section(model, family, setting)
    if prompt is None and task is None:
        _talk(section, pictures, Decoding(max_new_tokens), overlay)
        return
    question = prompt if prompt is not None else _own_question(task, pictures)
    said = ask_once(section, question, pictures, task=task, decoding=Decoding(max_new_tokens))
    typer.echo(said.text)
    if said.answer is not None:
        if isinstance(said.answer, Unparsed):
            typer.echo(f"{task}: no answer could be read: {said.answer.reason}")
        else:
            typer.echo(f"{task}: {in_words(said.answer)}")
    if overlay is not None:
        save_overlay(overlay, said.picture, said.answer)
        typer.echo(f"{overlay}")


def model_section(model: str, family: str | None, settings: list[str] | None) -> dict[str, object]:
    """The `model` section of a recipe that these flags describe."""
    from robointervlm.runs.settings import override_values

    section = {"path": model, "family": family, **override_values(settings or [])}
    return {key: value for key, value in section.items() if value is not None}


def _own_question(task: str | None, pictures: list[Path]) -> str:
    from robointervlm.app.own_question import complete_question

    if not pictures:
        raise RecipeError(f"the question of '{task}' is about a picture; give one with --images.")
    return complete_question(str(task))


def _talk(section: dict[str, object], pictures: list[Path], decoding: Decoding, overlay: Path | None) -> None:
    from robointervlm.cli.dialogue import Dialogue, hold
    from robointervlm.evaluate.infer import image_question
    from robointervlm.models.model import load_model

    if overlay is not None:
        raise RecipeError("--out is for one question, with --prompt or --task; in the dialogue it is /save FILE.png.")
    image_question("", pictures)  # a picture that cannot be opened is said before the model is loaded
    hold(Dialogue(load_model(section), decoding, pictures))
