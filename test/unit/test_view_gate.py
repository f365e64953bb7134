# SPDX-License-Identifier: Apache-2.0
"""Who may open the page: rules, and a real server asked over real sockets."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from fourdgen_ros.core.errors import InputError
from fourdgen_ros.view.gate import Gate, is_loopback

TOKEN = 'x' * 20


@pytest.mark.parametrize(('host', 'loopback'), [
    ('127.0.0.1', True), ('127.8.8.8', True), ('::1', True), ('localhost', True),
    ('0.0.0.0', False), ('192.168.1.5', False), ('robot', False), ('localhost.evil.org', False),
    ('', False)])
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


@pytest.mark.parametrize('token', [None, '', 'short'])
def test_another_address_asks_for_a_token(token: str | None) -> None:
    with pytest.raises(InputError, match='token.*ssh -L'):
        Gate('0.0.0.0', token)


@pytest.mark.parametrize(('headers', 'passes'), [
    ({'Host': 'localhost:8080'}, True),
    ({'Host': '127.0.0.1:9000'}, True),  # through ssh -L
    ({'Host': '[::1]:8080'}, True),
    ({'Host': 'localhost:8080', 'Origin': 'http://localhost:8080'}, True),
    ({'Host': 'localhost:8080', 'Origin': 'https://evil.org'}, False),
    ({'Host': 'localhost:8080', 'Origin': 'http://localhost:3000'}, False),
    ({'Host': 'localhost:8080', 'Origin': 'null'}, False),
    ({'Host': 'evil.org:8080', 'Origin': 'http://evil.org:8080'}, False),  # DNS rebinding
    ({}, False)])
def test_on_this_machine(headers: dict[str, str], passes: bool) -> None:
    assert (Gate('127.0.0.1').refusal('/', headers) is None) == passes


@pytest.mark.parametrize(('path', 'headers', 'passes'), [
    ('/', {}, False),
    ('/?token=wrong', {}, False),
    (f'/?token={TOKEN}', {}, True),
    ('/', {'Cookie': f'fourdgen_view={TOKEN}'}, True),
    ('/', {'Cookie': f'a=b; fourdgen_view={TOKEN}; c=d'}, True),
    ('/', {'Cookie': 'fourdgen_view=wrong'}, False),
    ('/', {'Cookie': 'fourdgen_view=ü'}, False),
    ('/', {'Cookie': f'fourdgen_view={TOKEN}', 'Origin': 'https://evil.org'}, False)])
def test_from_elsewhere(path: str, headers: dict[str, str], passes: bool) -> None:
    headers = {'Host': 'robot.lab:8080', **headers}
    assert (Gate('0.0.0.0', TOKEN).refusal(path, headers) is None) == passes


viser = pytest.importorskip('viser')


@pytest.fixture(params=[None, TOKEN], ids=['open', 'token'])
def port(request: pytest.FixtureRequest) -> Iterator[tuple[int, str | None]]:
    from fourdgen_ros.view.gate import serve

    # Also on the loopback a gate with a token asks for it.
    server = serve('127.0.0.1', 0, Gate('127.0.0.1', request.param))
    yield server.get_port(), request.param
    server.stop()


def ask(port: int, path: str = '/', **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=10.0)
    connection.request('GET', path, headers=headers)
    return connection.getresponse()


def handshake(port: int, **headers: str) -> int:
    """Status of a websocket handshake as viser's page makes it; 101 is in."""
    return ask(port, Connection='Upgrade', Upgrade='websocket', **headers, **{
        'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
        'Sec-WebSocket-Protocol': f'viser-v{viser.__version__}'}).status


def test_the_gate_stands_in_front_of_page_and_websocket(port: tuple[int, str | None]) -> None:
    number, token = port
    own = {'Origin': f'http://127.0.0.1:{number}'}
    evil = {'Origin': 'https://evil.org'}
    if token is None:
        assert ask(number).status == 200
        assert handshake(number, **own) == 101
    else:
        assert ask(number).status == 403
        assert ask(number, '/?token=wrong').status == 403
        assert handshake(number, **own) == 403
        answer = ask(number, f'/?token={token}')
        assert (answer.status, answer.headers['Location']) == (303, '/')
        cookie = {'Cookie': answer.headers['Set-Cookie'].partition(';')[0]}
        assert ask(number, **cookie).status == 200
        assert handshake(number, **own, **cookie) == 101
        evil |= cookie
    assert ask(number, **evil).status == 403
    assert handshake(number, **evil) == 403
    assert ask(number, Host='evil.org').status == 403


def test_nothing_is_served_when_viser_goes_round_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    from fourdgen_ros.core.errors import ExecutionError
    from fourdgen_ros.view import gate

    class Careless:
        stopped = False

        def __init__(self, **_: object) -> None:
            pass

        def stop(self) -> None:
            Careless.stopped = True

    monkeypatch.setattr(viser, 'ViserServer', Careless)
    with pytest.raises(ExecutionError, match=r'requirements/view\.txt'):
        gate.serve('127.0.0.1', 0, Gate('127.0.0.1'))
    assert Careless.stopped


def test_a_foreign_address_is_refused() -> None:
    from fourdgen_ros.view.gate import serve

    with pytest.raises(InputError, match='address of this machine'):
        serve('203.0.113.1', 0, Gate('203.0.113.1', TOKEN))
