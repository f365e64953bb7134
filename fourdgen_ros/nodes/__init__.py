# SPDX-License-Identifier: Apache-2.0
"""ROS nodes: one thin file for each stage."""
