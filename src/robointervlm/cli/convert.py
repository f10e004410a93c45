"""`robointer convert …`: models of another shape."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robointervlm.core.errors import RecipeError
from robointervlm.runs.files import writing_to

app = typer.Typer(
    name="convert",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Make a model of another shape from one you have.",
)


@app.callback()
def _group() -> None:
    """Keeps `upcycle` a sub-command while it is the only one."""


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
    seed: Annotated[int, typer.Option(help="Of the experts' random weights.")] = 0,
) -> None:
    """Put a mixture of experts beside the MLPs of a dense Qwen2.5-VL; it answers exactly as before until it is trained.

    Example: `robointer convert upcycle Qwen/Qwen2.5-VL-3B-Instruct models/moe --experts 16 --per-token 4`

    Then: `robointer train recipes/train/sft.yaml model.path=models/moe model.tune=[experts]`
    """
    if moe.exists():
        raise RecipeError(f"{moe} exists already; choose a folder that does not.")
    from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, read_dense, upcycled
    from robointervlm.train.checkpoint import discard

    shape = Shape(
        num_experts=experts,
        num_experts_per_tok=per_token,
        moe_intermediate_size=width,
        norm_topk_prob=normalise,
        decoder_sparse_step=every,
        mlp_only_layers=tuple(dense_layer or ()),
        router_aux_loss_coef=balance,
    )
    model = upcycled(read_dense(dense), shape, seed=seed)
    temporary = moe.with_name(f".tmp-{moe.name}")
    with writing_to(moe):
        discard(temporary)
        model.save(temporary)
        temporary.replace(moe)
    of_experts, other = _sizes(model.network)
    typer.echo(f"{moe}: {of_experts:,} parameters of experts beside {other:,} of the dense model")


def _sizes(network: Any) -> tuple[int, int]:
    from robointervlm.models.qwen2_5_vl.network import part_of

    sizes = [(part_of(name) == "experts", parameter.numel()) for name, parameter in network.named_parameters()]
    return sum(size for ours, size in sizes if ours), sum(size for ours, size in sizes if not ours)
