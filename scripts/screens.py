#!/usr/bin/env python3
"""Draws what a command shows in a terminal as an SVG.

usage: screens.py --columns N --theme dark|light [--at SECONDS] OUT -- COMMAND...

Needs pyte (`pip install pyte`), which is the terminal. With --at the picture is taken after so many
seconds and the command is then interrupted, else when it has ended.
"""

import argparse
import fcntl
import html
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

import pyte

CELL = (8.4, 18)
MARGIN = 14
ROWS = 60

# Background, text, dimmed text, then the eight colours of a terminal, for each theme.
THEMES = {
    "dark": {
        "back": "#16181d", "text": "#d7dae0", "dim": "#8b919c",
        "black": "#3b4048", "red": "#f0737c", "green": "#8cc570", "brown": "#e2bb71",
        "blue": "#6bb0f0", "magenta": "#c98fe0", "cyan": "#5fbcc6", "white": "#e6e8eb",
    },
    "light": {
        "back": "#ffffff", "text": "#24272e", "dim": "#676d78",
        "black": "#24272e", "red": "#b3202b", "green": "#2c7016", "brown": "#865d00",
        "blue": "#1a5fb0", "magenta": "#84339e", "cyan": "#0b6a75", "white": "#676d78",
    },
}


class Screen(pyte.HistoryScreen):
    """A terminal that keeps dimmed text apart: pyte has no attribute for it, so it goes into the
    one for italics, which the program does not use."""

    def select_graphic_rendition(self, *attrs, **kwargs):
        super().select_graphic_rendition(*[{2: 3, 22: 22}.get(a, a) for a in attrs], **kwargs)
        if 22 in attrs:
            super().select_graphic_rendition(23)


def watch(command, columns, at):
    """Runs a command in a terminal; the lines it left there."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(columns))
        os.environ.pop("NO_COLOR", None)
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    screen = Screen(columns, ROWS, history=2000)
    stream = pyte.ByteStream(screen)
    end = time.monotonic() + at if at else None
    lines = None
    while True:
        ready, _, _ = select.select([terminal], [], [], 0.02)
        if ready:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break
            if not data:
                break
            stream.feed(data)
        if end and lines is None and time.monotonic() > end:
            lines = snapshot(screen)
            os.kill(child, signal.SIGINT)
    os.waitpid(child, 0)
    return lines or snapshot(screen)


def snapshot(screen):
    rows = list(screen.history.top) + [screen.buffer[row] for row in range(screen.lines)]
    lines = [[row[column] for column in range(screen.columns)] for row in rows]
    lines = [list(line) for line in lines]
    while lines and all(cell.data.strip() == "" for cell in lines[-1]):
        lines.pop()
    return lines


def runs(line):
    """Neighbouring cells of one look."""
    start = 0
    for column in range(1, len(line) + 1):
        if column == len(line) or look(line[column]) != look(line[start]):
            text = "".join(cell.data for cell in line[start:column])
            if text.strip():
                yield start, text, line[start]
            start = column


def look(cell):
    return cell.fg, cell.bold, cell.italics, cell.underscore


def draw(lines, columns, theme, title):
    width = columns * CELL[0] + 2 * MARGIN
    height = len(lines) * CELL[1] + 2 * MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}"'
        f' viewBox="0 0 {width:.0f} {height}" role="img">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{theme["back"]}"/>',
        '<g font-family="ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace"'
        ' font-size="14" xml:space="preserve">',
    ]
    for row, line in enumerate(lines):
        y = MARGIN + row * CELL[1] + 14
        for column, text, cell in runs(line):
            lead = len(text) - len(text.lstrip())
            text = text.strip()
            x = MARGIN + (column + lead) * CELL[0]
            colour = theme["dim"] if cell.italics else theme.get(cell.fg, theme["text"])
            style = ' font-weight="bold"' if cell.bold else ""
            style += ' text-decoration="underline"' if cell.underscore else ""
            out.append(
                f'<text x="{x:.1f}" y="{y}" fill="{colour}"{style}'
                f' textLength="{len(text) * CELL[0]:.1f}">{html.escape(text)}</text>'
            )
    out.append("</g></svg>")
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--columns", type=int, required=True)
    parser.add_argument("--theme", choices=THEMES, action="append", required=True)
    parser.add_argument("--at", type=float)
    parser.add_argument("--title", default="")
    parser.add_argument("out", help="with {theme} where the name of the theme goes")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    lines = watch(args.command, args.columns, args.at)
    if not lines:
        sys.exit("the command showed nothing: " + " ".join(args.command))
    for theme in args.theme:
        with open(args.out.format(theme=theme), "w", encoding="utf-8") as file:
            file.write(draw(lines, args.columns, THEMES[theme], args.title))


main()
