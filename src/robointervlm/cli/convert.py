"""`robointer convert …`: models of another shape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robointervlm.core.errors import RecipeError
from robointervlm.runs.files import writing_to

if TYPE_CHECKING:
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL

app = typer.Typer(
    name="convert",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Make a model of another shape from one you have.",
)


@app.command("upcycle", no_args_is_help=True)
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
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL
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
    model = upcycled(Qwen25VL.stored(dense), shape, seed=seed)
    _write_new(model, moe)
    of_experts, other = _sizes(model.network)
    typer.echo(f"{moe}: {of_experts:,} parameters of experts beside {other:,} of the dense model")


@app.command("merge", no_args_is_help=True)
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
    from robointervlm.models.qwen2_5_vl.lora import merge_adapter
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL

    model = Qwen25VL.stored(base)
    merge_adapter(model, adapter)
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


def _sizes(network: Any) -> tuple[int, int]:
    from robointervlm.models.qwen2_5_vl.parts import part_of

    sizes = [(part_of(name) == "experts", parameter.numel()) for name, parameter in network.named_parameters()]
    return sum(size for ours, size in sizes if ours), sum(size for ours, size in sizes if not ours)
