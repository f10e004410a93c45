"""`robointer data build`: episodes, simulated or recorded, as datasets in the published layout."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from robointervlm.cli.options import console_of
from robointervlm.core import plugins
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import ExitCode, RecipeError
from robointervlm.data.spec import ROOT_VARIABLE
from robointervlm.jobs.share import Share

if TYPE_CHECKING:
    from robointervlm.episodes.work import Crew

# Problems that are printed; all are in a file.
_SHOWN = 20


# Of the simulator.
_ValEpisodes = Annotated[
    int, typer.Option("--val-episodes", min=0, help="Of sim: validation episodes, of other seeds.")
]
_Seed = Annotated[int, typer.Option("--seed", min=0, help="Of sim: the same seed gives the same files, to the byte.")]
_Colours = Annotated[
    str | None, typer.Option("--colours", help="Of sim: colours of the objects, such as red,blue; default: all.")
]
_Tasks = Annotated[
    str | None, typer.Option("--tasks", help="Of sim: the questions to ask, such as traj,planning; default: all.")
]
# Of recordings.
_Source = Annotated[
    str,
    typer.Option(
        "--source",
        help="Where episodes come from: `sim`, the simulated tabletop; `lerobot`; `lmdb`, RoboInter's layout.",
    ),
]
_Labels = Annotated[
    Path | None, typer.Option("--annotations", help="Of lmdb: the LMDB, or the pickle, with the labels.")
]
_Mapping = Annotated[Path | None, typer.Option("--mapping", help="Of recordings: YAML that says which column is what.")]
_ValShare = Annotated[
    float, typer.Option("--val-share", min=0, max=1, help="Of recordings: share of episodes for validation.")
]
# Who does the work.
_Workers = Annotated[
    int | None,
    typer.Option("--workers", "--processes", min=1, help="Number of worker processes; default: one per core."),
]
_Ray = Annotated[
    str | None, typer.Option("--ray", help="Work on the Ray cluster at this address; `local` starts one here.")
]
_Shard = Annotated[
    str | None, typer.Option("--shard", help="K/N: make only shard K of N of the episodes, such as 3/8.")
]
_Slurm = Annotated[
    int | None,
    typer.Option("--slurm", min=1, help="Print a Slurm batch file for N shards and their merge, and build nothing."),
]


def build(  # noqa: PLR0913 - one per option
    context: typer.Context,
    *,
    out: Annotated[Path, typer.Option("--out", help="The folder to write to; it is then a data root.")],
    episodes: Annotated[int, typer.Option("--episodes", min=0, help="Of sim: training episodes.")] = 700,
    val_episodes: _ValEpisodes = 150,
    seed: _Seed = 0,
    source: _Source = "sim",
    size: Annotated[str, typer.Option("--size", help="Of sim: width x height of the images.")] = "196x112",
    frames: Annotated[int, typer.Option("--frames", min=2, help="Frames per episode.")] = 6,
    folder: Annotated[Path | None, typer.Option("--from", help="Of recordings: their folder.")] = None,
    annotations: _Labels = None,
    mapping: _Mapping = None,
    camera: Annotated[str | None, typer.Option("--camera", help="Of recordings: the camera to take frames of.")] = None,
    val_share: _ValShare = 0.1,
    colours: _Colours = None,
    tasks: _Tasks = None,
    workers: _Workers = None,
    ray: _Ray = None,
    shard: _Shard = None,
    merge: Annotated[bool, typer.Option("--merge", help="Merge what all shards have made.")] = False,
    slurm: _Slurm = None,
) -> None:
    """Make a dataset of simulated or recorded episodes in the published layout. Run again, it finishes what was left.

    Example: `robointer data build --source sim --episodes 100 --val-episodes 20 --out data/sim`,
    then `ROBOINTER_DATA=data/sim robointer data check sim_current_box_train`.
    Of recordings: `robointer data build --source lerobot --from FOLDER --mapping my_columns.yaml --out data/mine`;
    without `--mapping`, the columns are those of RoboInter-Data. Episodes that cannot be read are listed: exit code 3.
    On many machines: `--slurm 64 > build.sbatch`, or `--ray auto`.
    """
    from robointervlm.episodes.work import Crew

    try:
        share = Share.named(shard) if shard else None
    except ValueError:
        raise RecipeError(f"share '{shard}' is none; write the third of eight as 3/8.") from None
    crew = Crew(workers, ray, share, merge)
    if slurm is not None:
        typer.echo(_batch_file(context, slurm), nl=False)
    elif source == "sim":
        _simulated(
            out, crew, size, tasks=tasks, colours=colours,
            seed=seed, train_episodes=episodes, val_episodes=val_episodes, frames=frames,
        )  # fmt: skip
    else:
        _recorded(
            source, folder, out, crew,
            mapping=mapping, camera=camera, frames=frames, val_share=val_share, annotations=annotations,
        )  # fmt: skip


def _simulated(out: Path, crew: Crew, size: str, *, tasks: str | None, colours: str | None, **settings: Any) -> None:
    width, _, height = size.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise RecipeError(f"--size {size} is not a size; write it as 196x112.")
    from robointervlm.episodes import build as episodes  # needs the extra `sim`

    config = episodes.BuildConfig(size=ImageSize(int(width), int(height)), **settings)
    if colours is not None:
        config = replace(config, colours=tuple(colours.split(",")))
    if tasks is not None:
        config = replace(config, tasks=tuple(tasks.split(",")))
    report = episodes.build(config, out, crew=crew, console=console_of(stderr=True))
    _print(report.records, f"{report.made} episodes made, {report.reused} found ready")
    _print_next(crew, f"Use them with {ROOT_VARIABLE}={out}.")


def _recorded(
    source: str, folder: Path | None, out: Path, crew: Crew, *, mapping: Path | None, **settings: Any
) -> None:
    """Builds the dataset, prints what was made and what is wrong; exit code 3 if episodes had to be left out."""
    from robointervlm.episodes.lerobot.mapping import read_mapping
    from robointervlm.episodes.recorded import PROBLEMS_FILE, build_recorded
    from robointervlm.episodes.sources import sources

    known = sources()
    if source not in known:
        raise RecipeError(f"--source {source} is not known; sim, {', '.join(known)} are.")
    if folder is None:
        raise RecipeError(f"--source {source} needs --from FOLDER, the folder of the recordings.")
    kind = known[source]
    config = kind(folder, read_mapping(mapping or kind.columns), **settings)
    report = build_recorded(config, out, crew=crew, console=console_of(stderr=True))
    _print(report.records, f"{report.made} episodes made, {report.reused} found ready, {report.errors} left out")
    console = console_of()
    for problem in report.problems[:_SHOWN]:
        colour = "red" if problem.severity == "error" else "yellow"
        line = f"{problem.severity}: episode {problem.episode}: {problem.reason}"
        console.print(line, style=colour, markup=False, highlight=False, soft_wrap=True)
    if report.problems and crew.share is None:
        console.print(f"All are in {report.root / PROBLEMS_FILE}.", highlight=False, soft_wrap=True)
    _print_next(crew, f"Use them with --catalog {out}.")
    if report.errors:
        raise typer.Exit(ExitCode.BAD_INPUT)


def _print(records: dict[str, dict[str, int]], title: str) -> None:
    console = console_of()
    console.print(title, highlight=False)
    if not records:
        return
    table = Table("split", "task", "records")
    for split, counts in records.items():
        for task, count in counts.items():
            table.add_row(split, task, str(count))
    console.print(table)


def _print_next(crew: Crew, use: str) -> None:
    if crew.share is not None:
        use = f"Part {crew.share.number} of {crew.share.of} is done; after all, the same command with --merge instead."
    console_of().print(use, highlight=False, soft_wrap=True)


def _batch_file(context: typer.Context, shards: int) -> str:
    """The text of a Slurm batch file: as an array it makes the parts, as a single job it puts them together."""
    from robointervlm.cli.slurm import batch_text

    words = [sys.executable, "-m", "robointervlm.cli", "data", "build"]
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name)
        if given is not None and given.name == "COMMANDLINE" and name not in _NOT_OF_A_SHARD:
            words += [parameter.opts[0], str(context.params[name])]
    for plugin in plugins.given():
        words += ["--plugin", plugin]
    directives = {"job-name": "robointer-build", "output": "robointer-build-%A_%a.log", "ntasks": 1}
    about, script = _ABOUT.format(shards=shards), _SCRIPT.format(shards=shards, command=shlex.join(words))
    return batch_text(directives, about, script, folder=Path.cwd())


_NOT_OF_A_SHARD = {"slurm", "shard", "merge", "ray", "plugin"}
_ABOUT = """\
# Written by `robointer data build --slurm {shards}`. OUT has to be the same folder on all machines. Submit it by
#   array=$(sbatch --parsable --array=1-{shards} build.sbatch)
#   sbatch --dependency=afterany:$array build.sbatch
# A part that was ended goes on where it stopped: submit its number again, then the second line."""
_SCRIPT = """\
part=(--merge)
if [ -n "${{SLURM_ARRAY_TASK_ID:-}}" ]; then
    part=(--shard "${{SLURM_ARRAY_TASK_ID}}/{shards}" --workers "${{SLURM_CPUS_PER_TASK:-1}}")
fi
exec {command} "${{part[@]}}"
"""
