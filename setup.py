# SPDX-License-Identifier: Apache-2.0
"""pip package of the stages without ROS interfaces, which only the colcon build generates."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
NAME = 'fourdgen_ros'


def requirements(name: str) -> list[str]:
    """Lines of one file in `requirements/` that name a package."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def shared(*folders: str) -> list[tuple[str, list[str]]]:
    """`data_files` entries of whole folders, below `share/fourdgen_ros`."""
    files: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob('*')):
            if path.is_file():
                relative = path.relative_to(ROOT)
                target = Path('share', NAME, relative.parent).as_posix()
                files.setdefault(target, []).append(relative.as_posix())
    return sorted(files.items())


setup(
    name=NAME,
    version='0.1.0',
    description='A robot acts on the 4D future that it imagines.',
    license='Apache-2.0',
    python_requires='>=3.11,<3.13',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['assets/**/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        *shared('config', 'launch', 'models', 'rviz'),
    ],
    install_requires=requirements('core'),
    extras_require={
        'data': requirements('data'),
        'motion': requirements('motion'),
        'sim': requirements('sim'),
        'svd': requirements('svd'),
        'train': requirements('train'),
        'view': requirements('view'),
        'dev': requirements('dev'),
        'docs': requirements('docs'),
    },
    entry_points={'console_scripts': ['fourdgen = fourdgen_ros.cli.__main__:main']},
)
