# SPDX-License-Identifier: Apache-2.0
"""Sections of a report about futures: errors over the horizon, agreement of views, all measures."""

from __future__ import annotations

from collections.abc import Iterator

from fourdgen_ros.evaluation.measures import MEASURES
from fourdgen_ros.evaluation.report.charts import Bar, Line, decades, horizon, intervals
from fourdgen_ros.evaluation.report.load import Runs
from fourdgen_ros.evaluation.report.markup import Markup, element, number, table
from fourdgen_ros.evaluation.report.names import group, method, run_name
from fourdgen_ros.evaluation.statistics import by_frame

_KEYS = (('', 'generated'), ('true_', 'true'))


def sections(runs: Runs) -> Iterator[Markup]:
    """What the evaluations tell."""
    by_task = group(runs.evaluations)
    if by_task:
        yield _horizon(by_task)
        yield _agreement(by_task)
        yield _measures(by_task)


def _section(title: str, note: str, charts: list[tuple[str, Markup]], figures: Markup) -> Markup:
    shown = element('div', *(element('figure', element('figcaption', name), chart)
                             for name, chart in charts), class_='charts')
    return element('section', element('h2', title), element('p', note), shown, figures)


def per_frame(futures: list[dict], key: str) -> dict[str, list[float]]:
    """Median and p90 over futures of a measure by frame 1..T-1; empty where none has it."""
    median, p90 = by_frame([future[key] for future in futures if key in future], 50, 90)
    return {'median': median, 'p90': p90} if median else {}


def _horizon(by_task: dict[str, list[dict]]) -> Markup:
    panels: list[tuple[str, list[Line]]] = []
    rows = []
    for members in by_task.values():
        for value in members:
            lines = []
            name = run_name(value, by_task)
            for prefix, what in _KEYS:
                for quantile, numbers in per_frame(value['futures'], f'{prefix}tcp_mm').items():
                    style = quantile if not prefix else f'true {quantile}'
                    lines.append(Line(style.replace('true median', 'true'), numbers, style))
                    rows.append([f'{name}: {what}, {quantile}', *(number(v, 1) for v in numbers)])
            if lines:
                panels.append((name, lines))
    span = decades([line for _, lines in panels for line in lines])
    charts = [(name, horizon(f'TCP error over the horizon, {name}', lines, 'TCP error, mm', span))
              for name, lines in panels]
    frames = max((len(row) - 1 for row in rows), default=0)
    return _section(
        'Error over the horizon',
        'Distance between the tracked tool centre point and where it truly went. Grey: the same '
        'tracker on true futures, that is what the tracker alone gets wrong.', charts,
        table(['TCP error in mm by frame', *range(1, frames + 1)], rows, 'TCP error by frame'))


def _agreement(by_task: dict[str, list[dict]]) -> Markup:
    charts, rows = [], []
    for task, members in by_task.items():
        bars = []
        for value in members:
            for prefix, what in _KEYS:
                for key, kind in (('cross_view_iou', 'masks'), ('cross_view_box_iou', 'boxes')):
                    found = value['measures'].get(f'{prefix}{key}', {})
                    if 'p50' not in found:
                        continue
                    low, high = sorted((found['p50'], found['p90']))
                    bars.append(Bar(f'{method(value)}, {what}, {kind}', found['p50'], low, high,
                                    f"{found['p50']:.2f}"))
                    rows.append([f'{run_name(value, by_task)}: {what}, {kind}',
                                 number(found['p50'], 2), number(found.get('mean'), 2),
                                 number(found['n'], 0)])
        if bars:
            charts.append((task, intervals(f'Cross-view IoU, {task}', bars,
                                           'IoU: dot median, line to p90', percent=False)))
    if not rows:
        return Markup('')
    return _section(
        'Agreement of the views',
        'The gripper of one view, lifted by its points into the other, against the gripper there. '
        'Two cameras see different sides of a hand: compare with the value of true futures.',
        charts, table(['gripper IoU', 'median', 'mean', 'futures'], rows, 'Cross-view mIoU'))


def _measures(by_task: dict[str, list[dict]]) -> Markup:
    tables = []
    for members in by_task.values():
        for value in members:
            measures = value['measures']
            rows = [[text, *(number(measures.get(f'{prefix}{key}', {}).get(q), digits, unit)
                             for prefix in ('', 'true_') for q in ('p50', 'p90'))]
                    for key, (text, unit, digits) in MEASURES.items()
                    if key in measures or f'true_{key}' in measures]
            failed = [(measures.get(f'{prefix}tracking_failures'), what) for prefix, what in _KEYS]
            missing = measures.get('generation_failures')
            tables.append(table(['measure', 'median', 'p90', 'true futures: median', 'p90'], rows,
                                f"{run_name(value, by_task)}: {value['n']} futures"))
            if missing is not None:
                tables.append(element('p', f'Generation failed {missing["failed"]} times of '
                                           f'{missing["n"]}.'))
            tables += [element('p', f'Tracking failed on {found["failed"]} of {found["n"]} {what} '
                                    'futures.') for found, what in failed
                       if found is not None and found['failed']]
    return element('section', element('h2', 'All measures of the futures'), *tables)
