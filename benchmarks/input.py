"""What it costs to bring samples to the model, beside transformers' own processor; and what a million records cost.

    python benchmarks/input.py [--processor FOLDER] [--samples 24] [--rounds 7]
    python benchmarks/input.py --records 1000000 [--folder /tmp]

Without --records: samples per second of CPU time on one core (the process binds itself to one). Ours is the whole way
of a training sample: read its record, decode, resize and cut its pictures, tokenise, label, find the positions, make a
batch; each sample alone, or the questions on the same pictures in one row (`batch.pack=shared`), without and with
pixels that are kept already (`data.pixel_cache`). Theirs is
`processor.apply_chat_template(messages, tokenize=True)` for one sample after the other, on records
that are in memory already, without labels and positions; it needs torchvision, which its processor is built on. Rounds
take turns.
--processor is a folder with the real tokenizer.json and chat_template.jinja; a small tokenizer stands in otherwise.

With --records: planning records of eight pictures in one JSON list are made; a process indexes and measures them and
plans packed rows, others begin again with what is kept. Seconds count from the end of the imports to the first row;
memory is what the process holds more than after them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLProcessor, Qwen2VLVideoProcessor

from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.data.index import CACHE_VARIABLE
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import DatasetSpec
from robointervlm.models.qwen2_5_vl.chat import Chat
from robointervlm.models.qwen2_5_vl.encoder import Encoder
from robointervlm.models.qwen2_5_vl.images import PixelLimits
from robointervlm.models.tiny import tiny_tokenizer
from robointervlm.train.data.dataset import TrainingDataset
from robointervlm.train.data.image_cache import PixelCache
from robointervlm.train.packing.lengths import lengths_of
from robointervlm.train.packing.plan import Group, rows_of
from robointervlm.train.packing.sequences import PackedDataset
from robointervlm.train.recipe import AugmentSection, BatchSection

WORDS = "The robot arm has moved the red cup to the left of the table and now holds the blue bowl over the drawer. "
QUESTION = f"{WORDS * 3}What is the next step?"
ANSWER = "Put the blue bowl into the drawer and close it."


class Kind(NamedTuple):
    """Samples on `pictures` pictures each, so many `questions` on the same ones."""

    width: int
    height: int
    pictures: int
    questions: int


KINDS = (Kind(320, 180, 1, 6), Kind(640, 480, 1, 6), Kind(320, 180, 8, 10))


def tokenizer_of(folder: Path | None) -> PreTrainedTokenizerFast:
    """The real tokenizer, or a small one for the texts of this benchmark."""
    if folder is None:
        return tiny_tokenizer([QUESTION, ANSWER, "system user assistant You are a helpful assistant."] * 20, 600)
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=(folder / "chat_template.jinja").read_text(),
    )


def processor_of(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLProcessor:
    """The processor that `AutoProcessor` would give for a Qwen2.5-VL folder."""
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save_pretrained(name)
        (Path(name) / "preprocessor_config.json").write_text(
            json.dumps(
                {
                    "image_processor_type": "Qwen2VLImageProcessor",
                    "processor_class": "Qwen2_5_VLProcessor",
                    "min_pixels": 3136,
                    "max_pixels": 12845056,
                    "patch_size": 14,
                    "temporal_patch_size": 2,
                    "merge_size": 2,
                    "image_mean": [0.48145466, 0.4578275, 0.40821073],
                    "image_std": [0.26862954, 0.26130258, 0.27577711],
                }
            )
        )
        image_processor = transformers.AutoImageProcessor.from_pretrained(name)
    return Qwen2_5_VLProcessor(image_processor, tokenizer, Qwen2VLVideoProcessor(), tokenizer.chat_template)


def feed_of(mixture: Mixture, tokenizer: PreTrainedTokenizerFast) -> TrainingDataset:
    config = Qwen2_5_VLConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"), text_config={"vocab_size": 151936}
    )
    encoder = Encoder(config, Chat(tokenizer), PixelLimits(), CoordinateFormat.RESIZED)
    return TrainingDataset(mixture, encoder, AugmentSection(), seed=0, max_tokens=8192)


def save_pictures(folder: Path, count: int, width: int, height: int) -> list[str]:
    """JPEGs with structure at several scales and some noise, of about the size of photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(count):
        pixels = random.normal(0, 6, (height, width, 3))
        for scale in (4, 20, 80):
            coarse = random.integers(0, 256, (height // scale + 2, width // scale + 2, 3), dtype=np.uint8)
            pixels += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)) / 3
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.jpg", quality=90)
    return [f"{folder.name}/{index}.jpg" for index in range(count)]


def record(index: int, pictures: list[str], width: int, height: int) -> dict[str, Any]:
    return {
        "id": f"planning_{index}",
        "conversations": [
            {"from": "human", "value": "<image>\n" * len(pictures) + f"Number {index}. {QUESTION}"},
            {"from": "gpt", "value": ANSWER},
        ],
        "images": pictures,
        "w": width,
        "h": height,
    }


def dataset(file: Path) -> DatasetSpec:
    return DatasetSpec(name="made", task="chat", annotations=(str(file),), images=str(file.parent))


def messages_of(entry: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The record as the documentation of transformers shows it."""
    question, answer = (turn["value"] for turn in entry["conversations"])
    content: list[dict[str, str]] = []
    for path, text in zip(entry["images"], question.split("<image>")[1:], strict=True):
        content += [{"type": "image", "path": str(folder / path)}, {"type": "text", "text": text}]
    return [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": answer}]},
    ]


def throughput(processor_folder: Path | None, samples: int, rounds: int) -> None:
    """Print samples per second of each way, for each kind of sample."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    tokenizer = tokenizer_of(processor_folder)
    processor = processor_of(tokenizer)
    image_processor = type(processor.image_processor).__name__
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__} ({image_processor}), "
        f"{platform.machine()}, one core, {rounds} rounds"
    )
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as made:
            compare(kind, Path(made), processor, samples, rounds)


def compare(kind: Kind, folder: Path, processor: Qwen2_5_VLProcessor, samples: int, rounds: int) -> None:
    """Print samples per second of each way for one kind of sample; `samples` is rounded up to whole groups."""
    groups = -(-samples // kind.questions)
    paths = save_pictures(folder / "frames", groups + kind.pictures - 1, kind.width, kind.height)
    entries = [
        record(index, paths[index // kind.questions :][: kind.pictures], kind.width, kind.height)
        for index in range(groups * kind.questions)
    ]
    (folder / "a.json").write_text(json.dumps(entries))
    feed = feed_of(Mixture([dataset(folder / "a.json")]), processor.tokenizer)
    conversations = [messages_of(entry, folder) for entry in entries]
    refuse_other(process(processor, conversations[0]), feed([(0, 0)]).batch)
    kept = replace(feed, pixels=PixelCache.opened(folder / "kept", 10))
    numbers = [[(0, index)] for index in range(len(entries))]
    ways: dict[str, tuple[Callable[[Any], Any], Sequence[Any]]] = {
        "transformers": (lambda each: process(processor, each), conversations),
        "alone": (feed, numbers),
        "alone, normalised": (lambda each: feed(each).batch.patches_PC, numbers),
        "alone, kept pixels": (kept, numbers),
        "alone, kept, normalised": (lambda each: kept(each).batch.patches_PC, numbers),
    }
    stamps = lengths_of(feed, BatchSection(pack="shared"))[1]
    rows = [
        (Group(0, tuple(range(first, first + kind.questions))),) for first in range(0, len(entries), kind.questions)
    ]
    for title, load in (("packed", PackedDataset(feed, stamps)), ("packed, kept pixels", PackedDataset(kept, stamps))):
        ways[title] = load, rows
        ways[f"{title}, normalised"] = (lambda row, load=load: load(row).batch.patches_PC), rows
    rates = timed(ways, len(entries), rounds)
    kilobytes = (folder / paths[0]).stat().st_size / 1000
    print(
        f"{kind.pictures} of {kind.width}x{kind.height} (JPEG of {kilobytes:.0f} kB), {kind.questions} questions on "
        f"the same, {len(entries)} samples a round:"
    )
    for way, found in rates.items():
        ratios = [one / other for one, other in zip(found, rates["transformers"], strict=True)]
        print(
            f"  {way:<31} {statistics.median(found):7.1f} samples/s ({min(found):.1f}-{max(found):.1f})  "
            f"{statistics.median(ratios):5.2f}x ({min(ratios):.2f}-{max(ratios):.2f})",
            flush=True,
        )


def process(processor: Qwen2_5_VLProcessor, messages: list[dict[str, Any]]) -> Any:
    """What transformers makes of one sample."""
    return processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")


def refuse_other(theirs: Any, ours: Any) -> None:
    """Stop if the two ways do not make the same tokens and pixels."""
    same = theirs["input_ids"].shape[1] - ours.ids_BL.shape[1] in {0, 1}  # the template ends in a line break
    # The same bytes; the last bit of what is normalised is rounded differently.
    if not same or not torch.allclose(theirs["pixel_values"], ours.patches_PC, rtol=0, atol=1e-6):
        raise SystemExit("the two ways do not make the same input; the comparison would mean nothing")


def timed(
    ways: dict[str, tuple[Callable[[Any], Any], Sequence[Any]]], samples: int, rounds: int
) -> dict[str, list[float]]:
    """Samples per second of the processor's own time, whatever else runs, of each way in each round; the first round
    warms up.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, (way, items) in ways.items():
            started = time.process_time()
            for item in items:
                way(item)
            if turn:
                rates[name].append(samples / (time.process_time() - started))
    return rates


def memory() -> dict[str, float]:
    """Megabytes: all that is resident, what is this process's alone, and the most there was."""
    kept = {"Rss": "resident", "Private_Clean": "own", "Private_Dirty": "own"}
    found = {"resident": 0.0, "own": 0.0}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        if name in kept:
            found[kept[name]] += int(value.split()[0]) / 1024
    status = Path("/proc/self/status").read_text()
    return found | {"peak": int(status.split("VmHWM:")[1].split()[0]) / 1024}


def opened(file: Path, processor_folder: Path | None) -> None:
    """Begin as training does on one file; print seconds and memory as JSON."""
    torch.set_num_threads(1)
    print(json.dumps(begun([dataset(file)], processor_folder)))


def begun(datasets: list[DatasetSpec], processor_folder: Path | None) -> dict[str, float]:
    """Seconds and megabytes that it takes to begin as training does, up to the first row of `batch.pack=shared`."""
    before, started = memory(), time.perf_counter()
    cpu = time.process_time()
    mixture = Mixture(datasets, seed=0)
    listed = time.perf_counter() - started
    feed = feed_of(mixture, tokenizer_of(processor_folder))
    batch = BatchSection(pack="shared", max_tokens=8192)
    lengths, stamps = lengths_of(feed, batch)
    measured = time.perf_counter() - started
    rows = rows_of(
        mixture.order(0), 0, lengths, most=batch.max_questions_per_image, max_tokens=batch.max_tokens
    ).longest_first(lengths, (batch.accumulate, 0))
    planned = time.perf_counter() - started
    first = PackedDataset(feed, stamps)(rows[0])
    found = {
        "records": len(mixture),
        "rows": len(rows),
        "first": len(first.ids),
        "listed": listed,
        "measured": measured - listed,
        "planned": planned - measured,
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
    }
    after = memory()
    return found | {name: after[name] - value for name, value in before.items()}


def records(count: int, parent: Path | None, processor_folder: Path | None) -> None:
    """Make the records, index and measure them, and begin again, each in a process of its own."""
    with tempfile.TemporaryDirectory(dir=parent) as made:
        folder = Path(made)
        file = folder / "planning.json"
        frames = save_pictures(folder / "frames", 256, 320, 180)
        with file.open("w", encoding="utf-8") as written:
            for index in range(count):
                # Ten questions on eight frames, as the published planning questions have.
                at = index // 10 % (len(frames) - 8)
                written.write(("[" if not index else ",\n") + json.dumps(record(index, frames[at : at + 8], 320, 180)))
            written.write("]")
        print(f"{count:,} records of 8 pictures, {file.stat().st_size / 1e9:.2f} GB in one JSON list", flush=True)
        environment = {**os.environ, CACHE_VARIABLE: str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--open", str(file)]
        if processor_folder:
            command += ["--processor", str(processor_folder)]
        for name in ("first start", *["later start"] * 5):
            out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            found = json.loads(out)
            print(
                f"  {name:<12} {found['seconds']:6.2f} s ({found['cpu']:.2f} s of CPU; records {found['listed']:.2f}, "
                f"tokenizer and measures {found['measured']:.2f}, plan {found['planned']:.2f})   "
                f"+{found['resident']:.0f} MB resident (+{found['own']:.0f} MB own, +{found['peak']:.0f} MB at most)   "
                f"{found['rows']:,} rows, {found['first']} samples in the first",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processor", type=Path)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--records", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.open:
        opened(chosen.open, chosen.processor)
    elif chosen.records:
        records(chosen.records, chosen.folder, chosen.processor)
    else:
        throughput(chosen.processor, chosen.samples, chosen.rounds)


if __name__ == "__main__":
    main()
