"""A small line chart as SVG text: panels side by side, a logarithmic x axis, dots, and lines between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

WIDTH, HEIGHT = 400, 260  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 48, 42  # around its plot
COLOURS = ("#1f6fb2", "#c2571a", "#3c8a3c")


@dataclass(frozen=True)
class Line:
    label: str
    ys: Sequence[float]


@dataclass(frozen=True)
class Panel:
    title: str
    x_label: str
    xs: Sequence[float]
    lines: Sequence[Line]

    def x(self, value: float) -> float:
        low, high = log(min(self.xs)), log(max(self.xs))
        return LEFT + (WIDTH - LEFT - RIGHT) * (log(value) - low) / (high - low)

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / self.highest())

    def highest(self) -> float:
        """A round number at the top of the plot."""
        most = max(max(line.ys) for line in self.lines)
        return next(
            step * 10**power for power in range(9) for step in (1, 2, 4, 5, 8, 10) if step * 10**power >= 1.1 * most
        )

    def svg(self) -> list[str]:
        parts = [_text(LEFT, 20, self.title, "start", 14), _text(WIDTH / 2, HEIGHT - 6, self.x_label)]
        for quarter in range(5):
            value = self.highest() * quarter / 4
            at = self.y(value)
            parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
            parts.append(_text(LEFT - 6, at + 4, f"{value:g}", "end"))
        parts += [_text(self.x(each), HEIGHT - BOTTOM + 16, f"{each:g}") for each in self.xs]
        for place, (line, colour) in enumerate(zip(self.lines, COLOURS, strict=False)):
            parts += self._line(line, colour)
            parts.append(_text(LEFT + 110 * place, 38, line.label, "start", 12, colour))
        return parts

    def _line(self, line: Line, colour: str) -> list[str]:
        points = [f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(self.xs, line.ys, strict=True)]
        dots = [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in (each.split(",") for each in points)]
        return [f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots]


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 12, colour: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{text}</text>'


def chart(panels: Sequence[Panel]) -> str:
    width = WIDTH * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}" '
        'font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for place, panel in enumerate(panels):
        parts += [f'<g transform="translate({place * WIDTH} 0)">', *panel.svg(), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"
