# SPDX-License-Identifier: Apache-2.0
"""Names, units and digits of what `openloop` measures, in the order of tables."""

from __future__ import annotations

# measure -> (text, unit, digits)
MEASURES = {
    'tcp_mm': ('TCP position, all frames', 'mm', 1),
    'tcp_mm_last_frame': ('TCP position, last frame', 'mm', 1),
    'tcp_deg': ('TCP rotation, all frames', 'deg', 1),
    'opening_mm': ('opening', 'mm', 1),
    'points_mm': ('points, all pixels', 'mm', 1),
    'moving_points_mm': ('points, moving pixels', 'mm', 1),
    'gripper_points_mm': ('points, gripper pixels', 'mm', 1),
    'points_missing': ('share of points left out', '', 3),
    'gripper_points_missing': ('share of gripper points left out', '', 3),
    'camera_mm': ('points of other views at frame 0: their camera', 'mm', 1),
    'mask_iou': ('gripper mask IoU with the truth', '', 2),
    'first_mask_iou': ('gripper mask IoU with the truth, frame 0', '', 2),
    'cross_view_iou': ('cross-view gripper IoU', '', 2),
    'cross_view_box_iou': ('cross-view gripper IoU of boxes', '', 2),
    'psnr_db': ('PSNR', 'dB', 1),
    'abs_rel': ('AbsRel', '', 4),
    'delta_125': ('delta < 1.25', '', 4),
    'generate_s': ('one future', 's', 2),
    'track_ms_per_frame': ('tracking a frame', 'ms', 0),
}
