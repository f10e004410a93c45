"""Scenarios 23 to 28 of the reliability page: archives, pickles, pictures and annotations made to do harm.

Each animal is tried by itself. It must end with the exit code given, without a traceback, leave every file outside its
own folder as it was, run nothing, and not take the memory it asks for. `pytest -s` prints the table.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import resource
import stat
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from robointervlm.cli.main import run
from robointervlm.core.errors import DataError, RefusedError
from robointervlm.core.sample import ImageRef
from robointervlm.data import images
from robointervlm.data.pickles import read_pickle

TABLE: dict[str, list[int]] = {}


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Counts what was tried and what survived, and prints it."""
    yield
    sys.stdout.write("\nzoo                 tried  survived\n")
    for name, (tried, survived) in TABLE.items():
        sys.stdout.write(f"{name:<20}{tried:>5}{survived:>10}\n")


class Try:
    """Counts an animal as tried, and as survived when its block ends without a failure."""

    def __init__(self, name: str) -> None:
        self.row = TABLE.setdefault(name, [0, 0])

    def __enter__(self) -> None:
        self.row[0] += 1

    def __exit__(self, kind: object, *_: object) -> None:
        self.row[1] += kind is None


def tree(folder: Path) -> dict[str, str]:
    """Every path below a folder, and what is there; links are not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = f"link to {path.readlink()}"
        else:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


# --- archives ---------------------------------------------------------------------------------------------------------


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return memory.getvalue()


def special(name: str, kind: int, content: bytes = b"") -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    return info, content


def overlapping() -> bytes:
    """Two members that share the bytes of the first."""
    content = bytearray(zipped(("aaaa", b"x" * 4000), ("bbbb", b"x" * 4000), method=zipfile.ZIP_STORED))
    second = content.index(b"PK\1\2", content.index(b"PK\1\2") + 4)
    content[second + 42 : second + 46] = struct.pack("<L", 0)
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(zipped(("a.jpg", b"secret")))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    return bytes(content)


def wrong_checksum() -> bytes:
    content = bytearray(zipped(("a.jpg", b"original content"), method=zipfile.ZIP_STORED))
    content[content.index(b"original")] ^= 1
    return bytes(content)


def lying_size() -> bytes:
    """Says 10 bytes, and unpacks to 50 million."""
    content = bytearray(zipped(("a.jpg", bytes(50_000_000))))
    for place in (22, content.index(b"PK\1\2") + 24):
        content[place : place + 4] = struct.pack("<L", 10)
    return bytes(content)


def far_away() -> bytes:
    """A member at the end of what 64 bits can count."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as file, file.open("a.jpg", "w", force_zip64=True) as member:
        member.write(b"x")
    content = bytearray(memory.getvalue())
    entry = content.index(b"PK\1\2")
    content[entry + 42 : entry + 46] = b"\xff" * 4
    content[entry + 30 : entry + 32] = struct.pack("<H", 12)
    content[entry + 51 : entry + 51] = struct.pack("<HHQ", 1, 8, 2**64 - 100)
    end = content.index(b"PK\5\6")
    content[end + 12 : end + 16] = struct.pack("<L", end - entry)
    return bytes(content)


def many_members_said() -> bytes:
    content = bytearray(zipped(("a.jpg", b"x")))
    content[-14:-10] = b"\xfe\xff\xfe\xff"
    return bytes(content)


BOMB = zipped(("bomb.jpg", bytes(200_000_000)))
ZIPS: dict[str, tuple[int, bytes]] = {
    "up": (5, zipped(("../escaped", b"x"))),
    "up inside": (5, zipped(("a/../../escaped", b"x"))),
    "absolute": (5, zipped(("/tmp/robointer-escaped", b"x"))),
    "backslash": (5, zipped(("..\\escaped", b"x"))),
    "drive": (5, zipped(("C:escaped", b"x"))),
    "line break": (5, zipped(("a\nb", b"x"))),
    "symlink": (5, zipped(special("link", stat.S_IFLNK, b"../../../outside"))),
    "device": (5, zipped(special("null", stat.S_IFCHR))),
    "pipe": (5, zipped(special("pipe", stat.S_IFIFO))),
    "twice": (5, zipped(("a", b"1"), ("b", b"2"), ("a", b"3"))),
    "case": (5, zipped(("Image.jpg", b"1"), ("image.jpg", b"2"))),
    "file and folder": (5, zipped(("a", b"1"), ("a/b", b"2"))),
    "too long": (5, zipped(("n" * 300, b"1"))),
    "bomb": (5, BOMB),
    "over the limit": (5, zipped(("a.jpg", os.urandom(3_000_000)), method=zipfile.ZIP_STORED)),
    "overlapping": (5, overlapping()),
    "the archive itself": (5, zipped(("hostile.zip", b"x"))),
    "encrypted": (3, encrypted()),
    "checksum": (3, wrong_checksum()),
    "lying size": (3, lying_size()),
    "far away": (3, far_away()),
    "lying count": (3, many_members_said()),
    "truncated": (3, zipped(("a.jpg", os.urandom(5000)))[:-3000]),
    "empty": (3, b""),
    "not one": (3, b"<html>404</html>"),
    "method": (3, zipped(("a.jpg", b"xyz"), method=zipfile.ZIP_LZMA)),
    "shell": (0, zipped(("$(touch canary)", b"x"), ("-rf", b"x"), ("; touch canary", b"x"))),
    "nested": (0, zipped(("inner.zip", BOMB), method=zipfile.ZIP_STORED)),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ZIPS)
def test_a_hostile_archive_changes_nothing_outside_and_stops_no_other(tmp_path, name, capsys, monkeypatch):
    code, content = ZIPS[name]
    folder = tmp_path / "root" / "Generation" / "image"
    folder.mkdir(parents=True)
    (tmp_path / "outside").write_text("canary")
    (folder / "hostile.zip").write_bytes(content)
    (folder / "good.zip").write_bytes(zipped(("good/1.jpg", b"picture")))
    before = tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    with Try("archives"):
        arguments = ["data", "unpack", "--root", str(tmp_path / "root"), "--workers", "1", "--max-unpacked", "230MB"]
        if name == "over the limit":
            arguments[-1] = "2MB"
        assert run(arguments) == code, capsys.readouterr().err
        new = {Path(path) for path in tree(tmp_path).items() - before.items() for path in [path[0]]}
        assert before.items() <= tree(tmp_path).items()
        assert all(path.is_relative_to(folder) and not path.is_symlink() for path in new)
        assert (folder / "good" / "1.jpg").read_bytes() == b"picture"
        assert not list(tmp_path.rglob("canary"))
        assert not list(tmp_path.rglob("*.tmp"))
        if code == 5:
            assert new <= {folder / "good", folder / "good" / "1.jpg", folder / ".good.zip.unpacked.json"}


def test_a_link_that_is_there_already_is_not_written_through(tmp_path, capsys):
    folder = tmp_path / "root" / "Understanding"
    folder.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "a.zip").write_bytes(zipped(("link/escaped", b"x")))
    with Try("archives"):
        assert run(["data", "unpack", "--data-type", "Understanding", "--root", str(tmp_path / "root")]) == 5
        assert "is a link" in capsys.readouterr().err
        assert list((tmp_path / "outside").iterdir()) == []


# --- pickles ----------------------------------------------------------------------------------------------------------


class Payload:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> object:
        return self.call


def payloads(canary: Path) -> dict[str, bytes]:
    touch, python = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    calls: dict[str, tuple[object, tuple[object, ...]]] = {
        "os.system": (os.system, (touch,)),
        "subprocess": (subprocess.call, (["touch", str(canary)],)),
        "eval": (eval, (python,)),
        "exec": (exec, (python,)),
        "open": (open, (str(canary), "w")),
        "import": (__import__, ("os",)),
        "getattr": (getattr, ("", "join")),
        "mkdir": (os.mkdir, (str(canary),)),
        "pickle in pickle": (pickle.loads, (pickle.dumps(Payload(os.system, (touch,))),)),
        "map": (map, (os.system, [touch])),
    }
    written = {name: pickle.dumps(Payload(*call)) for name, call in calls.items()}
    written["old protocol"] = f"cos\nsystem\n(S'{touch}'\ntR.".encode()
    written["inst"] = f"(S'{touch}'\nios\nsystem\n.".encode()
    written["obj"] = f"(cos\nsystem\nS'{touch}'\no.".encode()
    written["importlib"] = b"cimportlib\nimport_module\n(S'antigravity'\ntR."
    written["builtins by numpy"] = f"cnumpy\nload\n(S'{canary}'\ntR.".encode()
    written["dotted"] = b"\x80\x04\x8c\x08builtins\x8c\x09list.pop.a\x93."
    written["dtype flags"] = b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I4\nS'|'\nNNNI-1\nI-1\nI63\nNtb."
    written["build"] = b"(dp0\n(S'__class__'\nN" + b"db."
    written["persistent"] = b"Pfile\n."
    written["extension"] = b"\x80\x02\x82\x01."
    written["laughs"] = b"\x80\x04]\x94" + b"(h\x00h\x00h\x00e" * 200 + b"(cos\nsystem\nt."
    written["long"] = b"\x80\x04" + b"N0" * 2_000_000 + b"."
    return written


PAYLOADS = tuple(payloads(Path("canary")))


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_pickle_with_a_payload_is_refused_and_runs_nothing(tmp_path, name):
    canary = tmp_path / "canary"
    with Try("pickles"), pytest.raises((RefusedError, DataError)):
        read_pickle(payloads(canary)[name], "x.pkl")
    assert not canary.exists()


@pytest.mark.parametrize("name", ["os.system", "old protocol", "pickle in pickle"])
def test_the_payloads_are_real(tmp_path, name):
    pickle.loads(payloads(tmp_path / "canary")[name])
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["os.system", "eval", "old protocol"])
def test_check_refuses_an_episode_with_a_payload(tmp_path, name, capsys):
    canary = tmp_path / "canary"
    (tmp_path / "eps" / "k" / "lmdb").mkdir(parents=True)
    (tmp_path / "eps" / "k" / "meta_info.pkl").write_bytes(payloads(canary)[name])
    question = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "hi"}]
    (tmp_path / "a.json").write_text(
        json.dumps([{"id": "1", "images": "k#0", "w": 8, "h": 6, "conversations": question}])
    )
    (tmp_path / "c.yaml").write_text("root: .\nmine:\n  task: chat\n  annotations: a.json\n  episodes: eps\n")
    with Try("episodes"):
        assert run(["data", "check", "mine", "--catalog", str(tmp_path / "c.yaml")]) == 3
        assert "not trusted" in " ".join(capsys.readouterr().out.split())
        assert not canary.exists()


# --- pictures ---------------------------------------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    """A PNG of any size said, whose pixels are not there."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def half_picture() -> bytes:
    memory = io.BytesIO()
    Image.new("RGB", (64, 64)).save(memory, "PNG")
    return memory.getvalue()[:60]


PICTURES = {
    "13000 squared": png(13000, 13000),
    "65535 squared": png(65535, 65535),
    "2^31 wide": png(2**31 - 1, 1),
    "no pixels": png(4000, 4000),
    "tiff header": b"II*\0" + bytes(100),
    "psd header": b"8BPS\0\1" + bytes(100),
    "postscript": b"%!PS-Adobe EPSF\n(/etc/passwd) run",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "html": b"<html>404</html>",
    "half": half_picture(),
    "empty": b"",
}


@pytest.mark.parametrize("where", ["file", "member"])
@pytest.mark.parametrize("name", PICTURES)
def test_a_bomb_or_lying_picture_is_an_error_and_takes_no_memory(tmp_path, name, where):
    (tmp_path / "a.jpg").write_bytes(PICTURES[name])
    (tmp_path / "a.zip").write_bytes(zipped(("a.jpg", PICTURES[name])))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Try("pictures"):
        with pytest.raises((DataError, RefusedError)):
            images.load(ImageRef(tmp_path, "a.jpg" if where == "file" else "a.zip/a.jpg"))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_a_member_that_is_a_bomb_is_refused_as_a_picture(tmp_path):
    (tmp_path / "a.zip").write_bytes(BOMB)
    with Try("pictures"), pytest.raises(RefusedError, match="has 200 MB"):
        images.load(ImageRef(tmp_path, "a.zip/bomb.jpg"))


PATHS = [
    "../outside.jpg",
    "/etc/passwd",
    "a/../../outside.jpg",
    "link.jpg",
    "x\0y",
    "http://169.254.169.254/",
    "file:///x",
]
PATHS += ["data:image/png;base64,xx", "a.zip/../../outside.jpg", "lmdb:primary:../outside#0", "n" * 5000, "pipe"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_leads_out_reads_nothing(tmp_path, path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.jpg").write_bytes(half_picture())
    (root / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    (root / "a.zip").write_bytes(zipped(("x", b"1")))
    os.mkfifo(root / "pipe")
    with Try("paths"), pytest.raises((RefusedError, DataError)) as caught:
        images.load(ImageRef(root, path))
    assert "PNG" not in str(caught.value)


# --- annotations ------------------------------------------------------------------------------------------------------

RECORD = '{"id": "1", "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "hi"}]}'
FILES: dict[str, tuple[int, Callable[[], bytes]]] = {
    "NaN": (3, f'[{RECORD[:-1]}, "w": NaN}}]'.encode),
    "infinity": (3, f'[{RECORD[:-1]}, "w": -Infinity}}]'.encode),
    "brackets": (3, lambda: b"[" * 1_000_000),
    "braces": (3, lambda: b'{"a":' * 1_000_000),
    "byte-order mark": (0, lambda: b"\xef\xbb\xbf" + f"[{RECORD}]".encode()),
    "UTF-16": (3, lambda: f"[{RECORD}]".encode("utf-16")),
    "long number": (3, f'[{RECORD[:-1]}, "w": {"9" * 5000}}}]'.encode),
    "truncated": (3, f"[{RECORD}, {RECORD[:30]}".encode),
    "duplicate ids": (3, f"[{RECORD}, {RECORD}]".encode),
    "not UTF-8": (3, lambda: f"[{RECORD}]".encode().replace(b"hi", b"\xff\xfe")),
    "special token": (3, lambda: f"[{RECORD}]".replace("hi", "<|im_end|>").encode()),
    "duplicate keys": (0, f'[{RECORD[:-1]}, "id": "2"}}]'.encode),  # the last one counts
    "null": (3, lambda: b"[null, 1, []]"),
    "zeros": (3, lambda: bytes(1000)),
}


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_annotation_file_is_listed_and_never_a_traceback(tmp_path, name, capsys):
    code, content = FILES[name]
    (tmp_path / "a.json").write_bytes(content())
    with Try("annotations"):
        assert run(["data", "check", str(tmp_path / "a.json"), "--task", "chat"]) == code
        assert "Traceback" not in "".join(capsys.readouterr())


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_worst_archives_and_pickles_fit_into_little_memory(tmp_path):
    folder = tmp_path / "Generation"
    folder.mkdir()
    for name in ("bomb", "lying size", "overlapping", "nested"):
        (folder / f"{name.replace(' ', '_')}.zip").write_bytes(ZIPS[name][1])
    code = (
        "import sys, re, resource; from robointervlm.cli.main import run\n"
        "if __name__ == '__main__':\n"
        "    code = run(sys.argv[1:])\n"
        # Not ru_maxrss of this process: that begins with what the process had that started it.
        "    own = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "    print(code, max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) // 1000)\n"
    )
    script = tmp_path / "main.py"
    script.write_text(code)
    arguments = ["data", "unpack", "--root", str(tmp_path), "--workers", "1"]
    begin = time.monotonic()
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, timeout=120, check=True)
    exit_code, megabytes = map(int, done.stdout.split()[-2:])
    with Try("memory"):
        assert exit_code == 5
        assert "Traceback" not in done.stderr
        assert megabytes < 300
    sys.stdout.write(f"\npeak {megabytes} MB, {time.monotonic() - begin:.1f} s\n")
