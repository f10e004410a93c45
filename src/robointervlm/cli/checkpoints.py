"""The commands `tiny`, `convert` and `doctor`: a checkpoint made, made of another, and looked through."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robointervlm.cli import options
from robointervlm.core.errors import DataError, ModelError, RecipeError, RoboInterError
from robointervlm.runs.files import writing_to

if TYPE_CHECKING:
    from robointervlm.data.mixture import Mixture
    from robointervlm.models.qwen2_5_vl.encoder import Encoded
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL


def tiny(
    folder: Annotated[Path, typer.Argument(help="Where the checkpoint is written.")],
    texts: Annotated[
        list[str] | None, typer.Option("--texts-from", help="Datasets whose texts the tokenizer is trained on.")
    ] = None,
    *,
    root: options.DataRoot = None,
    catalog: options.OwnCatalog = None,
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 0,
) -> None:
    """Make a small random Qwen2.5-VL with a small tokenizer: a stand-in for the real one, for dry runs and tests.

    Example: robointer tiny runs/tiny --texts-from sim_gripper_det_train
    """
    from robointervlm.data.mixture import Mixture
    from robointervlm.data.spec import Catalog
    from robointervlm.models.tiny import TinySize, tiny_model
    from robointervlm.train.data.labels import sample_texts

    mixture = Mixture(texts, root=root, catalog=Catalog(*(catalog or ()))) if texts else None
    model = tiny_model(sample_texts(mixture), TinySize(), seed=seed)
    model.save(folder)
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    typer.echo(f"{folder}: {parameters:,} random parameters, {len(model.encoder.chat.tokenizer)} tokens")


convert = typer.Typer(
    name="convert",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Make a model of another shape from one you have.",
)


@convert.command("upcycle", no_args_is_help=True)
def upcycle(  # noqa: PLR0913 - one per option
    dense: Annotated[str, typer.Argument(help="A Qwen2.5-VL checkpoint: a folder or a hub name.")],
    moe: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
    *,
    experts: Annotated[int, typer.Option(help="Experts in each layer that has them.", min=1)] = 16,
    per_token: Annotated[int, typer.Option(help="Experts computed for each token.", min=1)] = 4,
    width: Annotated[int, typer.Option(help="Intermediate width of an expert.", min=1)] = 2048,
    every: Annotated[int, typer.Option(help="Every how many layers there are experts.", min=1)] = 1,
    dense_layer: Annotated[list[int] | None, typer.Option(help="A layer, from 0, without experts; repeatable.")] = None,
    normalise: Annotated[bool, typer.Option(help="Make the weights of a token's experts add up to 1.")] = True,
    balance: Annotated[float, typer.Option(help="Coefficient of the load-balancing loss in training.", min=0)] = 0.001,
    seed: Annotated[int, typer.Option(help="Random seed of the experts' weights.")] = 0,
) -> None:
    """Put a mixture of experts beside the MLPs of a dense Qwen2.5-VL; it answers exactly as before until it is trained.

    Example: `robointer convert upcycle Qwen/Qwen2.5-VL-3B-Instruct models/moe --experts 16 --per-token 4`

    Then: `robointer train recipes/train/sft.yaml model.path=models/moe model.tune=[experts]`
    """
    _refuse_existing(moe)
    from robointervlm.models.qwen2_5_vl import network, parts
    from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, upcycled

    shape = Shape(
        num_experts=experts,
        num_experts_per_tok=per_token,
        moe_intermediate_size=width,
        norm_topk_prob=normalise,
        decoder_sparse_step=every,
        mlp_only_layers=tuple(dense_layer or ()),
        router_aux_loss_coef=balance,
    )
    model = upcycled(network.Qwen25VL.stored(dense), shape, seed=seed)
    _write_new(model, moe)
    sizes = [(parts.part_of(name) == "experts", weight.numel()) for name, weight in model.network.named_parameters()]
    of_experts = sum(size for ours, size in sizes if ours)
    other = sum(size for ours, size in sizes if not ours)
    typer.echo(f"{moe}: {of_experts:,} parameters of experts beside {other:,} of the dense model")


@convert.command("merge", no_args_is_help=True)
def merge(
    base: Annotated[str, typer.Argument(help="The checkpoint the adapter was trained on: a folder or a hub name.")],
    adapter: Annotated[Path, typer.Argument(help="The adapter in peft's format, such as runs/lora/model/adapter.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
) -> None:
    """Make a LoRA adapter part of the model it was trained on: a folder that needs no peft any more.

    A training run with `lora` does this by itself; this is for adapters from elsewhere, or for another base. The
    weights keep the precision of the base.

    Example: `robointer convert merge Qwen/Qwen2.5-VL-3B-Instruct runs/lora/model/adapter models/merged`
    """
    _refuse_existing(out)
    from robointervlm.models.qwen2_5_vl import lora, network

    model = network.Qwen25VL.stored(base)
    lora.merge_adapter(model, adapter)
    _write_new(model, out)
    typer.echo(f"{out}: {base} with the updates of {adapter}")


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise RecipeError(f"{folder} exists already; choose a folder that does not.")


def _write_new(model: Qwen25VL, folder: Path) -> None:
    """Write the model under its name only when it is whole."""
    from robointervlm.train.checkpoint import discard

    temporary = folder.with_name(f".tmp-{folder.name}")
    with writing_to(folder):
        discard(temporary)
        model.save(temporary)
        temporary.replace(folder)


doctor = typer.Typer(
    name="doctor",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Show that the mathematics holds on your own model and data.",
)


@doctor.callback()
def _group() -> None:
    """Keeps `packing` a sub-command while it is the only one."""


@doctor.command("packing", no_args_is_help=True)
def packing(  # noqa: PLR0913 - one per option
    model: Annotated[str, typer.Argument(help="A Qwen2.5-VL checkpoint: a folder or a hub name.")],
    *,
    data: Annotated[str, typer.Option(help="A dataset's name, several with commas, or an annotation file.")],
    samples: Annotated[int, typer.Option(help="How many of its first samples make the row.", min=2)] = 8,
    task: Annotated[str, typer.Option(help="The task of the annotation file's samples.")] = "chat",
    image_dir: options.FileImages = None,
    root: options.DataRoot = None,
    catalog: options.OwnCatalog = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16; float32 tells most.")] = "float32",
) -> None:
    """Compare a packed row with the same samples one by one: loss, logits and the gradient of every part.

    Ends with 0 if they differ by rounding only, with 3 if by more: then train this model with `batch.pack=none`.
    It takes four times the memory of the weights, and changes nothing.

    Example: `robointer doctor packing Qwen/Qwen2.5-VL-3B-Instruct --data rh20t_vla_current_box_train --samples 8`
    """
    from robointervlm.data import mixture, spec
    from robointervlm.models.qwen2_5_vl import Section, network, packing_check
    from robointervlm.runs.settings import load_recipe
    from robointervlm.tasks import task_named

    if Path(data).is_file():
        source = mixture.Mixture([spec.spec_of_file(Path(data), task=task_named(task).name, images=image_dir)])
    else:
        source = mixture.Mixture(data, root=root, catalog=spec.Catalog(*(catalog or [])))
    section = load_recipe(Section, None, [f'path="{model}"', f'device="{device}"', f'dtype="{dtype}"'])
    loaded = network.Qwen25VL.load(section)
    groups = packing_check.grouped(loaded, _encoded(loaded, source, samples))
    found = packing_check.agreement(loaded, groups)
    tokens = sum(len(each.ids) for group in groups for each in group)
    typer.echo(f"{sum(map(len, groups))} samples of {tokens:,} tokens in {len(groups)} groups, {dtype}")
    # Printed plainly, so that it can be pasted into an issue.
    typer.echo(f"{'relative difference of':<24}{'from':<8}{'found':>10}{'allowed':>10}")
    for each in found.differences:
        verdict = "" if each.is_rounding else "  NOT ROUNDING"
        typer.echo(f"{each.what:<24}{each.reference:<8}{each.found:>10.1e}{each.allowed:>10.1e}{verdict}")
    for reference in found.left_out:
        typer.echo(f"{reference}: left out, it does not fit into memory")
    if not found.holds:
        worst = max(found.differences, key=lambda each: each.found / each.allowed)
        raise ModelError(
            f"packed rows of '{model}' are not the same: {worst.what} differs by {worst.found:.1e} from "
            f"{worst.reference}, rounding allows {worst.allowed:.1e}. Train it with batch.pack=none."
        )
    typer.echo("Packed rows give what the samples give alone, up to rounding.")


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
