# SPDX-License-Identifier: Apache-2.0
"""Who may open the page: on this machine its own browser, from elsewhere who has the token.

The page has buttons that act on a robot, and viser lets in whoever reaches its port: also any web
site that the user has open, for a browser lets sites connect to localhost. So every request passes
a gate first. On the loopback it must be addressed to localhost (against DNS rebinding) and, when a
page asks, come from a page of this server. On other addresses it must also bring a token: once as
`/?token=...`, then as a cookie that only this server is told.
"""

from __future__ import annotations

import contextlib
import hmac
import http
import http.cookies
import io
import ipaddress
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fourdgen_ros.core.errors import (
    ExecutionError,
    InputError,
    MissingDependencyError,
    how_to_install,
)

_COOKIE = 'fourdgen_view'
_LEAST_TOKEN = 16


class Gate:
    """Decides from the headers of a request."""

    def __init__(self, host: str, token: str | None = None) -> None:
        """`host` is what the server binds to. Raises InputError for another than the loopback
        without a token, or one that can be guessed."""
        self._loopback = is_loopback(host)
        if not self._loopback and (token is None or len(token) < _LEAST_TOKEN):
            raise InputError(
                f'view on {host}', expected=f'a token of at least {_LEAST_TOKEN} characters',
                got='none' if token is None else f'{len(token)} characters',
                hint='Whoever reaches the page can confirm motions. Leave it on 127.0.0.1 and use '
                     '`ssh -L 8080:localhost:8080 ROBOT`, or give a token.')
        self._token = token

    def refusal(self, path: str, headers: Any) -> str | None:
        """Why the request is refused; None: it may pass. `headers` is a mapping without case."""
        host, origin = headers.get('Host', ''), headers.get('Origin')
        if self._loopback and not is_loopback(_name(host)):
            return f'this page answers only to localhost, not to {host!r}'
        if origin is not None and urlsplit(origin).netloc != host:
            return f'requests from pages of {origin!r} are refused'
        if self._token is None or self._knows(self._cookie(headers)) or self.brings(path):
            return None
        return 'open the address with ?token=... that was printed when the view started'

    def brings(self, path: str) -> bool:
        """Whether the address itself has the token."""
        return self._knows(parse_qs(urlsplit(path).query).get('token', [''])[0])

    def set_cookie(self) -> str:
        """Value of the header that lets the browser in from now on."""
        return f'{_COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict'

    def _knows(self, token: str) -> bool:
        return self._token is not None and hmac.compare_digest(
            token.encode(), self._token.encode())

    @staticmethod
    def _cookie(headers: Any) -> str:
        try:
            cookies = http.cookies.SimpleCookie(headers.get('Cookie', ''))
        except http.cookies.CookieError:
            return ''
        return cookies[_COOKIE].value if _COOKIE in cookies else ''


def _name(netloc: str) -> str:
    try:
        name = urlsplit(f'//{netloc}').hostname
    except ValueError:
        return ''
    return name if name is not None else ''


def is_loopback(host: str) -> bool:
    """Whether a name or address is only reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def token_for(host: str, token: str | None) -> str | None:
    """The token that a page on `host` asks for: none on the loopback."""
    return None if is_loopback(host) else token


def serve(host: str, port: int, gate: Gate) -> Any:
    """A viser.ViserServer behind the gate, on the first free port from `port` on (0: any).

    Raises InputError for a host that is no address of this machine, and ExecutionError when viser
    has not let the gate in: then nothing is served.
    """
    viser = require_viser()
    _require_address(host)
    # viser prints the address without the token.
    with _process_request(gate) as installed, contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host=host, port=port, verbose=False)
    if not installed.is_set():
        server.stop()
        raise ExecutionError(
            'browser view', expected='a viser that serves with websockets.asyncio.server.serve',
            got=f'viser {viser.__version__}', hint='Install the version in requirements/view.txt.')
    return server


def require_viser() -> Any:
    """The module viser; raises MissingDependencyError where it is not installed."""
    try:
        import viser
    except ImportError as error:
        raise MissingDependencyError(
            'viser', expected='the package of the browser view', got=str(error),
            hint=how_to_install('view')) from error
    return viser


def _require_address(host: str) -> None:
    # viser would try a thousand ports there and then wait for ever.
    try:
        family, *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.bind(address)
    except OSError as error:
        raise InputError('--host', expected='an address of this machine', got=f'{host} ({error})',
                         hint='127.0.0.1 is this machine alone, 0.0.0.0 all its addresses.'
                         ) from error


@contextlib.contextmanager
def _process_request(gate: Gate) -> Iterator[threading.Event]:
    """While viser starts, its call of `websockets.asyncio.server.serve` gets the gate in front of
    its own `process_request`: viser has no parameter for it."""
    import websockets.asyncio.server as server

    original, installed = server.serve, threading.Event()

    def gated(*arguments: Any, process_request: Any, **options: Any) -> Any:
        def check(connection: Any, request: Any) -> Any:
            refusal = gate.refusal(request.path, request.headers)
            if refusal is not None:
                return connection.respond(http.HTTPStatus.FORBIDDEN, refusal + '\n')
            if gate.brings(request.path):
                response = connection.respond(http.HTTPStatus.SEE_OTHER, '')
                response.headers['Location'] = '/'  # the token does not stay in the address
                response.headers['Set-Cookie'] = gate.set_cookie()
                return response
            return process_request(connection, request)

        installed.set()
        return original(*arguments, process_request=check, **options)

    server.serve = gated
    try:
        yield installed
    finally:
        server.serve = original
