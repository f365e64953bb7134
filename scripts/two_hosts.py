# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one machine: network namespaces joined by a cable, with nothing else in common.

Each has its own address, loopback and shared memory, so that what passes between processes of the
two passes over the cable, whose bytes are counted and whose rate can be limited.
Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

ADDRESSES = {'robot': '10.213.77.1', 'gpu': '10.213.77.2'}
UP_TIMEOUT = 10.0  # s until the cable carries


def missing() -> str:
    """Why there can be no two hosts here; empty where they can be."""
    if os.geteuid() != 0:
        return 'network namespaces need root'
    if shutil.which('ip') is None:
        return 'no `ip` (package iproute2)'
    name = f'fourdgen_probe_{os.getpid()}'
    probe = subprocess.run(['ip', 'netns', 'add', name], capture_output=True, text=True)
    if probe.returncode != 0:
        return f'no network namespaces: {probe.stderr.strip()}'
    subprocess.run(['ip', 'netns', 'delete', name], check=True)
    return ''


class TwoHosts:
    """Hosts 'robot' and 'gpu'; use it as a context: leaving it ends their processes and them."""

    def __init__(self) -> None:
        self._names = {host: f'fourdgen_{host}_{os.getpid()}' for host in ADDRESSES}
        self._holders: dict[str, subprocess.Popen] = {}
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> TwoHosts:
        try:
            self._make()
        except Exception:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self) -> None:
        for name in self._names.values():
            _ip('netns', 'add', name)
        robot, gpu = self._names.values()
        _ip('-n', robot, 'link', 'add', 'cable', 'type', 'veth', 'peer', 'name', 'cable',
            'netns', gpu)
        for host, name in self._names.items():
            _ip('-n', name, 'address', 'add', f'{ADDRESSES[host]}/24', 'dev', 'cable')
            for device in ('lo', 'cable'):
                _ip('-n', name, 'link', 'set', device, 'up')
            _ip('-n', name, 'route', 'add', '224.0.0.0/4', 'dev', 'cable')
            # `ip netns exec` gives a mount namespace of its own, which this process keeps.
            holder = self._holders[host] = subprocess.Popen(
                ['ip', 'netns', 'exec', name, 'sh', '-c',
                 'mount -t tmpfs shm /dev/shm && echo ready && exec sleep infinity'],
                stdout=subprocess.PIPE, text=True)
            if holder.stdout.readline() != 'ready\n':
                raise RuntimeError(f'host {host} has no shared memory of its own')
        # Fast DDS uses the interfaces that are up when a node starts, and no other ever after.
        end = time.monotonic() + UP_TIMEOUT
        while not all(self.run(host, 'cat', '/sys/class/net/cable/operstate').strip() == 'up'
                      for host in ADDRESSES):
            if time.monotonic() > end:
                raise RuntimeError(f'the cable is not up after {UP_TIMEOUT:g} s')
            time.sleep(0.05)

    def close(self) -> None:
        """End the hosts' processes and take the hosts away."""
        for process in [*self._processes, *self._holders.values()]:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was still to be written is lost
                        pipe.close()
        for name in self._names.values():
            subprocess.run(['ip', 'netns', 'delete', name], capture_output=True)

    def start(self, host: str, command: Sequence[str], environment: Mapping[str, str] | None = None,
              **options: Any) -> subprocess.Popen:
        """Start a command on a host, with the package's environment and what `environment` adds."""
        process = subprocess.Popen([*self._inside(host), *command],
                                   env={**os.environ, **(environment or {})}, **options)
        self._processes.append(process)
        return process

    def run(self, host: str, *command: str) -> str:
        """Output of a command that must succeed."""
        return subprocess.run([*self._inside(host), *command], check=True, capture_output=True,
                              text=True).stdout

    def _inside(self, host: str) -> list[str]:
        return ['nsenter', '--target', str(self._holders[host].pid), '--mount', '--net']

    def limit(self, rate: str, latency: str = '50ms') -> None:
        """Limit the cable in both directions to a rate as `tc` says it: '100mbit'.

        What would wait for longer than `latency` is dropped, as a full switch does.
        """
        for host in ADDRESSES:
            self.run(host, 'tc', 'qdisc', 'replace', 'dev', 'cable', 'root', 'tbf', 'rate', rate,
                     'burst', '64kb', 'latency', latency)

    def sent(self) -> dict[str, int]:
        """Bytes that each host has put on the cable, headers included."""
        return {host: int(self.run(host, 'cat', '/sys/class/net/cable/statistics/tx_bytes'))
                for host in ADDRESSES}

    def connections(self, host: str) -> int:
        """Established TCP connections of a host over the cable."""
        # IPv4 addresses in /proc are hexadecimal and little endian; state 01 is established.
        other = next(a for h, a in ADDRESSES.items() if h != host)
        peer = ''.join(f'{int(part):02X}' for part in reversed(other.split('.')))
        rows = [line.split() for line in self.run(host, 'cat', '/proc/net/tcp').splitlines()[1:]]
        return sum(row[2].startswith(peer) and row[3] == '01' for row in rows)


def _ip(*arguments: str) -> None:
    subprocess.run(['ip', *arguments], check=True, capture_output=True)
