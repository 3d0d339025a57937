from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from camws_bridge.demo.options import make_options, OptionError, SPECS
from camws_bridge.demo.sources import open_source, SceneSource, VideoSource

LEVELS = (40, 90, 140, 190, 240)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video of five gray images, each brighter than the one before."""
    path = tmp_path / 'video.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 30, (64, 48))
    for level in LEVELS:
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return path


def options(**changes: object):
    return make_options({**{name: spec.default for name, spec in SPECS.items()}, **changes})


def test_a_video_plays_and_starts_again(video: Path) -> None:
    source = open_source(options(source=str(video)))
    assert isinstance(source, VideoSource)
    assert source.camera is None
    pictures = [source.picture(0.0) for _ in range(12)]
    levels = [round(picture.image.mean() / 10) for picture in pictures if picture is not None]
    assert levels == [round(LEVELS[index % 5] / 10) for index in range(12)]
    source.close()


def test_the_scene_has_depth_and_truth() -> None:
    source = open_source(options(width=320, height=240))
    assert isinstance(source, SceneSource)
    picture = source.picture(0.5)
    assert picture.depth is not None
    assert picture.truth is not None
    assert sorted(picture.truth.camera_from_marker) == [40, 41, 42]
    source.close()


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    text = tmp_path / 'notes.txt'
    text.write_text('no video')
    for path in (text, tmp_path / 'missing.mp4'):
        with pytest.raises(OptionError, match='parameter source is .*allowed: '):
            open_source(options(source=str(path)))


def test_a_webcam_that_is_not_there_is_refused() -> None:
    with pytest.raises(OptionError, match='parameter source is 63; .*no /dev/video63'):
        open_source(options(source='63'))


def test_a_board_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match='parameter board_file is .*No such file'):
        open_source(options(board_file=str(tmp_path / 'none.yaml')))
