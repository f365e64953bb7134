# SPDX-License-Identifier: Apache-2.0
"""Charts as inline SVG, drawn for the width of a phone; colours come from the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fourdgen_ros.evaluation.report.markup import Markup, element, joined

WIDTH = 360
_LEFT, _RIGHT = 46, 350  # of the plotted area
_ROW = 40


@dataclass(frozen=True)
class Line:
    """A value for every frame 1..n; `style`: CSS classes median, p90, true median, true p90."""

    name: str
    values: Sequence[float]
    style: str


@dataclass(frozen=True)
class Bar:
    """A value with an interval, in the unit of the axis."""

    name: str
    value: float
    low: float
    high: float
    shown: str


def _svg(title: str, height: float, *children: Markup) -> Markup:
    return element('svg', element('title', title), *children, role='img', aria_label=title,
                   viewBox=f'0 0 {WIDTH} {height:g}')


def _text(x: float, y: float, text: str, *, anchor: str = 'start', style: str | None = None,
          **more: object) -> Markup:
    return element('text', text, x=f'{x:.1f}', y=f'{y:.1f}', text_anchor=anchor, class_=style,
                   **more)


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return element('line', x1=f'{x1:.1f}', y1=f'{y1:.1f}', x2=f'{x2:.1f}', y2=f'{y2:.1f}',
                   class_=style)


def _x_axis(ticks: Sequence[tuple[float, str]], top: float, bottom: float, label: str) -> Markup:
    """Vertical grid lines at (x, text), and what the axis is."""
    parts = [joined((_line(x, top, x, bottom, 'grid'), _text(x, bottom + 14, text,
                                                             anchor='middle')))
             for x, text in ticks]
    return joined((*parts, _text((_LEFT + _RIGHT) / 2, bottom + 30, label, anchor='middle')))


def intervals(title: str, bars: Sequence[Bar], label: str, *, end: float = 1.0,
              percent: bool = True) -> Markup:
    """A dot and its interval a row, from 0 to `end`."""
    left = 12

    def x(value: float) -> float:
        return left + (_RIGHT - 8 - left) * value / end

    bottom = _ROW * len(bars)
    ticks = [(x(end * i / 4), f'{25 * i} %' if percent else f'{end * i / 4:.3g}')
             for i in range(5)]
    rows = []
    for i, bar in enumerate(bars):
        y = _ROW * i + 27
        rows += [_text(left, y - 12, bar.name, style='name'),
                 _text(_RIGHT - 8, y - 12, bar.shown, anchor='end'),
                 _line(x(bar.low), y, x(bar.high), y, 'range'),
                 element('circle', cx=f'{x(bar.value):.1f}', cy=f'{y:.1f}', r=5, class_='dot')]
    return _svg(title, bottom + 36, _x_axis(ticks, 0, bottom, label), *rows)


def decades(lines: Sequence[Line]) -> tuple[int, int]:
    """Powers of ten that hold all positive values: charts side by side have one axis."""
    values = [v for line in lines for v in line.values if v > 0 and math.isfinite(v)]
    low, high = (min(values), max(values)) if values else (0.1, 1.0)
    first = math.floor(math.log10(low))
    return first, max(first + 1, math.ceil(math.log10(high)))


def horizon(title: str, lines: Sequence[Line], y_label: str, span: tuple[int, int]) -> Markup:
    """Values by frame of the future, logarithmic over the `decades` of `span`; names stand at the
    ends of their lines."""
    first, last = span
    count = max(len(line.values) for line in lines)
    top, bottom, right = 26, 196, _RIGHT - 62

    def x(frame: float) -> float:
        return _LEFT + (right - _LEFT) * (frame - 1) / max(1, count - 1)

    def y(value: float) -> float:
        share = (math.log10(max(value, 10.0**first)) - first) / (last - first)
        return bottom - (bottom - top) * share

    grid = []
    for decade in range(first, last + 1):
        at = y(10.0**decade)
        grid += [_line(_LEFT, at, right, at, 'grid'),
                 _text(_LEFT - 6, at + 4, f'{10.0**decade:g}', anchor='end')]
    grid += [_text(x(f), bottom + 16, str(f), anchor='middle') for f in range(1, count + 1)]
    paths = [element('polyline', points=' '.join(f'{x(i + 1):.1f},{y(v):.1f}'
                                                 for i, v in enumerate(line.values)),
                     class_=f'curve {line.style}') for line in lines]
    ends = _apart([y(line.values[-1]) for line in lines], 13.0)
    names = [_text(right + 6, at + 4, line.name, style=line.style.split()[0])
             for line, at in zip(lines, ends, strict=True)]
    return _svg(title, bottom + 40, _text(4, 14, y_label), *grid, *paths, *names,
                _text((_LEFT + right) / 2, bottom + 34, 'frame of the future', anchor='middle'))


def _apart(heights: Sequence[float], least: float) -> list[float]:
    """Heights moved down as far as needed so that labels do not overlap."""
    placed, last = [0.0] * len(heights), -math.inf
    for i in sorted(range(len(heights)), key=lambda i: heights[i]):
        last = placed[i] = max(heights[i], last + least)
    return placed


def waterfall(title: str, stages: Sequence[tuple[str, float, float]]) -> Markup:
    """(name, p50, p95) in s: each bar begins where the medians before it end; a line up to p95."""
    starts = [sum(p50 for _, p50, _ in stages[:i]) for i in range(len(stages))]
    end = max(1e-3, *(start + p95 for start, (_, _, p95) in zip(starts, stages, strict=True)))
    step = _step(end)
    end = step * max(1, math.ceil(end / step - 1e-9))
    left, bottom = 12, _ROW * len(stages)

    def x(seconds: float) -> float:
        return left + (_RIGHT - 8 - left) * seconds / end

    rows = []
    for i, (start, (name, p50, p95)) in enumerate(zip(starts, stages, strict=True)):
        y = _ROW * i + 20
        rows += [_text(left, y - 5, name, style='name'),
                 _text(_RIGHT - 8, y - 5, f'{p50:.2f} / {p95:.2f} s', anchor='end'),
                 element('rect', x=f'{x(start):.1f}', y=y, height=12, class_='bar',
                         width=f'{max(1.0, x(start + p50) - x(start)):.1f}'),
                 _line(x(start + p50), y + 6, x(start + p95), y + 6, 'whisker')]
    ticks = [(x(step * i), f'{step * i:g}') for i in range(round(end / step) + 1)]
    return _svg(title, bottom + 36,
                _x_axis(ticks, 0, bottom, 'seconds: bar p50, line to p95'), *rows)


def _step(end: float) -> float:
    """Distance of ticks, 1, 2 or 5 times a power of ten, about five up to `end`."""
    power = 10.0 ** math.floor(math.log10(end / 5.0))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * 5.0 >= end * 0.999)
