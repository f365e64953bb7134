# SPDX-License-Identifier: Apache-2.0
"""The report: every figure of the JSON is in the page, and the page needs no other file."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.evaluation.report import charts
from fourdgen_ros.evaluation.report.load import OUTCOME, Run, Runs, load_runs
from fourdgen_ros.evaluation.report.markup import Markup, element, number
from fourdgen_ros.evaluation.report.names import method
from fourdgen_ros.evaluation.report.page import page, write_report
from fourdgen_ros.evaluation.statistics import summary, wilson

VOID = {'meta', 'img', 'br'}
STAGES = ('generate', 'track', 'plan', 'observation_to_plan', 'execute')
VERSIONS = {'fourdgen_ros': '0.1.0', 'numpy': '2.4.6'}


class Page(HTMLParser):
    """Checks that tags close in order; collects figures, texts and what a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.values: list[float] = []
        self.links: list[str] = []
        self.text = ''
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ('src', 'href', 'srcset', 'data', 'action', 'xlink:href'):
                self.links.append(value or '')
            if tag == 'data' and name == 'value':
                self.values.append(float(value or 'nan'))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if 'style' not in self.open:
            self.text += data


seconds = st.floats(1e-3, 100.0)
rates = st.floats(0.0, 1.0)
millimetres = st.floats(1e-2, 500.0)


@st.composite
def rollouts(draw: st.DrawFn) -> dict:
    n = draw(st.integers(1, 5))
    wins = draw(st.integers(0, n))
    outcomes = [{'seed': s, 'success': s < wins, 'stage': 'lift',
                 'cause': None if s < wins else 'tracking',
                 'message': '' if s < wins else 'lost <the> gripper & stopped'}
                for s in range(n)]
    latency = {key: summary(draw(st.lists(seconds, min_size=1, max_size=4)), 50, 95)
               for key in STAGES}
    return {'task': draw(st.sampled_from(['A', 'B'])), 'generator': 'runs/<x>/preset',
            'camera_set': 'fixed', 'n': n, 'successes': wins, 'rate': wins / n,
            'wilson95': list(wilson(wins, n)), 'stages': {'lift': n},
            'causes': {'tracking': n - wins} if wins < n else {}, 'latency_s': latency,
            'segments': {'n': n, 'p50': 3.0, 'p95': 4.0}, 'outcomes': outcomes,
            'weights': 'abc123def456', 'versions': VERSIONS,
            'command': ['fourdgen', 'rollout', '--json', 'a b.json']}


@st.composite
def evaluations(draw: st.DrawFn) -> dict:
    frames = draw(st.integers(2, 8))
    futures = [{f'{prefix}tcp_mm': draw(st.lists(millimetres, min_size=frames, max_size=frames))
                for prefix in ('', 'true_')} for _ in range(draw(st.integers(1, 4)))]
    iou = {f'{prefix}cross_view_iou': {'n': 4, 'p50': draw(rates), 'p90': draw(rates),
                                       'mean': draw(rates)} for prefix in ('', 'true_')}
    measures = iou | {'tcp_mm': {'n': 4, 'p50': draw(millimetres), 'p90': draw(millimetres)},
                      'psnr_db': {'n': 4, 'p50': draw(millimetres), 'p90': draw(millimetres)},
                      'tracking_failures': {'n': 30, 'failed': 2},
                      'generation_failures': {'n': 33, 'failed': 3}}
    return {'task': 'A', 'generator': 'tiny', 'camera_set': 'fixed', 'weights': 'fedcba987654',
            'n': len(futures), 'measures': measures, 'futures': futures, 'versions': VERSIONS}


def run(value: dict) -> Run:
    return Run(value, Path('nowhere/report.json'))


TWO_FUTURES = {  # whose median and 50th percentile differ in the last bit
    'task': 'A', 'generator': 'tiny', 'camera_set': 'fixed', 'weights': 'fedcba987654', 'n': 2,
    'measures': {'cross_view_iou': {'n': 4, 'p50': 0.0, 'p90': 0.0, 'mean': 0.0},
                 'true_cross_view_iou': {'n': 4, 'p50': 0.0, 'p90': 0.0, 'mean': 0.0},
                 'tcp_mm': {'n': 4, 'p50': 1.0, 'p90': 1.0},
                 'psnr_db': {'n': 4, 'p50': 1.0, 'p90': 1.0},
                 'tracking_failures': {'n': 30, 'failed': 2},
                 'generation_failures': {'n': 33, 'failed': 3}},
    'futures': [{'tcp_mm': [1.0, 1.0], 'true_tcp_mm': [1.0, 0.1]},
                {'tcp_mm': [1.0, 1.0], 'true_tcp_mm': [1.0, 1.01]}], 'versions': VERSIONS}


@settings(max_examples=25, deadline=None)
@example([], [TWO_FUTURES])
@given(st.lists(rollouts(), max_size=3), st.lists(evaluations(), max_size=2))
def test_every_figure_is_in_the_page(closed: list[dict], opened: list[dict]) -> None:
    shown = Page(page(Runs([run(r) for r in closed], [run(r) for r in opened])))
    wanted = [value for r in closed for value in (
        r['rate'], *r['wilson95'], r['successes'], r['n'],
        *(r['latency_s'][key][q] for key in STAGES for q in ('p50', 'p95')))]
    for r in opened:
        for prefix in ('', 'true_'):
            errors = np.array([future[f'{prefix}tcp_mm'] for future in r['futures']])
            wanted += [*np.median(errors, axis=0), *np.percentile(errors, 90, axis=0),
                       *(r['measures'][f'{prefix}cross_view_iou'][q] for q in ('p50', 'mean'))]
        wanted += [r['measures'][key][q] for key in ('tcp_mm', 'psnr_db') for q in ('p50', 'p90')]
        assert 'Tracking failed on 2 of 30 generated futures.' in shown.text
        assert 'Generation failed 3 times of 33.' in shown.text
    missing = [v for v in wanted if not np.isclose(v, shown.values, rtol=1e-9, atol=0.0).any()]
    assert missing == []
    for r in closed:
        assert r['weights'] in shown.text
        assert "fourdgen rollout --json 'a b.json'" in shown.text
    failures = sum(r['n'] - r['successes'] for r in closed)
    assert shown.text.count('lost <the> gripper & stopped') == failures


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    strip = tmp_path / 'r_strips' / 'seed_0000.jpg'
    strip.parent.mkdir()
    Image.new('RGB', (32, 16), (200, 10, 10)).save(strip)
    value = {'task': 'A', 'generator': 'tiny', 'n': 1, 'successes': 0, 'rate': 0.0,
             'wilson95': [0.0, 0.8], 'stages': {}, 'causes': {}, 'segments': {'n': 0},
             'latency_s': {key: {'n': 0} for key in STAGES},
             'outcomes': [{'seed': 0, 'success': False, 'stage': 'reach', 'cause': 'planning',
                           'message': 'x', 'strip': 'r_strips/seed_0000.jpg'}]}
    file = tmp_path / 'r.json'
    file.write_text(json.dumps(value))
    out = tmp_path / 'new' / 'report.html'
    write_report(load_runs([file]), out)
    text = out.read_text(encoding='utf-8')
    shown = Page(text)
    assert [link[:23] for link in shown.links] == ['data:image/jpeg;base64,']
    # neither scripts nor style sheets nor fonts nor any address
    assert not re.search(r'<script|<link|@import|url\(|https?://', text)
    assert 'seed 0: planning' in shown.text


def test_a_demo(tmp_path: Path) -> None:
    (tmp_path / OUTCOME).write_text(json.dumps({
        'task': 'A', 'generator': 'tiny', 'seed': 7, 'ros': True, 'success': True, 'message': '',
        'stage': 'place', 'segments': 1, 'seconds_until_ready': 2.0, 'seconds': 31.25,
        'timings': [{'generate': 0.375, 'track': 1.125}],
        'files': {'picture': 'demo/imagined_and_real.png'}, 'weights': 'abc', 'versions': VERSIONS,
        'command': ['fourdgen', 'demo']}))
    Image.new('RGB', (8, 8)).save(tmp_path / 'imagined_and_real.png')
    shown = Page(page(load_runs([tmp_path])))
    assert 'Demo: A, seed 7' in shown.text
    assert {0.375, 1.125, 31.25, 1.0} <= set(shown.values)
    assert len(shown.links) == 1


def test_a_demo_without_pictures_shows_none_of_an_earlier_one(tmp_path: Path) -> None:
    value = {'task': 'A', 'generator': 'tiny', 'seed': 7, 'ros': True, 'success': False,
             'message': 'generate: no image', 'stage': 'none', 'segments': 0, 'seconds': 3.0,
             'timings': [], 'files': {}}
    (tmp_path / OUTCOME).write_text(json.dumps(value))
    Image.new('RGB', (8, 8)).save(tmp_path / 'imagined_and_real.png')
    shown = Page(page(load_runs([tmp_path])))
    assert shown.links == []
    assert 'not done' in shown.text
    assert 'generate: no image' in shown.text


@pytest.mark.parametrize(('content', 'message'), [
    (None, 'No such file'), ('{', 'expected JSON'), ('[1]', 'a JSON list'),
    ('{"a": 1}', 'JSON with a')])
def test_what_is_no_run_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / 'x.json'
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        load_runs([file])
    assert 'fourdgen rollout --json' in error.value.hint


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'results\.json'):
        load_runs([tmp_path])


@settings(deadline=None)
@given(st.text())
def test_texts_are_escaped(text: str) -> None:
    made = element('p', text, title=text)
    assert made.count('<') == made.count('>') == 2
    assert element('p', Markup('<b></b>')) == '<p><b></b></p>'


def test_numbers_keep_their_exact_value() -> None:
    assert number(0.123456789, 2, 'mm') == '<data value="0.123456789">0.12 mm</data>'
    assert number(0.5, 0, percent=True) == '<data value="0.5">50 %</data>'
    assert number(None, 1) == '–'


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1e4), min_size=1, max_size=12))
def test_labels_of_lines_do_not_overlap(heights: list[float]) -> None:
    placed = sorted(charts._apart(heights, 13.0))
    assert all(b - a >= 13.0 - 1e-6 for a, b in itertools.pairwise(placed))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 50.0), st.floats(0.0, 50.0)), min_size=1, max_size=4))
def test_bars_stay_inside_the_chart(stages: list[tuple[float, float]]) -> None:
    drawn = charts.waterfall('x', [('s', p50, p50 + more) for p50, more in stages])
    ends = [float(x) for x in re.findall(r'x2="([-\d.]+)"', drawn)]
    assert all(0 <= x <= charts.WIDTH for x in ends)


def test_reports_of_other_steps_and_faults_have_names_of_their_own() -> None:
    value = {'task': 'A', 'generator': 'tiny', 'camera_set': 'fixed'}
    assert method(value) == 'tiny'
    assert method(value | {'fault': 'skew=300', 'steps': 2}) == 'tiny, skew=300, 2 steps'
