#!/usr/bin/env python3
"""Draws what a command leaves on a terminal, for the pictures in the documents.

    infra/docs/record-demo.py                        # runs `cargo demo`, and draws it: demo.svg
    infra/docs/record-demo.py -- cargo demo --files 2000
    script -qec 'cargo demo' demo.log                # or: record it yourself,
    infra/docs/record-demo.py --from demo.log        # and draw the recording

    # A command that takes the whole screen: what is there after 40 seconds. Then it is told to end.
    infra/docs/record-demo.py --to infra/docs/watch.svg --size 80x24 --after 40 -- \
        cargo sluice watch --interval 1s

The command runs in a pseudo-terminal of fixed size, so it shows its colours and progress bars. The
terminal emulator pyte, which is installed under target/venv/pyte, follows its output, and its last
screen becomes the picture. If the command fails, nothing is written.
"""

import argparse
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "infra" / "docs" / "demo.svg"
COMMAND = ["cargo", "demo"]
# Higher than what the demo prints, so that nothing scrolls away.
SIZE = 84, 200

# Colours of the terminal's own names, on a dark window that stands out on light and dark pages.
BACKGROUND, FOREGROUND, FRAME = "#1f2430", "#d7dae0", "#3b4252"
COLOURS = ["#5c6370", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#ffffff"]
NAMES = ["black", "red", "green", "brown", "blue", "magenta", "cyan", "white"]

# In pixels.
FONT, CELL, LINE, MARGIN, BAR = 14, 8.4, 20, 16, 28

# Of an eighth of a cell, of two, and so on: curves are made of these, and must not have gaps.
BLOCKS = "▁▂▃▄▅▆▇█"

# How long a command that was told to end may take for it.
PATIENCE = 10


class Style(NamedTuple):
    colour: int | None = None
    bold: bool = False
    dim: bool = False


def with_pyte():
    """Runs this program with the interpreter that finds pyte, unless this one does."""
    venv = ROOT / "target" / "venv" / "pyte"
    python = venv / "bin" / "python"
    if Path(sys.prefix).resolve() == venv.resolve():
        return
    wanted = ROOT / "infra" / "local" / "requirements" / "pyte.txt"
    stamp = venv / "installed"
    if not stamp.is_file() or stamp.read_text() != wanted.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "-r", wanted], check=True)
        stamp.write_text(wanted.read_text())
    os.execv(python, [python, *sys.argv])


def terminal(columns, rows):
    """A screen and the stream that draws on it."""
    import pyte

    class Screen(pyte.Screen):
        def select_graphic_rendition(self, *codes):
            """pyte knows no faint text. Blinking takes its place, which no command of ours uses."""
            codes, known = list(codes or (0,)), []
            while codes:
                code = codes.pop(0)
                if code in (38, 48):
                    # A colour by its number in a palette, or by red, green and blue.
                    count = 2 if codes[:1] == [5] else 4
                    known += [code, *codes[:count]]
                    del codes[:count]
                else:
                    known += {2: [5], 22: [22, 25]}.get(code, [code])
            super().select_graphic_rendition(*known)

    screen = Screen(columns, rows)
    return screen, pyte.Stream(screen)


def colour(name):
    """The number of a colour that has a name or is one of the first 16 of the palette."""
    from pyte import graphics

    if name in graphics.FG_BG_256[:16]:
        return graphics.FG_BG_256.index(name) % 8
    name = name.removeprefix("bright")
    return NAMES.index(name) if name in NAMES else None


def lines(screen):
    """The rows without the empty ones at both ends, and without spaces at the end of each."""
    rows = []
    for number in range(screen.lines):
        cells = [screen.buffer[number][column] for column in range(screen.columns)]
        row = [(cell.data, Style(colour(cell.fg), cell.bold, cell.blink)) for cell in cells]
        while row and row[-1][0] == " ":
            row.pop()
        rows.append(row)
    while rows and not rows[-1]:
        rows.pop()
    while rows and not rows[0]:
        rows.pop(0)
    return rows


def record(command, columns, rows, after):
    """Runs a command in a pseudo-terminal and returns its output, which is shown as well.

    With `after`, a number of seconds, it returns the output until then, and types a `q`.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if after is None else theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        # A terminal of its own, from which it reads its keys.
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    output, taken = bytearray(), None
    begin = time.monotonic()
    while True:
        wait = None if after is None or taken else max(begin + after - time.monotonic(), 0)
        if not select.select([ours], [], [], wait)[0]:
            taken = bytes(output)
            os.write(ours, b"q")
            continue
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # How Linux says that nobody writes any more.
            break
        if not chunk:
            break
        output += chunk
        os.write(sys.stdout.fileno(), chunk)
    if status := process.wait(PATIENCE):
        sys.exit(f"{' '.join(command)} ended with {status}: no picture was written")
    if after is not None and taken is None:
        sys.exit(f"{' '.join(command)} ended before {after} s were over: no picture was written")
    return (taken or bytes(output)).decode(errors="replace")


def pieces(row):
    """The row in pieces of one style, without the wide gaps: start, text, style."""
    start = 0
    while start < len(row):
        end = start
        while end < len(row) and row[end][1] == row[start][1]:
            end += 1
        text = "".join(character for character, _ in row[start:end])
        for piece in re.finditer(r"\S+(?: \S+)*", text):
            yield start + piece.start(), piece[0], row[start][1]
        start = end


def draw(rows, title, columns):
    width = round(2 * MARGIN + columns * CELL)
    height = BAR + 2 * MARGIN + len(rows) * LINE
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'width="{width}" height="{height}">',
        f"<title>{escape(title)}, on a terminal</title>",
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" '
        f'fill="{BACKGROUND}" stroke="{FRAME}"/>',
    ]
    for x, colour in zip((20, 38, 56), COLOURS[1:4:2] + COLOURS[2:3]):
        svg.append(f'<circle cx="{x}" cy="{BAR - 10}" r="5.5" fill="{colour}"/>')
    svg.append(
        f'<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" '
        f'font-size="{FONT}" fill="{FOREGROUND}">'
    )
    for number, row in enumerate(rows):
        y = BAR + MARGIN + number * LINE + FONT
        for start, text, style in pieces(row):
            attributes = f' fill="{COLOURS[style.colour]}"' if style.colour is not None else ""
            if set(text) <= set(" " + BLOCKS):
                for at, block in enumerate(text, start):
                    if block == " ":
                        continue
                    tall = LINE * (BLOCKS.index(block) + 1) / len(BLOCKS)
                    top = BAR + MARGIN + (number + 1) * LINE - tall
                    place = f'x="{MARGIN + at * CELL:.1f}" y="{top:g}" width="{CELL}" height="{tall:g}"'
                    svg.append(f"<rect {place}{attributes}/>")
                continue
            # The length is given, so that columns stay below each other in any font.
            place = f'x="{MARGIN + start * CELL:.1f}" y="{y}" textLength="{len(text) * CELL:.1f}"'
            if style.bold:
                attributes += ' font-weight="bold"'
            if style.dim:
                attributes += ' opacity="0.55"'
            svg.append(f"<text {place}{attributes}>{escape(text, quote=False)}</text>")
    svg.append("</g>\n</svg>\n")
    return "\n".join(svg)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="recording", metavar="FILE", help="draw this recording")
    parser.add_argument("--to", type=Path, default=PICTURE, help="where the picture goes")
    parser.add_argument("--size", type=size, default=SIZE, metavar="COLUMNSxROWS")
    parser.add_argument(
        "--after", type=float, metavar="SECONDS", help="draw what is there then, and type a `q`"
    )
    parser.add_argument("command", nargs="*", help="what to run instead of `cargo demo`")
    arguments = parser.parse_args()
    with_pyte()
    command = arguments.command or COMMAND
    columns, rows = arguments.size

    screen, stream = terminal(columns, rows)
    if arguments.after is None:
        stream.feed(f"\x1b[1m$ {' '.join(command)}\x1b[0m\r\n")
    if arguments.recording:
        text = Path(arguments.recording).read_bytes().decode(errors="replace")
        # The first and the last line of script(1) are its own.
        stream.feed(re.sub(r"^Script (started|done) on .*\r?\n?", "", text, flags=re.MULTILINE))
    else:
        stream.feed(record(command, columns, rows, arguments.after))
    drawn = lines(screen)
    arguments.to.write_text(draw(drawn, " ".join(command), columns))
    print(f"{len(drawn)} lines: {arguments.to}")


def size(text):
    columns, _, rows = text.partition("x")
    if not (columns.isdigit() and rows.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 80x24")
    return int(columns), int(rows)


if __name__ == "__main__":
    main()
