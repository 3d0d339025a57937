"""Where the demo camera's pictures come from: the rendered scene, a video file or a webcam."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import threading
from typing import Protocol

import cv2

from camws_bridge.demo.options import find_demo_board, OptionError, Options
from camws_bridge.demo.scene import Scene, Truth
from camws_bridge.demo.textures import PrintError
from camws_bridge.latest_slot import LatestSlot
from camws_bridge.models import Array, CameraModel
from camws_bridge.vision.board_files import BoardDefaults, read_board
from camws_bridge.vision.boards import BoardError

_ALLOWED = "'' (the rendered scene), the path of a video file or the index of a webcam"


class SourceEnded(RuntimeError):
    """A webcam that gives no more images."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture (h x w x 3, uint8, BGR); depth (uint16, mm) and truth of the rendered scene."""

    image: Array
    depth: Array | None = None
    truth: Truth | None = None


class Source(Protocol):
    """What the node publishes from."""

    camera: CameraModel | None

    def picture(self, t: float) -> Picture | None:
        """Return the picture at ``t`` seconds, None when there is no new one."""

    def close(self) -> None:
        """Let go of files, devices and threads."""


def open_source(options: Options) -> Source:
    """Return the source that the options ask for; raises OptionError."""
    if not options.source:
        return SceneSource(options)
    if options.source.isdecimal():
        return WebcamSource(int(options.source), options.width, options.height)
    return VideoSource(options.source)


class SceneSource:
    """The rendered scene."""

    def __init__(self, options: Options) -> None:
        """Read the board and draw what never changes; raises OptionError."""
        path = options.board_file or find_demo_board()
        try:
            board = read_board(path, BoardDefaults('DICT_5X5_100'))
            self._scene = Scene(board, options.width, options.height, options.noise, options.seed,
                                frame_id=options.frame_id)
        except (BoardError, PrintError) as error:
            raise OptionError('board_file', path, f'a flat board that can be drawn ({error})'
                              ) from error
        self.camera: CameraModel | None = self._scene.camera

    def picture(self, t: float) -> Picture:
        """Render the scene at ``t`` seconds."""
        image, depth = self._scene.render(t)
        return Picture(image, depth, self._scene.truth(t))

    def close(self) -> None:
        """Hold nothing, so let go of nothing."""


class VideoSource:
    """A video file, one of its images each time; after the last comes the first."""

    def __init__(self, path: str) -> None:
        """Open the file; raises OptionError when it is none or no video."""
        self.camera: CameraModel | None = None
        self._path = path
        # OpenCV's own complaints about a missing file fill a screen.
        self._capture = cv2.VideoCapture(path) if Path(path).is_file() else None
        if self._capture is None or self._read() is None:
            raise OptionError('source', path, _ALLOWED)
        self._rewind()

    def picture(self, t: float) -> Picture | None:
        """Return the next image, whatever ``t``."""
        image = self._read()
        if image is None:
            self._rewind()
            image = self._read()
        return None if image is None else Picture(image)

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()

    def _read(self) -> Array | None:
        ok, image = self._capture.read() if self._capture is not None else (False, None)
        return image if ok else None

    def _rewind(self) -> None:
        # Opened anew: seeking to the start fails with some containers.
        self.close()
        self._capture = cv2.VideoCapture(self._path)


class WebcamSource:
    """A webcam, read by a thread of its own so that only its newest image is ever published."""

    def __init__(self, index: int, width: int, height: int) -> None:
        """Open the device; raises OptionError."""
        self.camera: CameraModel | None = None
        device = Path(f'/dev/video{index}')
        self._capture = cv2.VideoCapture(index, cv2.CAP_V4L2) if device.exists() else None
        if self._capture is None or not self._capture.isOpened():
            raise OptionError('source', index, f'{_ALLOWED} (there is no {device})')
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        self._newest: LatestSlot[Array] = LatestSlot()
        self._stopping = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name='webcam', daemon=True)
        self._thread.start()

    def picture(self, t: float) -> Picture | None:
        """Return the newest image, None when it was returned before; raises SourceEnded."""
        image = self._newest.take()
        if image is None and self._ended:
            raise SourceEnded('the webcam gives no more images')
        return None if image is None else Picture(image)

    def close(self) -> None:
        """Stop reading; a device that hangs in a read is left behind (the thread is a daemon)."""
        self._stopping.set()
        self._thread.join(0.5)

    def _run(self) -> None:
        assert self._capture is not None
        while not self._stopping.is_set():
            ok, image = self._capture.read()
            if not ok:
                self._ended = True
                break
            self._newest.put(image)
        self._capture.release()
