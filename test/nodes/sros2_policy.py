# SPDX-License-Identifier: Apache-2.0
"""What an SROS 2 policy allows on DDS, by the rules of sros2's permissions.xsl, without lxml."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

INCLUDE = '{http://www.w3.org/2001/XInclude}include'
ACTION = ('send_goal', 'cancel_goal', 'get_result')


@dataclass
class Enclave:
    """Patterns of DDS topics that an enclave may publish and subscribe to."""

    publish: set[str] = field(default_factory=set)
    subscribe: set[str] = field(default_factory=set)

    def denied(self, publishes: Iterable[str], subscribes: Iterable[str]) -> list[str]:
        """Which of these topics the enclave may not use."""
        return [f'publish {t}' for t in publishes if not matches(self.publish, t)] + [
            f'subscribe {t}' for t in subscribes if not matches(self.subscribe, t)]


def matches(patterns: Iterable[str], topic: str) -> bool:
    return any(fnmatchcase(topic, pattern) for pattern in patterns)


def load(file: Path) -> dict[str, Enclave]:
    """Enclaves of a policy by path."""
    return {enclave.attrib['path']: _enclave(enclave, file.parent)
            for enclave in ET.parse(file).getroot().iter('enclave')}


def _enclave(element: ET.Element, folder: Path) -> Enclave:
    enclave = Enclave()
    for profile in element.iter('profile'):
        rules = []
        for child in profile:
            if child.tag == INCLUDE:
                assert child.attrib['xpointer'] == 'xpointer(/profile/*)'
                rules += list(ET.parse(folder / child.attrib['href']).getroot())
            else:
                rules.append(child)
        for rule in rules:
            for entry in rule:
                name = _absolute(entry.text, profile.attrib['ns'], profile.attrib['node'])
                for verb, effect in rule.attrib.items():
                    assert effect == 'ALLOW'  # a rule that denies would hide others
                    _allow(enclave, entry.tag, verb, name)
    return enclave


def _absolute(name: str, ns: str, node: str) -> str:
    base = ns if ns.endswith('/') else f'{ns}/'
    if name.startswith('/'):
        return name
    return f'{base}{node}{name[1:]}' if name.startswith('~') else base + name


def _allow(enclave: Enclave, kind: str, verb: str, name: str) -> None:
    out, into = enclave.publish, enclave.subscribe
    if kind == 'topic':
        (out if verb == 'publish' else into).add(f'rt{name}')
        return
    if verb in ('reply', 'execute'):  # a server hears requests and tells the rest
        out, into = into, out
    services = [name] if kind == 'service' else [f'{name}/_action/{part}' for part in ACTION]
    out.update(f'rq{service}Request' for service in services)
    into.update(f'rr{service}Reply' for service in services)
    if kind == 'action':
        into.update(f'rt{name}/_action/{part}' for part in ('feedback', 'status'))
