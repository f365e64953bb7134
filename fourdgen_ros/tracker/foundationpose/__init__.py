# SPDX-License-Identifier: Apache-2.0
"""Poses from a user's own checkout of NVlabs/FoundationPose, in a process of its own."""
