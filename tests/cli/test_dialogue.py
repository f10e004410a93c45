"""`robointer infer` as a dialogue: in this process, and at a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios

import pytest
from PIL import Image

from robointervlm.cli.dialogue import Dialogue
from robointervlm.cli.main import run
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.core.prompt import Decoding
from robointervlm.models.model import load_model
from scripted_benchmark import COMMAND, make_benchmark

ANSWER = '{"current_bbox": [[8, 10], [38, 32]]}'


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    return make_benchmark(tmp_path_factory.mktemp("dialogue"))


@pytest.fixture
def dialogue(benchmark):
    return Dialogue(load_model({"path": str(benchmark.model)}), Decoding(), [benchmark.images / "0000.png"])


def test_without_a_task_an_answer_is_only_text(dialogue):
    assert dialogue.answer("Where is object 0?") == ANSWER


def test_a_task_reads_answers_and_save_draws_the_last_one(dialogue, tmp_path):
    dialogue.answer("/task current_box")
    assert dialogue.answer("Where is object 0?").splitlines() == [ANSWER, "current_box: (8, 10) (38, 32) px"]
    assert dialogue.answer(f"/save {tmp_path / 'a b.png'}") == str(tmp_path / "a b.png")
    assert Image.open(tmp_path / "a b.png").convert("RGB").getpixel((8, 20)) == (255, 109, 31)


def test_ask_puts_the_own_question_of_the_task(tmp_path):
    model = make_benchmark(tmp_path).model
    (model / "answers.json").write_text('{"Where is the gripper now?": "[[1, 2], [3, 4]]"}')
    dialogue = Dialogue(load_model({"path": str(model)}), Decoding(), [tmp_path / "images/0000.png"])
    dialogue.answer("/task gripper_det")
    assert dialogue.answer("/ask").splitlines() == [
        "Where is the gripper now?",
        "[[1, 2], [3, 4]]",
        "gripper_det: (1, 2) (3, 4) px",
    ]


def test_image_replaces_the_pictures_that_are_asked_about(dialogue, benchmark):
    first, second = benchmark.images / "0001.png", benchmark.images / "0002.png"
    assert dialogue.answer(f"/image {first} '{second}'") == f"{first}, {second}"
    with pytest.raises(RecipeError, match=r"1 <image> marker\(s\), but 2 picture\(s\)"):
        dialogue.answer("<image> only?")


def test_a_picture_that_cannot_be_opened_leaves_the_old_ones(dialogue, benchmark):
    with pytest.raises(DataError, match="cannot be opened"):
        dialogue.answer("/image none.png")
    assert dialogue.answer("/image") == str(benchmark.images / "0000.png")


def test_new_forgets_pictures_task_and_answer(dialogue):
    dialogue.answer("/task current_box")
    dialogue.answer("Where is object 0?")
    dialogue.answer("/new")
    assert dialogue.answer("/image").startswith("no picture")
    assert dialogue.answer("/task").startswith("no task")
    with pytest.raises(RecipeError, match="last answer"):
        dialogue.answer("/save x.png")


@pytest.mark.parametrize(
    "line, said",
    [
        ("/imagine", "no command"),
        ("/task current_bx", "nearest: current_box"),
        ("/ask", "no task is chosen"),
        ("/image 'a", "No closing quotation"),
    ],
)
def test_a_mistake_says_what_to_do(dialogue, line, said):
    with pytest.raises(RecipeError, match=said):
        dialogue.answer(line)


def test_a_task_alone_asks_its_own_question_or_says_what_to_fill_in(benchmark, capsys):
    asked = ["infer", "--model", str(benchmark.model), "--images", str(benchmark.images / "0000.png")]
    assert run([*asked, "--task", "current_box"]) == 2
    assert "has {instruction} to be filled in" in capsys.readouterr().err
    assert run([*asked, "--task", "refcoco"]) == 2
    assert "no wording of its own" in capsys.readouterr().err
    assert run([*asked, "--out", "x.png"]) == 2
    assert "/save FILE.png" in capsys.readouterr().err


def test_lines_of_a_pipe_are_answered_in_turn_and_a_mistake_ends_nothing(benchmark):
    done = subprocess.run(
        [*COMMAND, "infer", "--model", str(benchmark.model), "--images", str(benchmark.images / "0000.png")],
        input="/task none such\n\nWhere is object 0?\n/quit\nWhere is object 1?\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{ANSWER}\n"
    assert re.fullmatch(r"error: task 'none such' is not known[^\n]*\n", done.stderr)


# Opening it makes the pseudo-terminal the controlling one, so that Ctrl-C is a signal.
_AT_TERMINAL = "import os, sys; os.open(os.ttyname(0), os.O_RDWR); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """A command at a pseudo-terminal, as somebody at a keyboard has it."""

    def __init__(self, command: list[str]) -> None:
        self._ours, theirs = pty.openpty()
        # Ctrl-C would else throw away what is on its way to the screen, the next prompt among it.
        flags = termios.tcgetattr(theirs)
        flags[3] |= termios.NOFLSH
        termios.tcsetattr(theirs, termios.TCSANOW, flags)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AT_TERMINAL, *command],
            **{"stdin": theirs, "stdout": theirs, "stderr": theirs},
            start_new_session=True,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(theirs)
        self._seen = ""

    def expect(self, text: str) -> str:
        """What was shown up to this text; the test's own timeout ends it otherwise."""
        while text not in self._seen:
            self._seen += os.read(self._ours, 4096).decode()
        before, _, self._seen = self._seen.partition(text)
        return before

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def close(self) -> int:
        code = self.process.wait(timeout=60)
        os.close(self._ours)
        return code


@pytest.mark.timeout(30)
def test_at_a_terminal_lines_come_back_and_control_c_gives_one_up(benchmark):
    picture = benchmark.images / "0000.png"
    terminal = Terminal([*COMMAND, "infer", "--model", str(benchmark.model), "--images", str(picture)])
    terminal.expect("/help says what can be written.")
    terminal.expect("> ")
    terminal.type("Where is object 0?\n")
    terminal.expect(ANSWER)
    terminal.expect("> ")
    terminal.type("\x1b[A\n")  # the arrow up calls the last question back
    terminal.expect(ANSWER)
    terminal.expect("> ")
    terminal.type("half a line")
    terminal.expect("half a line")
    # A signal that comes just before readline waits is seen at the end of the line.
    terminal.type("\x03\n")
    terminal.expect("> ")
    terminal.type("/quit\n")
    assert terminal.close() == 0
