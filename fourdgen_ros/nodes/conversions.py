# SPDX-License-Identifier: Apache-2.0
"""Messages <-> value types; nothing else in this package looks into messages of these types.

Stamps are int ns of the ROS clock. `topic` arguments only serve error texts. Malformed messages
raise InputError with what was expected and what came. Images are decoded with numpy: exact for the
encodings below, row padding and byte order included. For other colour encodings (Bayer, YUV)
cv_bridge is asked where it is installed.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import (
    CameraInfo,
    CompressedImage,
    Image,
    JointState,
    PointCloud2,
    PointField,
)
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg
from trajectory_msgs.msg import JointTrajectoryPoint

from fourdgen_ros.core import images, se3
from fourdgen_ros.core.errors import InputError
from fourdgen_ros.core.images import camera_info_to_K
from fourdgen_ros.core.synchroniser import SyncedSet
from fourdgen_ros.core.types import (
    Future,
    GripperCommand,
    GripperTrajectory,
    JointTrajectory,
    MotionPlan,
    Observation,
    RgbdView,
)
from fourdgen_ros.data.compressed import compressed_to_depth, compressed_to_rgb
from fourdgen_ros.msg import GeneratedFuture, PlanSegment
from fourdgen_ros.msg import GripperTrajectory as GripperTrajectoryMsg
from fourdgen_ros.msg import MotionPlan as MotionPlanMsg

Array = NDArray[np.float64]
NS = 10**9


# --- time, headers, geometry ---------------------------------------------------------------------

def stamp_to_ns(stamp: Time | Duration) -> int:
    """A time or duration in ns."""
    return stamp.sec * NS + stamp.nanosec


def ns_to_stamp(ns: int) -> Time:
    """builtin_interfaces/Time of a stamp in ns."""
    sec, nanosec = divmod(int(ns), NS)
    return Time(sec=sec, nanosec=nanosec)


def seconds_to_duration(seconds: float) -> Duration:
    """builtin_interfaces/Duration, rounded to ns."""
    sec, nanosec = divmod(round(seconds * NS), NS)
    return Duration(sec=sec, nanosec=nanosec)


def duration_to_seconds(duration: Duration) -> float:
    """Seconds of a duration; the nearest double."""
    return stamp_to_ns(duration) / NS


def header(stamp_ns: int, frame_id: str) -> Header:
    """std_msgs/Header."""
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def _rotation(q: Quaternion, what: str) -> Array:
    try:
        return se3.matrix_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
    except ValueError as error:
        raise InputError(what, expected='a unit quaternion', got=str(error)) from error


def pose_to_matrix(pose: Pose) -> Array:
    """(4, 4) of a Pose; its quaternion must have norm 1 within 1 %."""
    p = pose.position
    return se3.make(_rotation(pose.orientation, 'pose'), np.array([p.x, p.y, p.z]))


def matrix_to_pose(T: Array) -> Pose:
    """geometry_msgs/Pose of (4, 4)."""
    x, y, z = (float(v) for v in T[:3, 3])
    return Pose(position=Point(x=x, y=y, z=z), orientation=_quaternion(T))


def transform_to_matrix(transform: Transform) -> Array:
    """(4, 4) of a Transform; its quaternion must have norm 1 within 1 %."""
    t = transform.translation
    return se3.make(_rotation(transform.rotation, 'transform'), np.array([t.x, t.y, t.z]))


def matrix_to_transform(T: Array) -> Transform:
    """geometry_msgs/Transform of (4, 4)."""
    x, y, z = (float(v) for v in T[:3, 3])
    return Transform(translation=Vector3(x=x, y=y, z=z), rotation=_quaternion(T))


def _quaternion(T: Array) -> Quaternion:
    x, y, z, w = (float(v) for v in se3.quaternion_from_matrix(T[:3, :3]))
    return Quaternion(x=x, y=y, z=z, w=w)


# --- images ---------------------------------------------------------------------------------------

def _bytes(values: NDArray) -> array.array:
    """The array's memory as array('B'), which message setters keep; others are copied bytewise."""
    data = array.array('B')
    data.frombytes(memoryview(np.ascontiguousarray(values)).cast('B'))
    return data


def _image(values: NDArray, encoding: str, stamp_ns: int, frame_id: str) -> Image:
    msg = Image(header=header(stamp_ns, frame_id), height=values.shape[0], width=values.shape[1],
                encoding=encoding, is_bigendian=int(sys.byteorder == 'big'),
                step=values.nbytes // values.shape[0])
    msg.data = _bytes(values)
    return msg


def image_to_rgb(msg: Image, topic: str = '') -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a colour or grey image."""
    return (images.color_pixels(msg, topic) if msg.encoding in images.COLOR
            else _cv_bridge_rgb(msg, topic))


def _cv_bridge_rgb(msg: Image, topic: str) -> NDArray[np.uint8]:
    # cv_bridge imports OpenCV when it is made and its own library when it converts: either may turn
    # out only then to be built for another numpy.
    try:
        from cv_bridge import CvBridge, CvBridgeError
        try:
            return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(msg, 'rgb8'))
        except CvBridgeError as error:
            raise _other_encoding(msg, topic, error) from error
    except ImportError as error:
        raise _other_encoding(msg, topic, error) from error


def _other_encoding(msg: Image, topic: str, why: Exception) -> InputError:
    return InputError(
        f'encoding of image {topic}', expected=', '.join(images.COLOR),
        got=f'{msg.encoding!r}, {why}',
        hint='Install cv_bridge (apt: ros-jazzy-cv-bridge) for other encodings, or set the camera '
             'to rgb8.')


def rgb_to_image(rgb: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Image:
    """rgb8 image of (H, W, 3) uint8."""
    return _image(rgb, 'rgb8', stamp_ns, frame_id)


def image_to_mono(msg: Image, topic: str = '') -> NDArray[np.uint8]:
    """(H, W) uint8 of a mono8 or 8UC1 image."""
    if msg.encoding not in ('mono8', '8UC1'):
        raise InputError(f'encoding of image {topic}', expected='mono8', got=repr(msg.encoding))
    return np.ascontiguousarray(images.pixels(msg, np.uint8, 1, topic)[..., 0])


def mono_to_image(mono: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> Image:
    """mono8 image of (H, W) uint8."""
    return _image(mono, 'mono8', stamp_ns, frame_id)


def image_to_depth(msg: Image, topic: str = '') -> NDArray[np.float32]:
    """(H, W) float32 m along z of a 16UC1 (mm) or 32FC1 (m) image (REP 118).

    0, negative and non-finite values are invalid and become NaN.
    """
    return images.metres(images.depth_pixels(msg, topic))


def depth_to_image(depth: NDArray[np.float32], stamp_ns: int, frame_id: str,
                   encoding: str = '16UC1') -> Image:
    """Depth image of (H, W) float32 m; NaN becomes 0 in 16UC1, as does what exceeds 65.535 m."""
    if encoding == '32FC1':
        return _image(depth.astype(np.float32, copy=False), encoding, stamp_ns, frame_id)
    if encoding != '16UC1':
        raise InputError('encoding of depth image', expected='16UC1 or 32FC1', got=repr(encoding))
    with np.errstate(invalid='ignore'):
        mm = np.rint(depth * np.float32(1000.0))
        mm = np.where((mm > 0) & (mm <= 65535), mm, 0).astype(np.uint16)
    return _image(mm, encoding, stamp_ns, frame_id)


def K_to_camera_info(
        K: Array, height: int, width: int, stamp_ns: int, frame_id: str) -> CameraInfo:
    """CameraInfo of an undistorted image (height, width) with K (3, 3)."""
    msg = CameraInfo(header=header(stamp_ns, frame_id), height=height, width=width,
                     distortion_model='plumb_bob', d=[0.0] * 5)
    msg.k = K.astype(float).ravel()
    msg.r = np.eye(3).ravel()
    msg.p = np.hstack([K, np.zeros((3, 1))]).astype(float).ravel()
    return msg


def view_from_msgs(camera: str, color: Image | CompressedImage, depth: Image | CompressedImage,
                   info: CameraInfo, topics: Sequence[str] = ('', '', ''), *,
                   rectified: bool = False) -> RgbdView:
    """RgbdView of one camera's colour, aligned depth and info messages; `topics` in that order.

    K is that of P where the images are `rectified`.
    """
    rgb = (compressed_to_rgb if isinstance(color, CompressedImage) else image_to_rgb)(
        color, topics[0])
    metres = (compressed_to_depth if isinstance(depth, CompressedImage) else image_to_depth)(
        depth, topics[1])
    height, width = rgb.shape[:2]
    if metres.shape != (height, width):
        raise InputError(f'depth image {topics[1]}',
                         expected=f'the size {width}x{height} of the colour image',
                         got=f'{metres.shape[1]}x{metres.shape[0]}',
                         hint='Use the depth image that is aligned to colour '
                              '(realsense: align_depth.enable:=true).')
    return RgbdView(
        rgb=rgb, depth=metres,
        K=camera_info_to_K(info, height, width, topics[2], rectified=rectified),
        stamp=stamp_to_ns(color.header.stamp), camera=camera, frame_id=color.header.frame_id)


def observation_from_set(synced: SyncedSet, cameras: Sequence[str],
                         topics: Mapping[tuple[str, str], str] | None = None, *,
                         rectified: bool = False) -> Observation:
    """Observation of a set whose payloads are messages; cameras[0] is the reference.

    K of all cameras is that of P where their images are `rectified`.
    """
    names = topics if topics is not None else {}
    views = []
    for camera in cameras:
        frames = synced.frames[camera]
        views.append(view_from_msgs(
            camera, frames.color, frames.depth, frames.info,
            [names.get((camera, kind), f'of {camera}') for kind in ('color', 'depth', 'info')],
            rectified=rectified))
    return Observation(tuple(views))


# --- point clouds ---------------------------------------------------------------------------------

_POINT = np.dtype([('xyz', '<f4', 3), ('rgb', '<u4')])
_FIELDS = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
           for i, name in enumerate(('x', 'y', 'z', 'rgb'))]


def points_to_cloud(points: NDArray[np.float32], rgb: NDArray[np.uint8], stamp_ns: int,
                    frame_id: str) -> PointCloud2:
    """Organised cloud x y z rgb of (H, W, 3) points in m and colours; NaN marks invalid points."""
    # By hand: sensor_msgs_py swaps width and height of organised clouds.
    h, w = points.shape[:2]
    cloud = np.empty((h, w), _POINT)
    cloud['xyz'] = points
    c = rgb.astype(np.uint32)
    cloud['rgb'] = c[..., 0] << 16 | c[..., 1] << 8 | c[..., 2]
    msg = PointCloud2(header=header(stamp_ns, frame_id), height=h, width=w, fields=_FIELDS,
                      is_bigendian=False, point_step=16, row_step=16 * w, is_dense=False)
    msg.data = _bytes(cloud)
    return msg


def cloud_to_points(msg: PointCloud2) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """(H, W, 3) points and (H, W, 3) colours of an organised cloud with float fields x y z rgb."""
    offsets = {f.name: f.offset for f in msg.fields if f.datatype in
               (PointField.FLOAT32, PointField.UINT32)}
    if not {'x', 'y', 'z', 'rgb'} <= offsets.keys() or (
            len(msg.data) < msg.row_step * msg.height or msg.row_step < msg.point_step * msg.width):
        raise InputError(
            'point cloud', expected='32 bit fields x y z rgb and height * row_step bytes',
            got=f'fields {[f.name for f in msg.fields]}, {len(msg.data)} bytes')
    order = '>' if msg.is_bigendian else '<'

    def column(name: str, kind: str) -> NDArray:
        return np.ndarray((msg.height, msg.width), order + kind, memoryview(msg.data),
                          offset=offsets[name], strides=(msg.row_step, msg.point_step))

    points = np.stack([column(name, 'f4') for name in 'xyz'], axis=-1).astype(np.float32)
    packed = column('rgb', 'u4')
    rgb = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=-1)
    return points, rgb.astype(np.uint8)


# --- futures --------------------------------------------------------------------------------------

def future_to_msg(future: Future, future_id: str) -> GeneratedFuture:
    """GeneratedFuture message; the gripper mask is rounded to 1/255."""
    V, T, H, W, _ = future.rgb.shape
    frames = future.frame_ids
    mask = np.rint(np.clip(future.gripper, 0.0, 1.0) * 255.0).astype(np.uint8)
    msg = GeneratedFuture(
        header=header(future.stamp, future.frame_id), future_id=future_id,
        generator=future.generator, cameras=list(future.cameras), frames=T, dt=float(future.dt),
        seed=int(future.seed), steps=int(future.steps), clamp_ratio=float(future.clamp_ratio),
        timing_names=list(future.timings), timing_seconds=[float(s) for s in
                                                           future.timings.values()])
    if future.opening is not None:
        msg.opening = future.opening.tolist()
    for v in range(V):
        msg.camera_info.append(K_to_camera_info(future.K[v], H, W, future.stamp, frames[v]))
        for t in range(T):
            rgb = future.rgb[v, t]
            points = np.where(future.valid[v, t, ..., None], future.points[v, t], np.float32('nan'))
            msg.images.append(rgb_to_image(rgb, future.stamp, frames[v]))
            msg.points.append(points_to_cloud(points, rgb, future.stamp, future.frame_id))
            msg.gripper_masks.append(mono_to_image(mask[v, t], future.stamp, frames[v]))
    return msg


def future_from_msg(msg: GeneratedFuture) -> Future:
    """Future of a GeneratedFuture message; a point is valid when it is finite."""
    V, T = len(msg.cameras), msg.frames
    for name, count in (('camera_info', V), ('images', V * T), ('points', V * T),
                        ('gripper_masks', V * T)):
        if len(getattr(msg, name)) != count or count == 0:
            raise InputError(f'{name} of future {msg.future_id}', expected=f'{count} > 0 messages',
                             got=str(len(getattr(msg, name))))
    rgb = np.stack([image_to_rgb(image, 'of future') for image in msg.images])
    h, w = rgb.shape[1:3]
    points = np.stack([cloud_to_points(cloud)[0] for cloud in msg.points])
    gripper = np.stack([image_to_mono(image, 'of future') for image in msg.gripper_masks])
    points = points.reshape(V, T, h, w, 3)
    opening = np.asarray(msg.opening, np.float32) if len(msg.opening) else None
    return Future(
        rgb=rgb.reshape(V, T, h, w, 3), points=points, valid=np.isfinite(points).all(-1),
        gripper=gripper.reshape(V, T, h, w).astype(np.float32) / np.float32(255.0), dt=msg.dt,
        K=np.stack([camera_info_to_K(info, h, w, 'of future') for info in msg.camera_info]),
        cameras=tuple(msg.cameras), stamp=stamp_to_ns(msg.header.stamp), generator=msg.generator,
        frame_id=msg.header.frame_id,
        frame_ids=tuple(info.header.frame_id for info in msg.camera_info), seed=msg.seed,
        steps=msg.steps, opening=opening, clamp_ratio=msg.clamp_ratio,
        timings=dict(zip(msg.timing_names, msg.timing_seconds, strict=True)))


# --- trajectories and plans -----------------------------------------------------------------------

def gripper_trajectory_to_msg(trajectory: GripperTrajectory,
                              future_id: str = '') -> GripperTrajectoryMsg:
    """GripperTrajectory message."""
    return GripperTrajectoryMsg(
        header=header(trajectory.stamp, trajectory.frame_id), future_id=future_id,
        poses=[matrix_to_pose(T) for T in trajectory.poses],
        opening=trajectory.opening.tolist(), confidence=trajectory.confidence.tolist(),
        times=trajectory.times.tolist())


def gripper_trajectory_from_msg(msg: GripperTrajectoryMsg) -> GripperTrajectory:
    """GripperTrajectory of its message."""
    if not msg.poses:
        raise InputError('gripper trajectory', expected='at least one pose', got='none')
    return GripperTrajectory(
        poses=np.stack([pose_to_matrix(p) for p in msg.poses]), opening=np.array(msg.opening),
        confidence=np.array(msg.confidence), times=np.array(msg.times),
        frame_id=msg.header.frame_id, stamp=stamp_to_ns(msg.header.stamp))


def joint_trajectory_to_msg(trajectory: JointTrajectory) -> JointTrajectoryMsg:
    """JointTrajectory message; its zero header stamp means 'start when received'."""
    points = [JointTrajectoryPoint(positions=q.tolist(), velocities=qd.tolist(),
                                   accelerations=qdd.tolist(),
                                   time_from_start=seconds_to_duration(float(t)))
              for t, q, qd, qdd in zip(trajectory.times, trajectory.positions,
                                       trajectory.velocities, trajectory.accelerations,
                                       strict=True)]
    return JointTrajectoryMsg(joint_names=list(trajectory.joint_names), points=points)


def joint_trajectory_from_msg(msg: JointTrajectoryMsg) -> JointTrajectory:
    """JointTrajectory of a message that gives positions, velocities and accelerations."""
    joints = len(msg.joint_names)
    for i, point in enumerate(msg.points):
        for name in ('positions', 'velocities', 'accelerations'):
            if len(getattr(point, name)) != joints:
                raise InputError(f'{name} of trajectory point {i}', expected=f'{joints} values',
                                 got=str(len(getattr(point, name))))

    def stacked(name: str) -> Array:
        return np.array([getattr(p, name) for p in msg.points], float).reshape(-1, joints)

    return JointTrajectory(
        joint_names=tuple(msg.joint_names),
        times=np.array([duration_to_seconds(p.time_from_start) for p in msg.points]),
        positions=stacked('positions'), velocities=stacked('velocities'),
        accelerations=stacked('accelerations'))


def motion_plan_to_msg(plan: MotionPlan, frame_id: str, *, ros_now_ns: int,
                       steady_now_ns: int) -> MotionPlanMsg:
    """MotionPlan message; `frame_id` is the base frame.

    The two clocks' present readings turn the expiry, which is on the steady clock, into ROS time.
    """
    segments = [PlanSegment(trajectory=joint_trajectory_to_msg(s))
                if isinstance(s, JointTrajectory)
                else PlanSegment(gripper_opening=s.opening, gripper_max_effort=s.max_effort)
                for s in plan.segments]
    return MotionPlanMsg(
        header=header(plan.stamp, frame_id), plan_id=plan.plan_id, segments=segments,
        check_names=list(plan.checks), check_values=list(plan.checks.values()),
        expires=ns_to_stamp(ros_now_ns + plan.expiry - steady_now_ns), frames=plan.frames,
        tcp_path=[matrix_to_pose(T) for T in plan.tcp_path])


def motion_plan_from_msg(msg: MotionPlanMsg, *, ros_now_ns: int, steady_now_ns: int) -> MotionPlan:
    """MotionPlan of its message; the inverse of `motion_plan_to_msg`."""
    segments = tuple(joint_trajectory_from_msg(s.trajectory) if s.trajectory.points
                     else GripperCommand(s.gripper_opening, s.gripper_max_effort)
                     for s in msg.segments)
    path = [pose_to_matrix(p) for p in msg.tcp_path]
    return MotionPlan(
        plan_id=msg.plan_id, segments=segments,
        checks=dict(zip(msg.check_names, msg.check_values, strict=True)),
        stamp=stamp_to_ns(msg.header.stamp),
        expiry=stamp_to_ns(msg.expires) - ros_now_ns + steady_now_ns, frames=msg.frames,
        tcp_path=np.stack(path) if path else np.empty((0, 4, 4)))


def joint_state_to_dict(msg: JointState) -> dict[str, tuple[float, float]]:
    """Joint name -> (position, velocity); the velocity is NaN where the message has none.

    A message without positions tells of other things: nothing. Raises InputError when it has some
    positions but not one for each name.
    """
    if not msg.position:
        return {}
    velocity = list(msg.velocity) if len(msg.velocity) == len(msg.name) else (
        [float('nan')] * len(msg.name))
    if len(msg.position) != len(msg.name):
        raise InputError('joint state', expected=f'{len(msg.name)} positions',
                         got=str(len(msg.position)))
    return dict(zip(msg.name, zip(msg.position, velocity, strict=True), strict=True))
