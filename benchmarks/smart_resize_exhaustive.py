"""Compares our `smart_resize` with that of transformers and of qwen-vl-utils for every size from 28 to 4000 pixels.

    python benchmarks/smart_resize_exhaustive.py [--smallest 28] [--largest 4000]

15.8 million sizes for each pair of limits, about two minutes on one core. The functions are taken out of the installed
files without importing those packages (qwen-vl-utils wants torchvision for other things).
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path

from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS, RESIZE_FACTOR, ImageSize, smart_resize

LIMITS = ((MIN_PIXELS, MAX_PIXELS), (MIN_PIXELS, 1_003_520))  # of the training script, and of the published scorer
SOURCES = {
    "transformers": ("transformers", "models/qwen2_vl/image_processing_pil_qwen2_vl.py"),
    "qwen-vl-utils": ("qwen_vl_utils", "vision_process.py"),
}
Resize = Callable[[int, int, int, int, int], tuple[int, int]]


def library_function(package: str, file: str) -> Resize:
    """The `smart_resize` in a file of an installed package, with the small functions and constants it uses."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed")
    tree = ast.parse((Path(spec.submodule_search_locations[0]) / file).read_text(encoding="utf-8"))
    wanted = [node for node in tree.body if _is_wanted(node)]
    names: dict[str, object] = {"math": math}
    source = "from __future__ import annotations\n" + "\n".join(ast.unparse(node) for node in wanted)
    exec(compile(source, file, "exec"), names)
    return names["smart_resize"]  # type: ignore[return-value]


def _is_wanted(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name == "smart_resize" or node.name.endswith("_by_factor")
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smallest", type=int, default=28)
    parser.add_argument("--largest", type=int, default=4000)
    options = parser.parse_args()
    functions = [library_function(*source) for source in SOURCES.values()]
    sizes = range(options.smallest, options.largest + 1)
    for low, high in LIMITS:
        start, compared, different = time.perf_counter(), 0, 0
        for height in sizes:
            for width in sizes:
                ours = smart_resize(ImageSize(width, height), min_pixels=low, max_pixels=high)
                theirs = [function(height, width, RESIZE_FACTOR, low, high) for function in functions]
                compared += 1
                if any((ours.height, ours.width) != size for size in theirs):
                    different += 1
                    print(f"{width}x{height}: ours {tuple(ours)}, theirs (height, width) {theirs}")
        seconds = time.perf_counter() - start
        names = " and ".join(SOURCES)
        print(f"limits {low}..{high}: {compared} sizes against {names}, {different} differ, {seconds:.0f} s")


if __name__ == "__main__":
    main()
