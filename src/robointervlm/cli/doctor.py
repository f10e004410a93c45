"""`robointer doctor …`: whether what this package relies on holds on your own model and data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robointervlm.core.errors import DataError, ModelError, RoboInterError

if TYPE_CHECKING:
    from robointervlm.data.mixture import Mixture
    from robointervlm.models.qwen2_5_vl.encoder import Encoded
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL
    from robointervlm.models.qwen2_5_vl.packing_check import Agreement

app = typer.Typer(
    name="doctor",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Show that the mathematics holds on your own model and data.",
)


@app.callback()
def _group() -> None:
    """Keeps `packing` a sub-command while it is the only one."""


@app.command("packing", no_args_is_help=True)
def packing(  # noqa: PLR0913 - one per option
    model: Annotated[str, typer.Argument(help="A Qwen2.5-VL checkpoint: a folder or a hub name.")],
    *,
    data: Annotated[str, typer.Option(help="A dataset's name, several with commas, or an annotation file.")],
    samples: Annotated[int, typer.Option(help="How many of its first samples make the row.", min=2)] = 8,
    task: Annotated[str, typer.Option(help="The task of the annotation file's samples.")] = "chat",
    image_dir: Annotated[
        Path | None, typer.Option(help="The folder that the file's image paths are relative to.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Data root; $ROBOINTER_DATA by default.")] = None,
    catalog: Annotated[list[Path] | None, typer.Option(help="A catalog of your own; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16; float32 tells most.")] = "float32",
) -> None:
    """Compare a packed row with the same samples one by one: loss, logits and the gradient of every part.

    Ends with 0 if they differ by rounding only, with 3 if by more: then train this model with `batch.pack=none`.
    It takes four times the memory of the weights, and changes nothing.

    Example: `robointer doctor packing Qwen/Qwen2.5-VL-3B-Instruct --data rh20t_vla_current_box_train --samples 8`
    """
    from robointervlm.models.qwen2_5_vl import Section
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL
    from robointervlm.models.qwen2_5_vl.packing_check import agreement, grouped
    from robointervlm.runs.settings import load_recipe

    mixture = _mixture(data, task=task, image_dir=image_dir, root=root, catalog=catalog or [])
    section = load_recipe(Section, None, [f'path="{model}"', f'device="{device}"', f'dtype="{dtype}"'])
    loaded = Qwen25VL.load(section)
    groups = grouped(loaded, _encoded(loaded, mixture, samples))
    found = agreement(loaded, groups)
    tokens = sum(len(each.ids) for group in groups for each in group)
    typer.echo(f"{sum(map(len, groups))} samples of {tokens:,} tokens in {len(groups)} groups, {dtype}")
    _show(found)
    if not found.holds:
        worst = max(found.differences, key=lambda each: each.found / each.allowed)
        raise ModelError(
            f"packed rows of '{model}' are not the same: {worst.what} differs by {worst.found:.1e} from "
            f"{worst.reference}, rounding allows {worst.allowed:.1e}. Train it with batch.pack=none."
        )
    typer.echo("Packed rows give what the samples give alone, up to rounding.")


def _mixture(data: str, *, task: str, image_dir: Path | None, root: Path | None, catalog: list[Path]) -> Mixture:
    from robointervlm.data.mixture import Mixture
    from robointervlm.data.spec import Catalog, spec_of_file
    from robointervlm.tasks import task_named

    if Path(data).is_file():
        return Mixture([spec_of_file(Path(data), task=task_named(task).name, images=image_dir)])
    return Mixture(data, root=root, catalog=Catalog(*catalog))


def _encoded(model: Qwen25VL, mixture: Mixture, samples: int) -> list[tuple[Any, Encoded]]:
    """The first samples that can be read, each with what its pictures hold."""
    from robointervlm.data import images
    from robointervlm.train.data.dataset import TrainingDataset
    from robointervlm.train.recipe import AugmentSection

    feed = TrainingDataset(mixture, model.encoder, AugmentSection(), seed=0, max_tokens=1 << 30)
    found: list[tuple[Any, Encoded]] = []
    last: RoboInterError | None = None
    for index in range(len(mixture)):
        if len(found) == samples:
            break
        try:
            hashes = tuple(images.content_and_size(each)[0] for each in mixture[index].images)
            found.append((hashes, feed.example(index)[2]))
        except RoboInterError as error:
            last = error
    if not found:
        raise DataError(f"none of the {len(mixture)} samples can be read; the last: {last}")
    return found


def _show(found: Agreement) -> None:
    """A table of what was compared; printed plainly, so that it can be pasted into an issue."""
    typer.echo(f"{'relative difference of':<24}{'from':<8}{'found':>10}{'allowed':>10}")
    for each in found.differences:
        verdict = "" if each.is_rounding else "  NOT ROUNDING"
        typer.echo(f"{each.what:<24}{each.reference:<8}{each.found:>10.1e}{each.allowed:>10.1e}{verdict}")
    for reference in found.left_out:
        typer.echo(f"{reference}: left out, it does not fit into memory")
