"""What is measured: the pictures of each study, and what every method makes of them."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
import zlib

import numpy as np

from benchmarks.fiducials.conditions import CHEAP, Condition, ORDINARY, PHONE
from benchmarks.fiducials.methods import Method
from benchmarks.fiducials.renderer import View
from benchmarks.fiducials.scenes import moving, random_markers, Scene
from benchmarks.fiducials.scoring import Sample, sample_of
from camws_bridge.demo.scene import demo_camera_model
from camws_bridge.models import Array, CameraModel

Study = Mapping[str, Sequence[Sample]]
SIZES = ((640, 480), (1280, 720))


@dataclass(frozen=True)
class Plan:
    """How much is measured: pictures of each kind, sequences, frames of each sequence."""

    pictures: int
    hard: int
    boards: int
    empty: int
    sequences: int
    frames: int
    repeats: int


FULL = Plan(pictures=80, hard=120, boards=60, empty=600, sequences=3, frames=120, repeats=3)
QUICK = Plan(pictures=10, hard=20, boards=12, empty=60, sequences=1, frames=60, repeats=2)


@dataclass(eq=False)
class Bench:
    """What the measures share: the plan, the methods, and studies that more than one looks at."""

    plan: Plan
    make_methods: Callable[[], list[Method]]
    _studies: dict[object, Study] = field(default_factory=dict)
    _views: dict[tuple[int, int], View] = field(default_factory=dict)

    def view(self, size: tuple[int, int] = SIZES[0]) -> View:
        """Return the camera of a size; its rays are computed once."""
        return self._views.setdefault(size, View(demo_camera_model(*size)))

    def singles(self, condition: Condition, size: tuple[int, int] = SIZES[0]) -> Study:
        """Return the study of single markers (20 to 200 px, up to 75 degrees)."""
        def make() -> Study:
            share = 1 if size == SIZES[0] else 2
            pictures = single_markers(self.view(size), f'{condition.name} {size}', condition,
                                      self.plan.pictures // share)
            return observe(self.make_methods(), pictures)
        return self._once((condition.name, size), make)

    def hard(self) -> Study:
        """Return the study of small markers that are nearly frontal."""
        def make() -> Study:
            pictures = single_markers(self.view(), 'hard', ORDINARY, self.plan.hard,
                                      (22.0, 80.0), (0.0, 35.0), 12)
            return observe(self.make_methods(), pictures)
        return self._once('hard', make)

    def _once(self, key: object, make: Callable[[], Study]) -> Study:
        if key not in self._studies:
            self._studies[key] = make()
        return self._studies[key]


@dataclass(frozen=True, eq=False)
class Taken:
    """A scene, how its picture is taken, and the calibration that is handed out with it."""

    scene: Scene
    condition: Condition
    seed: int
    camera: CameraModel

    def picture(self, dictionary: str) -> Array:
        """Return the picture (h x w, uint8), printed with the markers of a dictionary."""
        return self.scene.picture(self.condition, self.seed, dictionary)


def observe(methods: Sequence[Method], pictures: Iterable[Taken]) -> Study:
    """Show every picture to every method; return the samples by the method's name."""
    study: dict[str, list[Sample]] = {method.name: [] for method in methods}
    for taken in pictures:
        for dictionary, group in groupby(methods, lambda method: method.dictionary):
            image = taken.picture(dictionary)
            for method in group:
                study[method.name] += _look(method, image, taken)
    return study


def _look(method: Method, image: Array, taken: Taken) -> Iterator[Sample]:
    found = method.detect(image, taken.camera)
    for truth in taken.scene.markers:
        sample, best = sample_of(taken.camera, truth, found)
        if best is not None:
            sample = replace(sample, estimate=method.solve_marker(
                taken.camera, best, truth.length))
        yield sample


def broken_assumptions(bench: Bench) -> Iterator[tuple[str, Iterator[Taken]]]:
    """Yield pictures that are not as a method may take for granted, and how they are not."""
    view, count = bench.view(), bench.plan.pictures // 2
    camera = view.camera
    wrong = replace(camera, k=camera.k * [[1.01, 1, 1.01], [1, 1.01, 1.01], [1, 1, 1]])
    yield 'focal length and centre 1 % wrong', _handed(single_markers(
        view, 'wrong', ORDINARY, count), wrong)
    yield 'lens distortion not known', _handed(single_markers(
        view, 'distortion', ORDINARY, count), replace(camera, d=np.zeros(0)))
    wide = replace(camera, d=np.array([-0.35, 0.12, 0.0, 0.0, 0.0]))
    yield 'strong distortion not known', _handed(single_markers(
        View(wide), 'strong distortion', ORDINARY, count), replace(camera, d=np.zeros(0)))
    yield 'Bayer pattern, JPEG 40', single_markers(view, 'cheap', CHEAP, count)
    yield 'sharpened, gamma 2.2, JPEG 90 (a phone)', single_markers(view, 'phone', PHONE, count)
    yield 'rolling shutter, 2 % skew', single_markers(
        View(camera, 0.02), 'rolling', ORDINARY, count)
    yield 'white border half a module', single_markers(
        view, 'half border', ORDINARY, count, quiet_zone=0.5)
    yield 'on a dark wall, gray paper', _dark(single_markers(
        view, 'dark wall', ORDINARY, count, paper=0.5))


def _handed(pictures: Iterator[Taken], camera: CameraModel) -> Iterator[Taken]:
    for taken in pictures:
        yield replace(taken, camera=camera)


def _dark(pictures: Iterator[Taken]) -> Iterator[Taken]:
    for taken in pictures:
        yield replace(taken, scene=replace(
            taken.scene, background=0.15 * taken.scene.background))


def single_markers(view: View, name: str, condition: Condition, count: int,
                   sizes: tuple[float, float] = (20.0, 200.0),
                   tilts: tuple[float, float] = (0.0, 75.0), markers: int = 8,
                   quiet_zone: float = 1.0, paper: float | None = None) -> Iterator[Taken]:
    """Yield pictures of up to ``markers`` markers each; ``name`` decides which."""
    for index in range(count):
        seed = seed_of(name, index)
        scene = random_markers(view, np.random.default_rng(seed), markers, sizes, tilts,
                               quiet_zone)
        if paper is not None:
            scene = replace(scene, paper=paper)
        yield Taken(scene, condition, seed, view.camera)


def followed_pictures(bench: Bench, size: tuple[int, int]) -> list[Array]:
    """Return pictures of four markers that move and are always seen."""
    rng = np.random.default_rng(seed_of(f'sequence {size}', 0))
    scenes = moving(bench.view(size), rng, bench.plan.frames, 4, 60 * size[0] / 640, jumps=False)
    return [scene.picture(ORDINARY, index) for index, scene in enumerate(scenes)]


def seed_of(name: str, index: int) -> int:
    """Return the seed of one of the pictures of a name."""
    return zlib.crc32(f'{name} {index}'.encode())
