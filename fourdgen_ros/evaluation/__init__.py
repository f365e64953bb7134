# SPDX-License-Identifier: Apache-2.0
"""Closed-loop rollouts without ROS, metrics of futures, and pictures."""
