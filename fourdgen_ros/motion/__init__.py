# SPDX-License-Identifier: Apache-2.0
"""GripperTrajectory -> MotionPlan: planning, safety checks, and who may execute a plan when."""
