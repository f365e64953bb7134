# SPDX-License-Identifier: Apache-2.0
"""A STAND-IN for the FoundationPose nodes of Isaac ROS: their topics, none of their code.

It joins its inputs by equal stamps as they do, reads the pose as they do (float32, columns first)
and answers with a Detection3DArray. What it finds comes from the stand-in of FoundationPose, a
small ICP, on the mesh file that it is given.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import trimesh
from isaac_ros_tensor_list_interfaces.msg import TensorList
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import BoundingBox3D, Detection3D, Detection3DArray, ObjectHypothesisWithPose

from fourdgen_ros.nodes import conversions

STANDIN = Path(__file__).parents[1] / 'unit' / 'foundationpose_standin' / 'estimater.py'


def _estimater() -> ModuleType:
    spec = importlib.util.spec_from_file_location('estimater_standin', STANDIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class IsaacStandIn(Node):
    """FoundationPoseTrackingNode and, with `estimation`, FoundationPoseNode."""

    def __init__(self, mesh: Path, debug_dir: Path, *, estimation: bool = True,
                 namespace: str = '') -> None:
        super().__init__('isaac_stand_in', namespace=namespace)
        loaded = trimesh.load(mesh, force='mesh', process=False)
        self._module = _estimater()
        self._eroded = self._module.eroded
        self._found = self._module.FoundationPose(
            model_pts=loaded.vertices, model_normals=loaded.vertex_normals, mesh=loaded,
            symmetry_tfs=np.eye(4)[None], debug_dir=str(debug_dir))
        self.answers: dict[str, str] = {}  # by stage: 'none', 'late' (another stamp), 'empty'
        self.asked: list[tuple[str, str]] = []  # stage and camera
        self._parts: dict[tuple[str, int], dict[str, Any]] = {}
        self._outputs = {}
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        stages = {'tracking': ('pose_input', TensorList)}
        if estimation:
            stages['pose_estimation'] = ('segmentation', Image)
        for stage, (last, kind) in stages.items():
            self._outputs[stage] = self.create_publisher(
                Detection3DArray, f'{stage}/output', qos)
            for name, type_ in (('image', Image), ('depth_image', Image),
                                ('camera_info', CameraInfo), (last, kind)):
                self.create_subscription(type_, f'{stage}/{name}',
                                         partial(self._on_part, stage, name), qos)

    def _on_part(self, stage: str, name: str, message: Any) -> None:
        stamp = conversions.stamp_to_ns(message.header.stamp)
        parts = self._parts.setdefault((stage, stamp), {})
        parts[name] = message
        if len(parts) == 4:
            del self._parts[stage, stamp]
            self._answer(stage, stamp, parts)

    def _answer(self, stage: str, stamp: int, parts: dict[str, Any]) -> None:
        color, depth, info = parts['image'], parts['depth_image'], parts['camera_info']
        assert (color.encoding, depth.encoding) == ('rgb8', '32FC1')
        camera = color.header.frame_id
        assert {part.header.frame_id for part in parts.values()} == {camera}
        self.asked.append((stage, camera))
        images = {'rgb': conversions.image_to_rgb(color),
                  'depth': np.nan_to_num(conversions.image_to_depth(depth)).astype(np.float32),
                  'K': conversions.camera_info_to_K(info, depth.height, depth.width)}
        # Isaac's tracking takes the depth as it is; its estimation does as FoundationPose does.
        self._module.eroded = self._eroded if stage == 'pose_estimation' else lambda depth: depth
        if stage == 'tracking':
            self._found.pose_last = self._found.get_tf_to_centered_mesh().new_tensor(
                _matrix(parts['pose_input']))  # Isaac's mesh is the centred one
            pose = self._found.track_one(iteration=1, **images)  # as Isaac's
        else:
            mask = conversions.image_to_mono(parts['segmentation'])
            self._found.pose_last = None
            pose = self._found.register(ob_mask=mask, iteration=2, **images)
            if self._found.pose_last is None:
                return  # it says nothing when too little of the mask has depth
        fault = self.answers.get(stage)
        if fault == 'none':
            return
        answer = Detection3DArray(header=conversions.header(
            stamp - (10**6 if fault == 'late' else 0), camera))
        if fault != 'empty':
            centre = conversions.matrix_to_pose(np.asarray(pose, float))
            detection = Detection3D(header=answer.header, bbox=BoundingBox3D(center=centre))
            detection.results.append(ObjectHypothesisWithPose())
            detection.results[0].pose.pose = centre
            answer.detections.append(detection)
        self._outputs[stage].publish(answer)


def _matrix(message: TensorList) -> np.ndarray:
    (tensor,) = message.tensors
    assert (tensor.name, tensor.data_type, list(tensor.shape.dims)) == ('poses', 9, [1, 4, 4])
    assert (tensor.shape.rank, list(tensor.strides)) == (3, [64, 16, 4])
    return np.frombuffer(bytes(tensor.data), '<f4').reshape(4, 4).T
