"""The command `infer`: one question about pictures, or one after another in a dialogue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robointervlm.cli import options
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
    family: options.Family = None,
    task: Annotated[
        str | None, typer.Option(help="Parse the answer as this task's, in pixels; without --prompt, ask its question.")
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option("--overlay", "--out", help="Draw the answer over the first image, into this PNG.")
    ] = None,
    max_new_tokens: options.MaxNewTokens = 512,
    setting: options.ModelSettings = None,
) -> None:
    """Ask a model about your own pictures: one question, or without --prompt and --task one after another.

    For example:

      robointer infer --model runs/sft/model --images a.jpg --task gripper_det --out answer.png

      robointer infer --model runs/sft/model --images a.jpg b.jpg --prompt "Where is the red cube?" --task grounding

      robointer infer --model runs/sft/model
    """
    from robointervlm.evaluate.infer import ask_once

    pictures = [*(images or []), *(more_images or [])]
    section = options.model_section(model, family, setting)
    if prompt is None and task is None:
        _talk(section, pictures, Decoding(max_new_tokens), overlay)
        return
    if prompt is None:
        from robointervlm.app.ask import complete_question

        if not pictures:
            raise RecipeError(f"the question of '{task}' is about a picture; give one with --images.")
        prompt = complete_question(str(task))
    said = ask_once(section, prompt, pictures, task=task, decoding=Decoding(max_new_tokens))
    typer.echo(said.text)
    if said.answer is not None:
        if isinstance(said.answer, Unparsed):
            typer.echo(f"{task}: no answer could be read: {said.answer.reason}")
        else:
            typer.echo(f"{task}: {in_words(said.answer)}")
    if overlay is not None:
        save_overlay(overlay, said.picture, said.answer)
        typer.echo(f"{overlay}")


def _talk(section: dict[str, object], pictures: list[Path], decoding: Decoding, overlay: Path | None) -> None:
    from robointervlm.cli.dialogue import Dialogue, hold
    from robointervlm.evaluate.infer import image_question
    from robointervlm.models.model import load_model

    if overlay is not None:
        raise RecipeError("--out is for one question, with --prompt or --task; in the dialogue it is /save FILE.png.")
    image_question("", pictures)  # a picture that cannot be opened is said before the model is loaded
    hold(Dialogue(load_model(section), decoding, pictures))
