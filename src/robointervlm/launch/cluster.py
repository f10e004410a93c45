"""Which part of a run this process is: told by flags, by torchrun's variables or by Slurm's, never by two of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from robointervlm.core.errors import RecipeError

# What torch.distributed reads; torchrun, and our own launcher, set all of them.
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Below the ports that systems give out by themselves; every job has two of its own, this one and the next.
_FIRST_PORT, _PORTS = 15000, 15000


class Node(NamedTuple):
    """One of so many `machines`, where a launcher starts its processes; the first one listens at host and port."""

    rank: int
    machines: int
    host: str
    port: int


class Started(NamedTuple):
    """This process is one of the run's already; the variables that torch needs, as far as they are not set yet."""

    variables: Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """What the flags say; None where a flag was not given."""

    per_node: int | None = None
    nodes: int | None = None
    node_rank: int | None = None
    master: str | None = None

    def named(self) -> str:
        """The flags that were given, for an error."""
        flags: dict[str, object] = {"--gpus or --processes": self.per_node, "--nodes": self.nodes}
        flags |= {"--node-rank": self.node_rank, "--master": self.master}
        return ", ".join(name for name, value in flags.items() if value is not None)


def place(environment: Mapping[str, str], asked: Asked) -> Started | Node | None:
    """Where this process stands; None if its machine is the only one and nothing has been started yet.

    Raises `RecipeError` if two of flags, torchrun and Slurm say different things, or one says half of it.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        return _by_torchrun(environment, asked)
    # srun sets the step's number; the batch script itself has the other variables, too, but is no task of a step.
    if "SLURM_STEP_ID" in environment and _number(environment, "SLURM_NTASKS") > 1:
        return _by_slurm(environment, asked)
    return _by_flags(asked)


def first_host(nodelist: str) -> str:
    """The first machine of Slurm's `node[01-04,07],gpu3`: node01."""
    if not re.fullmatch(r"[\w.-]+(\[\d[\d,-]*\][\w.-]*)*(,.*)?|(\[\d[\d,-]*\][\w.-]*)+(,.*)?", nodelist):
        raise RecipeError(f"SLURM_JOB_NODELIST is '{nodelist}'; a list such as node[01-04,07],gpu3 was expected.")
    first = re.split(r",(?![^\[]*\])", nodelist, maxsplit=1)[0]
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first)


def _by_torchrun(environment: Mapping[str, str], asked: Asked) -> Started:
    if missing := [name for name in TORCHRUN if name not in environment]:
        given = [name for name in TORCHRUN if name in environment]
        raise RecipeError(
            f"{', '.join(given)} is set without {', '.join(missing)}; torchrun sets all of them. To start the "
            "processes by --gpus or --nodes instead, unset what is set."
        )
    if flags := asked.named():
        raise RecipeError(
            f"{flags} together with WORLD_SIZE={environment['WORLD_SIZE']}: torchrun has started the processes "
            "already. Drop the flags, or unset RANK and WORLD_SIZE."
        )
    return Started({})


def _by_slurm(environment: Mapping[str, str], asked: Asked) -> Started | Node:
    if asked.nodes is not None or asked.node_rank is not None or asked.master is not None:
        flags = Asked(None, asked.nodes, asked.node_rank, asked.master).named()
        raise RecipeError(f"{flags} within a Slurm step of several tasks, which says so itself; drop the flags.")
    tasks, node = _number(environment, "SLURM_NTASKS"), _number(environment, "SLURM_NODEID")
    nodes = _number(environment, "SLURM_STEP_NUM_NODES", "SLURM_NNODES")
    host = first_host(_first(environment, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"))
    step = int(environment["SLURM_STEP_ID"]) if environment["SLURM_STEP_ID"].isdigit() else 0
    port = _FIRST_PORT + 2 * (_number(environment, "SLURM_JOB_ID") + step) % _PORTS
    if tasks == nodes:
        return Node(node, nodes, host, port)
    here = tasks_on(_first(environment, "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"), node)
    if asked.per_node not in (None, here):
        raise RecipeError(
            f"{asked.per_node} processes asked for, but Slurm has started {here} tasks on this machine, which are the "
            "processes. Drop --gpus, or give one task per machine (--ntasks-per-node=1)."
        )
    return Started(
        {
            "RANK": str(_number(environment, "SLURM_PROCID")),
            "LOCAL_RANK": str(_number(environment, "SLURM_LOCALID")),
            "WORLD_SIZE": str(tasks),
            "LOCAL_WORLD_SIZE": str(here),
            "MASTER_ADDR": environment.get("MASTER_ADDR", host),
            "MASTER_PORT": environment.get("MASTER_PORT", str(port)),
        }
    )


def tasks_on(per_node: str, node: int) -> int:
    """How many tasks Slurm's `8(x3),4` gives to the machine of this number, counted from 0."""
    counts: list[int] = []
    for part in per_node.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if found is None:
            raise RecipeError(f"SLURM_TASKS_PER_NODE is '{per_node}'; a list such as 8(x3),4 was expected.")
        counts += [int(found[1])] * int(found[2] or 1)
    if node >= len(counts):
        raise RecipeError(f"SLURM_TASKS_PER_NODE is '{per_node}', which has no machine number {node}.")
    return counts[node]


def _by_flags(asked: Asked) -> Node | None:
    count = asked.nodes or 1
    if count == 1:
        if asked.node_rank or asked.master is not None:
            raise RecipeError("--node-rank and --master are for several machines; give --nodes, too.")
        return None
    if asked.node_rank is None or asked.master is None:
        raise RecipeError(
            f"--nodes {count}: give --master HOST:PORT, the same on each machine, and --node-rank, 0 on the master. "
            "Within srun, one task per machine, they are not needed."
        )
    if asked.node_rank >= count:
        raise RecipeError(f"--node-rank {asked.node_rank} of --nodes {count}; they are counted from 0.")
    host, colon, port = asked.master.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65535:
        raise RecipeError(f"--master {asked.master}: HOST:PORT was expected, such as node01:29500.")
    return Node(asked.node_rank, count, host.strip("[]"), int(port))


def _first(environment: Mapping[str, str], *names: str) -> str:
    for name in names:
        if value := environment.get(name):
            return value
    raise RecipeError(f"this is a task of Slurm, but {names[-1]} is not set.")


def _number(environment: Mapping[str, str], *names: str) -> int:
    text = _first(environment, *names)
    if not text.isdigit():
        raise RecipeError(f"{names[-1]} is '{text}'; a number was expected.")
    return int(text)
