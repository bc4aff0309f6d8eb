"""Pictures and films of every family, by MuJoCo's own renderer, with or without a screen."""

from __future__ import annotations

import atexit
import ctypes.util
import importlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from offlinemeta.envs.errors import ArgumentError, MissingExtraError, RenderError
from offlinemeta.envs.shapes import Array, UInt8

if TYPE_CHECKING:
    import mujoco

GL_COMMAND = "apt-get install -y libosmesa6"
"""The command that installs an OpenGL library on a machine without a screen."""

RENDER_MODES = ("rgb_array", "human")


@dataclass(frozen=True)
class Marker:
    """A shape that shows the task: a goal, a direction, a pace. It is only drawn, and has no part in the physics.

    Attributes:
        kind: a sphere, or an arrow that starts at ``position`` and points along ``direction``.
        position: position in the world [m]; with ``follow``, relative to the camera's target in x and y.
        size: radius of the sphere or length of the arrow [m].
        rgba: red, green, blue and opacity, each in [0, 1].
        direction: angle of an arrow in the plane [rad].
        follow: whether the shape moves with the camera's target.
    """

    kind: Literal["sphere", "arrow"]
    position: tuple[float, float, float]
    size: float
    rgba: tuple[float, float, float, float]
    direction: float = 0.0
    follow: bool = False


@dataclass(frozen=True)
class Camera:
    """A camera, which looks at a fixed point or follows a body.

    Attributes:
        distance: distance of the camera from its target [m].
        azimuth, elevation: angles of the camera, as MuJoCo defines them [degrees].
        lookat: the fixed point that is the target [m], or None to follow ``body``.
        body: name of the body to follow, or None.
        height: the target's height above ground [m]; None keeps the height of the body.
    """

    distance: float
    azimuth: float
    elevation: float
    lookat: tuple[float, float, float] | None = None
    body: str | None = None
    height: float | None = None


class View(NamedTuple):
    """A model, its state, and the camera."""

    model: mujoco.MjModel
    data: mujoco.MjData
    camera: Camera


class Renderer:
    """A renderer that draws views of one family as ``[height, width, 3]`` pictures, or in a window.

    Raises:
        RenderError: no OpenGL library is found; the message names the command that provides one.
    """

    def __init__(self, mode: str, width: int = 480, height: int = 480) -> None:
        self._mode, self._width, self._height = mode, width, height
        self._offscreen: mujoco.Renderer | None = None
        self._window: Any = None
        self._model: mujoco.MjModel | None = None
        self._shown_at = 0.0

    def render(self, view: View, markers: Iterable[Marker], pace: float) -> UInt8[Array, "H W 3"] | None:
        """Draw a view; mode ``human`` shows it in a window, ``pace`` [s] after the last one, and returns None."""
        target = _target(view)
        if self._mode == "human":
            self._show(view, target, markers, pace)
            return None
        return self._draw(view, target, markers)

    def _draw(self, view: View, target: Array, markers: Iterable[Marker]) -> UInt8[Array, "H W 3"]:
        import mujoco

        if self._offscreen is None or self._model is not view.model:
            self.close()
            self._offscreen, self._model = _open_offscreen(view.model, self._width, self._height), view.model
        self._offscreen.update_scene(view.data, _aim(view.camera, target))
        _add(self._offscreen.scene, markers, target)
        for costly in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):  # without a GPU
            self._offscreen.scene.flags[costly] = 0
        picture: Array = self._offscreen.render()
        return picture

    def _show(self, view: View, target: Array, markers: Iterable[Marker], pace: float) -> None:
        if self._window is None:
            self._window = _Window(view)
        self._window.draw(view, target, markers)
        time.sleep(max(0.0, self._shown_at + pace - time.monotonic()))
        self._shown_at = time.monotonic()

    def close(self) -> None:
        """Close the window and free the drawing surface."""
        if self._offscreen is not None:
            self._offscreen.close()
            self._offscreen = None
        if self._window is not None:
            self._window.close()
            self._window = None


class _Window:
    """MuJoCo's passive viewer of a copy of the state, so that it can show any simulator."""

    def __init__(self, view: View) -> None:
        if sys.platform == "linux" and not _has_screen():
            raise RenderError("render_mode='human' opens a window, and there is no screen here (DISPLAY is not set).")
        import mujoco
        import mujoco.viewer

        self._data = mujoco.MjData(view.model)
        self._kind = mujoco.mjtState.mjSTATE_INTEGRATION.value
        self._state = np.empty(mujoco.mj_stateSize(view.model, self._kind))
        others = set(threading.enumerate())
        self._viewer = mujoco.viewer.launch_passive(view.model, self._data, show_left_ui=False, show_right_ui=False)
        self._threads = set(threading.enumerate()) - others
        atexit.register(self.close)  # a viewer left behind crashes the interpreter's exit

    def draw(self, view: View, target: Array, markers: Iterable[Marker]) -> None:
        import mujoco

        with self._viewer.lock():
            mujoco.mj_getState(view.model, view.data, self._state, self._kind)
            mujoco.mj_setState(view.model, self._data, self._state, self._kind)
            mujoco.mj_forward(view.model, self._data)
            _aim(view.camera, target, self._viewer.cam)
            self._viewer.user_scn.ngeom = 0
            _add(self._viewer.user_scn, markers, target)
        self._viewer.sync()

    def close(self) -> None:
        atexit.unregister(self.close)
        self._viewer.close()
        for thread in self._threads:
            thread.join(timeout=5)


def write_film(path: str | Path, pictures: Iterable[UInt8[Array, "H W 3"]], fps: float) -> Path:
    """Write pictures as a film; the ending of the file's name decides the format.

    Args:
        path: the file, whose name ends in ``.mp4`` or ``.gif``.
        pictures: the pictures, ``[height, width, 3]`` each, all of one size.
        fps: pictures per second.

    Returns:
        The path of the film.

    Raises:
        MissingExtraError: imageio is not installed.
        ArgumentError: the name has another ending.
        FileError: the file cannot be written; nothing has been drawn.
    """
    from offlinemeta.files import check_replaceable  # which imports this package's errors

    path = Path(path)
    if path.suffix not in (".mp4", ".gif"):
        raise ArgumentError(f"A film is a .mp4 or a .gif, not {path.name!r}.")
    try:
        import imageio.v2 as imageio
    except ImportError as error:
        raise MissingExtraError("plots", "Writing a film") from error
    check_replaceable(path)
    if path.suffix == ".gif":
        writer = imageio.get_writer(path, duration=1000 / fps, loop=0)
    else:
        writer = imageio.get_writer(path, fps=fps, macro_block_size=16, ffmpeg_log_level="error")
    with writer:
        for picture in pictures:
            writer.append_data(picture)
    return path


def _open_offscreen(model: mujoco.MjModel, width: int, height: int) -> mujoco.Renderer:
    import mujoco

    surface: tuple[Any, str] | None = None
    if sys.platform == "linux" and not os.environ.get("MUJOCO_GL") and not _has_screen():
        # mujoco would ask for a window; a library that draws into memory can be chosen as late as here
        library = next((name for name in ("OSMesa", "EGL") if ctypes.util.find_library(name)), None)
        if library is None:
            raise RenderError(f"No OpenGL library for pictures without a screen. Install one with: {GL_COMMAND}")
        surface = _gl_context(), f"mujoco.{library.lower()}"
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
    model.vis.global_.offheight = max(model.vis.global_.offheight, height)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if surface is not None:
                surface[0].GLContext = importlib.import_module(surface[1]).GLContext
            return mujoco.Renderer(model, height=height, width=width)
        except Exception as error:  # each OpenGL library fails in a way of its own
            why = f"OpenGL does not work here ({type(error).__name__}: {error})"
            raise RenderError(f"{why}. Without a screen, install: {GL_COMMAND}") from error


def _gl_context() -> Any:
    """Return the module from which MuJoCo's renderer takes its surface; its place depends on MuJoCo's version.

    Raises:
        RenderError: this version of MuJoCo has the module in an unknown place.
    """
    import mujoco

    module = getattr(sys.modules[mujoco.Renderer.__module__], "gl_context", None)
    if not hasattr(module, "GLContext"):
        raise RenderError(
            f"MuJoCo {mujoco.__version__} draws in a way that offlinemeta does not know. Without a screen, set the "
            f"environment variable MUJOCO_GL to osmesa or egl before Python starts, or: pip install 'mujoco<3.18'"
        )
    return module


def _has_screen() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _target(view: View) -> Array:
    camera = view.camera
    if camera.body is None:
        return np.array(camera.lookat)
    target: Array = view.data.body(camera.body).xpos.copy()
    if camera.height is not None:
        target[2] = camera.height
    return target


def _aim(camera: Camera, target: Array, aimed: Any = None) -> Any:
    import mujoco

    aimed = mujoco.MjvCamera() if aimed is None else aimed
    aimed.type = mujoco.mjtCamera.mjCAMERA_FREE
    aimed.lookat[:] = target
    aimed.distance, aimed.azimuth, aimed.elevation = camera.distance, camera.azimuth, camera.elevation
    return aimed


def _add(scene: mujoco.MjvScene, markers: Iterable[Marker], target: Array) -> None:
    import mujoco

    for marker in markers:
        position = np.array(marker.position) + (np.array([target[0], target[1], 0.0]) if marker.follow else 0.0)
        geom = scene.geoms[scene.ngeom]
        if marker.kind == "sphere":
            kind, size, frame = mujoco.mjtGeom.mjGEOM_SPHERE, np.full(3, marker.size), np.eye(3)
        else:  # an arrow points along its own z axis
            kind, size = mujoco.mjtGeom.mjGEOM_ARROW, np.array([0.05, 0.05, marker.size])
            cos, sin = np.cos(marker.direction), np.sin(marker.direction)
            frame = np.array([[-sin, 0.0, cos], [cos, 0.0, sin], [0.0, 1.0, 0.0]])
        mujoco.mjv_initGeom(geom, kind, size, position, frame.flatten(), np.array(marker.rgba, dtype=np.float32))
        scene.ngeom += 1
