# SPDX-License-Identifier: Apache-2.0
"""Recordings and data sets: bags are written, read, checked and converted here. No ROS."""
