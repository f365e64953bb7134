# SPDX-License-Identifier: Apache-2.0
"""The report of runs: one HTML page that needs no other file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from fourdgen_ros.core.files import write_whole
from fourdgen_ros.evaluation.report import futures
from fourdgen_ros.evaluation.report.charts import Bar, intervals, waterfall
from fourdgen_ros.evaluation.report.load import Run, Runs
from fourdgen_ros.evaluation.report.markup import (
    Markup,
    element,
    joined,
    number,
    picture,
    table,
)
from fourdgen_ros.evaluation.report.names import group, method, run_name

STAGES = ('generate', 'track', 'plan', 'execute')
_LATENCIES = {stage: stage for stage in STAGES} | {'observation_to_plan': 'observation to plan'}
_FILM = 'imagined_and_real.png'
_STYLE = Path(__file__).parents[2] / 'assets' / 'report.css'


def write_report(runs: Runs, out: Path) -> None:
    """Write the page; its folder is made."""
    write_whole(out, page(runs))


def page(runs: Runs) -> str:
    """The whole document."""
    tasks = ', '.join(dict.fromkeys(run.value['task'] for run in runs.all()))
    title = 'fourdgen report'
    sections = [section for section in (
        *(_demo(run) for run in runs.demos), _success(runs), *futures.sections(runs),
        _latency(runs), _failures(runs), _origin(runs)) if section]
    style = _STYLE.read_text(encoding='utf-8')
    head = element('head', element('meta', charset='utf-8'),
                   element('meta', name='viewport', content='width=device-width, initial-scale=1'),
                   element('title', f'{title}: {tasks}'), element('style', Markup(style)))
    body = element('body', element('main', element('h1', title), element('p', tasks), *sections))
    return f'<!DOCTYPE html>\n{element("html", head, body, lang="en")}\n'


def _section(title: str, *children: Markup) -> Markup:
    return element('section', element('h2', title), *children)


def _figures(parts: list[tuple[str, Markup]]) -> Markup:
    """Charts side by side where there is room, each under its name."""
    return element('div', *(element('figure', element('figcaption', name), chart)
                            for name, chart in parts), class_='charts')


def _demo(run: Run) -> Markup:
    value = run.value
    word = 'done' if value['success'] else 'not done'
    rows = [[f'segment {i + 1}', *(number(timing.get(stage), 2, 's') for stage in STAGES)]
            for i, timing in enumerate(value['timings'])]
    # without files of its own a run has none, whatever an earlier one left there
    film = run.beside(_FILM) if value['files'] else None
    return _section(
        f"Demo: {value['task']}, seed {value['seed']}",
        element('p', element('strong', word), ' after ', number(value['segments'], 0),
                ' segments and ', number(value['seconds'], 1, 's'),
                f"; generator {value['generator']}, ",
                'over ROS 2' if value['ros'] else 'in one process',
                f"; furthest stage: {value['stage']}.",
                f" {value['message']}" if value['message'] else ''),
        element('figure', _strip(film, 'film strip: rows imagined and real, for each camera'),
                element('figcaption', 'Amber: the imagined gripper path. Green: the executed one.'))
        if film is not None else Markup(''),
        table(['', *STAGES], rows, 'Time by stage'))


def _strip(file: Path, alt: str) -> Markup:
    """A picture that a narrow screen scrolls rather than shrinks."""
    return element('div', picture(file, alt), class_='wide strip')


def _success(runs: Runs) -> Markup:
    if not runs.rollouts:
        return Markup('')
    parts, rows = [], []
    by_task = group(runs.rollouts)
    for name, members in by_task.items():
        bars = [Bar(method(r), r['rate'], *r['wilson95'], f"{r['successes']}/{r['n']}")
                for r in members]
        parts.append((name, intervals(f'Success on {name}', bars,
                                      'success; line: Wilson 95 % interval')))
        for r in members:
            low, high = r['wilson95']
            rows.append([run_name(r, by_task), joined((number(r['successes'], 0), ' of ',
                                                         number(r['n'], 0))),
                         number(r['rate'], 0, percent=True),
                         joined((number(low, 0, percent=True), ' to ',
                                 number(high, 0, percent=True))),
                         number(r['segments'].get('p50'), 1), _counts(r['stages']),
                         _counts(r['causes'])])
    return _section('Closed-loop success', _figures(parts), table(
        ['run', 'successes', 'rate', 'Wilson 95 %', 'segments (p50)', 'furthest stage',
         'cause of failure'], rows, 'Success by task and method'))


def _counts(counts: dict[str, int]) -> Markup:
    parts: list[object] = []
    for key, n in sorted(counts.items(), key=lambda item: -item[1]):
        parts += [', ' if parts else '', f'{key} ', number(n, 0)]
    return joined(parts or ['–'])


def _latency(runs: Runs) -> Markup:
    parts, rows = [], []
    by_task = group(runs.rollouts)
    for r in (r for members in by_task.values() for r in members):
        latency = {stage: r['latency_s'][stage] for stage in STAGES if r['latency_s'][stage]['n']}
        if not latency:
            continue
        name = run_name(r, by_task)
        parts.append((name, waterfall(f'Latency of {name}', [
            (stage, value['p50'], value['p95']) for stage, value in latency.items()])))
        rows.append([name, *(_p50_p95(r['latency_s'][key]) for key in _LATENCIES),
                     number(max(value['n'] for value in latency.values()), 0)])
    return _section('Latency', _figures(parts), table(
        ['p50 / p95 in s', *_LATENCIES.values(), 'segments'], rows, 'Wall time by stage')
    ) if parts else Markup('')


def _p50_p95(value: dict) -> Markup:
    return joined((number(value['p50'], 2), ' / ', number(value['p95'], 2))) if value['n'] else (
        number(None, 0))


def _failures(runs: Runs) -> Markup:
    cards = [card for run in runs.rollouts for card in _cards(run)]
    if not runs.rollouts:
        return Markup('')
    return _section('Failures', *(cards or [element('p', 'None.')]))


def _cards(run: Run) -> Iterator[Markup]:
    """A figure a failed seed: why, how far it came, and its film strip where one was kept."""
    for row in run.value['outcomes']:
        if row['success']:
            continue
        strip = run.beside(row.get('strip', ''))
        caption = element(
            'figcaption', element('strong', f"seed {row['seed']}: {row['cause']}"),
            f", {run.value['task']}, {method(run.value)}; furthest stage: {row['stage']}. "
            f"{row['message']}")
        shown = _strip(strip, f"imagined and real pictures of seed {row['seed']}") if (
            strip is not None) else element('p', 'No strip: run the rollout with --strips.')
        yield element('figure', shown, caption, class_='failure')


def _origin(runs: Runs) -> Markup:
    """What somebody needs to measure it again."""
    commands = [*runs.commands, *(run.value['command'] for run in runs.all()
                                  if run.value.get('command'))]
    shown = [element('pre', shlex.join(command)) for command in
             dict.fromkeys(map(tuple, commands))]
    weights = {(run.value['generator'], run.value['weights']) for run in runs.all()
               if run.value.get('weights')}
    rows = [[generator, element('code', print_)] for generator, print_ in sorted(weights)]
    parts = [table(['generator', 'SHA-256 of the weights, first 12 digits'], rows, 'Weights')
             ] if rows else []
    found = [run.value['versions'] for run in runs.all() if run.value.get('versions')]
    for i, versions in enumerate(v for k, v in enumerate(found) if v not in found[:k]):
        parts.append(table(['package', 'version'], list(versions.items()),
                           f'Versions{f", set {i + 1}" if i else ""}'))
    return _section('How to measure it again', *shown, *parts) if shown or parts else Markup('')
