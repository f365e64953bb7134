# SPDX-License-Identifier: Apache-2.0
"""A simulated robot cell: MuJoCo physics, RGB-D cameras, scripted expert, demonstrations."""

import os

os.environ.setdefault('MUJOCO_GL', 'egl')  # must be set before mujoco is imported
