# SPDX-License-Identifier: Apache-2.0
"""A simulated robot cell: MuJoCo physics, RGB-D cameras, scripted expert, demonstrations."""
