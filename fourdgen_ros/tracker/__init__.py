# SPDX-License-Identifier: Apache-2.0
"""Future -> GripperTrajectory: follows the gripper through a generated 4D clip."""
