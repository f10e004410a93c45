"""Pickles, LMDB files, zip members and episode frames, compared with the libraries that write them."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from robointervlm.cli.main import run
from robointervlm.compat.scripts import infer
from robointervlm.core.errors import DataError, RefusedError
from robointervlm.core.sample import ImageRef
from robointervlm.data import images
from robointervlm.data.archives import Archive
from robointervlm.data.episode_frames import EpisodeFrame
from robointervlm.data.lmdb_files import LmdbFile
from robointervlm.data.pickles import read_pickle
from robointervlm.data.records import Annotations
from robointervlm.data.spec import DatasetSpec
from robointervlm.evaluate.infer import ask_once
from robointervlm.runs.journal import read_journal
from scripted_benchmark import make_benchmark, make_model

keys = st.text(max_size=5) | st.binary(max_size=5) | st.integers(-(2**40), 2**40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | keys,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)
ARRAYS = [
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(3, dtype=">i4"),
    np.zeros((0, 4), np.float32),
    np.float32(1.5),
    np.array(["ab"]),
]


@given(values, st.integers(0, 5))
def test_plain_values_are_read_as_python_reads_them(value, protocol):
    assert read_pickle(pickle.dumps(value, protocol), "x") == value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS)
def test_arrays_are_read_with_their_kind_and_shape(array, protocol):
    read = read_pickle(pickle.dumps([array], protocol), "x")[0]
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)


def test_shared_sets_and_ordered_dicts_stay_what_they_are():
    shared = {1, 2}
    assert read_pickle(pickle.dumps([shared, shared, OrderedDict(a=1)]), "x") == [{1, 2}, {1, 2}, {"a": 1}]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_one_of_our_errors(content):
    with contextlib.suppress(DataError, RefusedError):
        read_pickle(content, "x")


def written_lmdb(folder: Path, content: dict[bytes, bytes]) -> Path:
    lmdb = pytest.importorskip("lmdb")
    folder.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=2**26) as environment, environment.begin(write=True) as transaction:
        for key, value in content.items():
            transaction.put(key, value)
    return folder


def test_an_lmdb_file_has_the_keys_and_values_that_lmdb_wrote(tmp_path):
    random = np.random.default_rng(0)
    content = {random.bytes(random.integers(1, 60)): random.bytes(random.choice([0, 1, 300, 9000])) for _ in range(900)}
    file = LmdbFile(written_lmdb(tmp_path, content))
    assert list(file.keys()) == sorted(content)
    assert all(file.get(key) == value for key, value in content.items())
    assert file.get(b"not there") is None


def test_a_truncated_or_flipped_lmdb_file_is_an_error_of_ours_or_still_right(tmp_path):
    content = {f"{number:04}".encode(): bytes([number % 256]) * 700 for number in range(300)}
    data = (written_lmdb(tmp_path / "db", content) / "data.mdb").read_bytes()
    random, failed = np.random.default_rng(0), 0
    for trial in range(60):
        damaged = bytearray(data)
        if trial % 2:
            damaged = damaged[: int(random.integers(0, len(data) // 2))]
        else:
            for place in random.integers(0, len(data), 200):
                damaged[place] ^= 255
        (tmp_path / "data.mdb").write_bytes(damaged)
        try:
            file = LmdbFile(tmp_path / "data.mdb")
            list(file.keys())
            for key in content:
                file.get(key)
        except DataError:
            failed += 1
    assert failed > 30


members = st.dictionaries(st.text("abcé ", min_size=1, max_size=8), st.binary(max_size=300), max_size=8)


@given(members, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), st.integers(0, 40), st.integers(1, 4))
def test_a_zip_file_has_the_members_that_zipfile_wrote_also_in_parts(tmp_path_factory, content, method, front, parts):
    folder = tmp_path_factory.mktemp("zip")
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as file:
        for name, data in content.items():
            file.writestr(name, data)
    whole = b"x" * front + memory.getvalue()  # bytes in front, as of a self-extracting archive
    length = -(-len(whole) // parts)
    for number in range(parts):
        (folder / f"a.zip.{number:02}").write_bytes(whole[number * length : (number + 1) * length])
    archive = Archive(folder / "a.zip.00")
    assert {member.name: archive.read(member, 1000) for member in archive.members()} == content
    assert all(archive.find(name).name == name for name in content)
    assert archive.find("not there") is None


def test_members_beyond_the_old_limits_are_found(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for number in range(66_000):
            file.writestr(zipfile.ZipInfo(f"{number}"), b"")
        with file.open("long", "w", force_zip64=True) as member:
            member.write(b"content")
    archive = Archive(tmp_path / "a.zip")
    assert archive.count == 66_001
    assert archive.read(archive.find("long"), 10) == b"content"


def jpeg(colour: tuple[int, int, int]) -> bytes:
    memory = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(memory, "JPEG", quality=100, subsampling=0)
    return memory.getvalue()


def test_a_picture_is_taken_out_of_an_archive_that_is_the_root_or_on_the_way(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("sub/red.jpg", jpeg((255, 0, 0)))
    for ref in (ImageRef(tmp_path / "a.zip", "sub/red.jpg"), ImageRef(tmp_path, "a.zip/sub/red.jpg")):
        assert images.size(ref) == (8, 6)
        assert images.load(ref)[3, 4, 0] > 250
    (tmp_path / "red.jpg").write_bytes(jpeg((255, 0, 0)))
    assert images.content_and_size(ImageRef(tmp_path, "red.jpg")) == images.content_and_size(ref)
    with pytest.raises(DataError, match=r"blue\.jpg is not in .*a\.zip"):
        images.load(ImageRef(tmp_path, "a.zip/sub/blue.jpg"))


def episode(folder: Path, *, as_array: bool) -> None:
    pictures = [jpeg((255, 0, 0)), jpeg((0, 0, 255))]
    names = [b"frame/0", b"frame/1"]
    stored = [np.frombuffer(picture, np.uint8) if as_array else picture for picture in pictures]
    written_lmdb(folder / "lmdb", {name: pickle.dumps(value) for name, value in zip(names, stored, strict=True)})
    (folder / "meta_info.pkl").write_bytes(pickle.dumps({"keys": {"primary": names}, "num_steps": 2}))


@pytest.mark.parametrize("as_array", [True, False])
def test_a_frame_of_an_episode_has_its_colours_and_the_exchanged_ones_if_declared(tmp_path, as_array):
    episode(tmp_path / "episodes" / "7_exterior_image", as_array=as_array)
    frame = EpisodeFrame("episodes/7_exterior_image", "primary", 1)
    blue = images.load(ImageRef(tmp_path, str(frame)))
    red = images.load(ImageRef(tmp_path, str(frame._replace(swapped=True))))
    assert blue[3, 4].tolist()[2] > 250
    assert np.array_equal(red, blue[..., ::-1])


@pytest.mark.parametrize(
    "frame, said",
    [
        (EpisodeFrame("e", "primary", 2), "has 2 frames of 'primary', and 2 is asked for"),
        (EpisodeFrame("e", "wrist", 0), "has no camera 'wrist'; it has primary"),
        (EpisodeFrame("f", "primary", 0), "cannot be opened"),
    ],
)
def test_a_frame_that_is_not_there_says_what_is(tmp_path, frame, said):
    episode(tmp_path / "e", as_array=False)
    with pytest.raises(DataError, match=said):
        images.load(ImageRef(tmp_path, str(frame)))


def test_an_episode_outside_the_folder_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    episode(tmp_path / "out", as_array=False)
    with pytest.raises(RefusedError, match="leads outside"):
        images.load(ImageRef(tmp_path / "in", str(EpisodeFrame("../out", "primary", 0))))


def test_records_name_frames_by_key_and_local_pictures_by_path(tmp_path):
    record = '{"id": "%s", "image": "%s", "conversations": [{"from": "human", "value": "?"}], "gt": "hi"%s}\n'
    lines = [("1", "any/7_RH20T#3", ""), ("2", "odd#3", ', "is_local": true')]
    (tmp_path / "a.jsonl").write_text("".join(record % line for line in lines))
    episode(tmp_path / "eps" / "7_RH20T", as_array=True)
    (tmp_path / "odd#3").write_bytes(jpeg((0, 0, 0)))
    (tmp_path / "a.jsonl").write_text((record % ("1", "any/7_RH20T#1", "")) + record % lines[1])
    spec = DatasetSpec(name="x", task="chat", annotations="a.jsonl", images=".", episodes="eps", root=tmp_path)
    first, second = Annotations(spec)
    assert images.load(first.images[0])[3, 4, 2] > 250
    assert second.images[0].path == "odd#3"


def test_a_model_is_asked_about_pictures_that_stay_in_their_archive(tmp_path):
    benchmark = make_benchmark(tmp_path, count=6)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
        for picture in benchmark.images.iterdir():
            file.write(picture, picture.name)
    packed = replace(benchmark, images=tmp_path / "images.zip")
    assert run(["predict", *benchmark.options(tmp_path / "folder")]) == 0
    assert run(["predict", *packed.options(tmp_path / "packed")]) == 0
    first, second = (read_journal(tmp_path / name / "records.jsonl").entries for name in ("folder", "packed"))
    assert [entry["key"] for entry in first] == [entry["key"] for entry in second]


def test_a_model_is_asked_about_frames_of_episodes(tmp_path):
    benchmark = make_benchmark(tmp_path, count=2)
    records = json.loads(benchmark.file.read_text())
    pictures = [path.read_bytes() for path in sorted(benchmark.images.iterdir())]
    folder = tmp_path / "eps" / "7_RH20T"
    written_lmdb(folder / "lmdb", {b"0": pickle.dumps(pictures[0]), b"1": pickle.dumps(pictures[1])})
    (folder / "meta_info.pkl").write_bytes(pickle.dumps({"keys": {"primary": ["0", "1"]}}))
    for number, record in enumerate(records):
        record["image_path"] = f"/somewhere/7_RH20T#{number}"
    benchmark.file.write_text(json.dumps(records))
    catalog = tmp_path / "frames.yaml"
    catalog.write_text("root: .\nframes:\n  task: current_box\n  annotations: current_box.json\n  episodes: eps\n")
    options = [f"data.catalog=[{catalog}]", "data.mixture=[frames]", "--model", str(benchmark.model)]
    assert run(["predict", *options, "--out", str(tmp_path / "run")]) == 0
    assert len(read_journal(tmp_path / "run" / "records.jsonl").entries) == 2


@pytest.mark.parametrize("model_type", ["qwen", "llava"])
def test_the_documented_infer_takes_frames_of_episodes_by_their_keys(tmp_path, capsys, model_type):
    episode(tmp_path / "7_exterior_image", as_array=False)
    model = make_model(tmp_path / "model", {"Which is red?": "The first."})
    frames = [f"{tmp_path}/7_exterior_image#{number}" for number in range(3)]
    asked = ["--model_type", model_type, "--model_path", str(model), "--prompt", "Which is red?", "--images"]
    assert infer([*asked, *frames[:2]]) == 0
    assert capsys.readouterr().out == "The first.\n"
    assert ask_once({"path": str(model)}, "Which is red?", [Path(frames[1])]).picture[3, 4, 2] > 250
    assert infer([*asked, *frames]) == 3
    assert "has 2 frames of 'primary', and 2 is asked for" in capsys.readouterr().err
