#!/usr/bin/env python3
"""Draws what `cargo demo` leaves on a terminal as the picture in the README.

    infra/docs/record-demo.py                        # runs the demo, and draws it
    infra/docs/record-demo.py -- cargo demo --files 2000
    script -qec 'cargo demo' demo.log                # or: record it yourself,
    infra/docs/record-demo.py --from demo.log        # and draw the recording

The command runs in a pseudo-terminal of fixed size, so it shows its colours and progress bars. This
program follows its output as a terminal would, and writes the last screen to infra/docs/demo.svg. If
the command fails, nothing is written. It needs the standard library of Python only, and knows just
those control sequences that the demo uses.
"""

import argparse
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from html import escape
from pathlib import Path
from typing import NamedTuple

PICTURE = Path(__file__).resolve().parent / "demo.svg"
COMMAND = ["cargo", "demo"]
COLUMNS, ROWS = 84, 200

# Colours of the terminal's own names, on a dark window that stands out on light and dark pages.
BACKGROUND, FOREGROUND, FRAME = "#1f2430", "#d7dae0", "#3b4252"
COLOURS = ["#5c6370", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#ffffff"]

# In pixels.
FONT, CELL, LINE, MARGIN, BAR = 14, 8.4, 20, 16, 28

# A control sequence (CSI), an operating system command, another escape, or one character.
TOKEN = re.compile(r"\x1b\[([?0-9;]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|(.)", re.DOTALL)


class Style(NamedTuple):
    colour: int | None = None
    bold: bool = False
    dim: bool = False

    def after(self, parameters):
        """The style after a "select graphic rendition" with these parameters."""
        style, codes = self, [int(code or 0) for code in parameters.split(";")]
        while codes:
            match codes.pop(0):
                case 0:
                    style = Style()
                case 1:
                    style = style._replace(bold=True)
                case 2:
                    style = style._replace(dim=True)
                case 22:
                    style = style._replace(bold=False, dim=False)
                case 39:
                    style = style._replace(colour=None)
                case 38 | 48:
                    # A colour by its number in a palette, or by red, green and blue: not drawn.
                    del codes[: 2 if codes[:1] == [5] else 4]
                case code if 30 <= code <= 37 or 90 <= code <= 97:
                    style = style._replace(colour=code % 10)
        return style


class Screen:
    """What a terminal shows after the text that it was fed."""

    def __init__(self, columns=COLUMNS):
        self.columns = columns
        self.rows = [[]]
        self.row = self.column = 0
        self.style = Style()

    def feed(self, text):
        for token in TOKEN.finditer(text):
            parameters, final, character = token.groups()
            if character is not None:
                self.put(character)
            elif final is not None:
                self.control(parameters, final)

    def put(self, character):
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.move(1)
        elif character == "\b":
            self.column = max(self.column - 1, 0)
        elif character == "\t":
            self.column = min((self.column // 8 + 1) * 8, self.columns - 1)
        elif character >= " ":
            # A full line wraps before the next character, not after its last one.
            if self.column == self.columns:
                self.column = 0
                self.move(1)
            row = self.rows[self.row]
            row.extend([(" ", Style())] * (self.column + 1 - len(row)))
            row[self.column] = (character, self.style)
            self.column += 1

    def move(self, rows):
        self.row = max(self.row + rows, 0)
        self.rows.extend([] for _ in range(self.row + 1 - len(self.rows)))

    def control(self, parameters, final):
        number = int(parameters) if parameters.isdigit() else None
        match final:
            case "A":
                self.move(-(number or 1))
            case "B":
                self.move(number or 1)
            case "C":
                self.column = min(self.column + (number or 1), self.columns - 1)
            case "D":
                self.column = max(self.column - (number or 1), 0)
            case "G":
                self.column = min((number or 1) - 1, self.columns - 1)
            case "K":
                row = self.rows[self.row]
                if number == 2:
                    row.clear()
                elif not number:
                    del row[self.column :]
            case "J" if not number:
                del self.rows[self.row][self.column :]
                del self.rows[self.row + 1 :]
            case "m":
                self.style = self.style.after(parameters)

    def lines(self):
        """The rows without the empty ones at both ends, and without spaces at the end of each."""
        rows = []
        for row in self.rows:
            while row and row[-1][0] == " ":
                row = row[:-1]
            rows.append(row)
        while rows and not rows[-1]:
            rows.pop()
        while rows and not rows[0]:
            rows.pop(0)
        return rows


def record(command):
    """Runs a command in a pseudo-terminal and returns its output, which is shown as well."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    output = bytearray()
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # How Linux says that nobody writes any more.
            break
        if not chunk:
            break
        output += chunk
        os.write(sys.stdout.fileno(), chunk)
    if status := process.wait():
        sys.exit(f"{' '.join(command)} ended with {status}: no picture was written")
    return output.decode(errors="replace")


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


def draw(rows, title):
    width = round(2 * MARGIN + COLUMNS * CELL)
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
            # The length is given, so that columns stay below each other in any font.
            attributes = f'x="{MARGIN + start * CELL:.1f}" y="{y}" textLength="{len(text) * CELL:.1f}"'
            if style.colour is not None:
                attributes += f' fill="{COLOURS[style.colour]}"'
            if style.bold:
                attributes += ' font-weight="bold"'
            if style.dim:
                attributes += ' opacity="0.55"'
            svg.append(f"<text {attributes}>{escape(text, quote=False)}</text>")
    svg.append("</g>\n</svg>\n")
    return "\n".join(svg)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="recording", metavar="FILE", help="draw this recording")
    parser.add_argument("--to", type=Path, default=PICTURE, help="where the picture goes")
    parser.add_argument("command", nargs="*", help="what to run instead of `cargo demo`")
    arguments = parser.parse_args()
    command = arguments.command or COMMAND

    screen = Screen()
    screen.feed(f"\x1b[1m$ {' '.join(command)}\x1b[0m\r\n")
    if arguments.recording:
        text = Path(arguments.recording).read_bytes().decode(errors="replace")
        # The first and the last line of script(1) are its own.
        screen.feed(re.sub(r"^Script (started|done) on .*\r?\n?", "", text, flags=re.MULTILINE))
    else:
        screen.feed(record(command))
    rows = screen.lines()
    arguments.to.write_text(draw(rows, " ".join(command)))
    print(f"{len(rows)} lines: {arguments.to}")


if __name__ == "__main__":
    main()
