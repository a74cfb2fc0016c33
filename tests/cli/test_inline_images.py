"""The escape sequences that put pictures into terminals, byte for byte, and when they are sent."""

import base64
import io
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from vitcli.cli.inline_images import as_iterm, as_kitty, can_show, detect, fitting_columns, show_image

TERMINAL = ("TERM", "TERM_PROGRAM", "LC_TERMINAL", "KITTY_WINDOW_ID", "WEZTERM_PANE", "TMUX", "STY")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_small_picture_is_one_kitty_command() -> None:
    assert as_kitty(b"PNG", 80) == "\x1b_Ga=T,f=100,q=2,c=80,m=0;UE5H\x1b\\"


def test_a_large_picture_is_cut_into_chunks_for_kitty() -> None:
    png = bytes(range(256)) * 40  # 10,240 bytes: 13,656 letters of base64
    commands = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", as_kitty(png, 100))
    assert [keys for keys, _ in commands] == ["a=T,f=100,q=2,c=100,m=1", "q=2,m=1", "q=2,m=1", "q=2,m=0"]
    assert [len(data) for _, data in commands] == [4096, 4096, 4096, 13_656 - 3 * 4096]
    assert base64.b64decode("".join(data for _, data in commands)) == png
    assert as_kitty(png, 100) == "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in commands)


def test_a_picture_of_whole_chunks_has_no_empty_one() -> None:
    assert as_kitty(b"x" * 3072, 80).count("\x1b_G") == 1
    assert ",m=0;" in as_kitty(b"x" * 3072, 80)


def test_a_picture_for_iterm_is_one_command() -> None:
    assert as_iterm(b"PNG", 80) == "\x1b]1337;File=inline=1;size=3;width=80;preserveAspectRatio=1:UE5H\x07"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"LC_TERMINAL": "iTerm2", "TERM": "xterm-256color"}, "iterm"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"WEZTERM_PANE": "0"}, "iterm"),
        ({"TERM_PROGRAM": "Apple_Terminal", "TERM": "xterm-256color"}, None),
        ({"TERM": "dumb"}, None),
        ({}, None),
        ({"KITTY_WINDOW_ID": ""}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux-0/default,1,0"}, None),
        ({"TERM_PROGRAM": "iTerm.app", "STY": "1.pts-0"}, None),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "tmux-256color", "LC_TERMINAL": "iTerm2"}, None),
    ],
)
def test_terminals_are_known_by_their_variables(environment: dict[str, str], expected: str | None) -> None:
    assert detect(environment) == expected


def become_kitty(patch: pytest.MonkeyPatch, columns: str = "120") -> tuple[Terminal, Terminal]:
    """stdout and stderr lead to a kitty; pytest sets streams again after fixtures, so this is none."""
    for name in TERMINAL:
        patch.delenv(name, raising=False)
    patch.setenv("TERM", "xterm-kitty")
    patch.setenv("COLUMNS", columns)
    patch.setenv("LINES", "40")
    out, err = Terminal(), Terminal()
    patch.setattr(sys, "stdout", out)
    patch.setattr(sys, "stderr", err)
    return out, err


def test_pictures_need_both_streams_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    become_kitty(monkeypatch)
    assert can_show()
    for stream in ("stdout", "stderr"):
        with monkeypatch.context() as patch:
            patch.setattr(sys, stream, io.StringIO())
            assert not can_show()


def picture(path: Path, width: int, height: int) -> bytes:
    Image.new("L", (width, height)).save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("size", "columns", "lines", "expected"),
    [
        ((400, 100), 120, 50, 100),
        ((400, 100), 60, 50, 60),
        ((300, 300), 120, 27, 50),
        ((100, 400), 120, 50, 24),
        ((1, 4000), 80, 24, 1),
        ((300, 300), 80, 1, 1),
    ],
)
def test_pictures_are_as_wide_as_can_be_seen_whole(
    tmp_path: Path, size: tuple[int, int], columns: int, lines: int, expected: int
) -> None:
    assert fitting_columns(picture(tmp_path / "picture.png", *size), columns, lines) == expected


@pytest.mark.parametrize(("columns", "width"), [("120", 100), ("60", 60)])
def test_pictures_go_to_stderr(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, columns: str, width: int) -> None:
    out, err = become_kitty(monkeypatch, columns)
    png = picture(tmp_path / "picture.png", 400, 100)
    show_image(tmp_path / "picture.png")
    assert err.getvalue() == as_kitty(png, width) + "\n"
    assert out.getvalue() == ""


def test_a_terminal_that_says_nothing_of_itself_is_taken_for_one_like_iterm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, err = become_kitty(monkeypatch)
    monkeypatch.setenv("TERM", "xterm-256color")
    png = picture(tmp_path / "picture.png", 400, 100)
    show_image(tmp_path / "picture.png")
    assert err.getvalue() == as_iterm(png, 100) + "\n"
