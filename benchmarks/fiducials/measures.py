"""The measures of the proof: each makes its pictures, asks every method and yields rows."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
import os
import time
import zlib

import cv2
import numpy as np

from benchmarks.fiducials import scoring
from benchmarks.fiducials.conditions import (
    by_name, CHEAP, CLEAN, Condition, CONDITIONS, ORDINARY, PHONE)
from benchmarks.fiducials.methods import (
    APRILTAG, APRILTAG_DICTIONARY, Estimate, Following, Method, Ours, OURS, PlainOpenCv, SUBPIX)
from benchmarks.fiducials.renderer import View
from benchmarks.fiducials.report import Row, Target, Values
from benchmarks.fiducials.scenes import (
    background, DICTIONARY, four_marker_board, LENGTH, moving, random_board, random_markers, Scene)
from benchmarks.fiducials.scoring import Sample, sample_of
from camws_bridge.demo.scene import demo_camera_model
from camws_bridge.models import Array, CameraModel, Detection, FloatArray
from camws_bridge.vision.detection import PyramidDetector
from camws_bridge.vision.geometry import difference

Study = Mapping[str, Sequence[Sample]]
_SIZES = ((640, 480), (1280, 720))


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

    def view(self, size: tuple[int, int] = _SIZES[0]) -> View:
        """Return the camera of a size; its rays are computed once."""
        return self._views.setdefault(size, View(demo_camera_model(*size)))

    def singles(self, condition: Condition, size: tuple[int, int] = _SIZES[0]) -> Study:
        """Return the study of single markers (20 to 200 px, up to 75 degrees)."""
        def make() -> Study:
            share = 1 if size == _SIZES[0] else 2
            pictures = _singles(self.view(size), f'{condition.name} {size}', condition,
                                self.plan.pictures // share)
            return observe(self.make_methods(), pictures)
        return self._once((condition.name, size), make)

    def hard(self) -> Study:
        """Return the study of small markers that are nearly frontal."""
        def make() -> Study:
            pictures = _singles(self.view(), 'hard', ORDINARY, self.plan.hard, (22.0, 80.0),
                                (0.0, 35.0), 12)
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


def corners(bench: Bench) -> Iterator[Row]:
    """Yield the error of corners in every condition."""
    targets = {'clean': Target('<=', (0.03, 0.08)), 'ordinary': Target('<=', (0.05, 0.15))}
    for condition in CONDITIONS:
        sizes = _SIZES if condition.name in targets else _SIZES[:1]
        for size in sizes:
            study = bench.singles(condition, size)
            yield _row('corners, px, median / p95', f'{condition.name}, {_name(size)}', study,
                       scoring.corner_error, targets.get(condition.name), (3, 2))


def same_tags(bench: Bench) -> Iterator[Row]:
    """Yield the error of corners of tag36h11, which AprilTag and ours see in one picture."""
    methods: list[Method] = [Ours(APRILTAG_DICTIONARY), PlainOpenCv(SUBPIX, APRILTAG_DICTIONARY)]
    methods += [method for method in bench.make_methods() if method.name == APRILTAG]
    pictures = _singles(bench.view(), f'ordinary {_SIZES[0]}', ORDINARY, bench.plan.pictures)
    study = observe(methods, pictures)
    yield _row('corners, px, median / p95', 'ordinary, all on tag36h11', study,
               scoring.corner_error, None, (3, 2))


def recall(bench: Bench) -> Iterator[Row]:
    """Yield how many markers are found in every condition, small ones included."""
    for condition in CONDITIONS:
        study = bench.singles(condition)
        yield _row('recall', condition.name, study, lambda samples: (scoring.recall(samples),),
                   Target('>=', method='NONE'))
    large = {name: [sample for sample in samples if sample.shortest >= 20]
             for name, samples in bench.singles(CLEAN).items()}
    yield _row('recall', 'clean, edges >= 20 px', large,
               lambda samples: (scoring.recall(samples),), Target('>=', (0.995,)))


def poses(bench: Bench) -> Iterator[Row]:
    """Yield the errors of single markers' poses, flips, and whether ellipsoids hold."""
    for condition in (CLEAN, ORDINARY):
        yield _row('single marker, % / deg, median', condition.name, bench.singles(condition),
                   scoring.pose_error,
                   Target('<=', (0.04, 0.12)) if condition is ORDINARY else None)
    yield _row('flips, % / of them silent', 'hard: 22-80 px, up to 35 deg', bench.hard(),
               scoring.flips, Target('<=', (0.5, 0.5)), (2,))
    holds = Target('in', (92.0, 98.0))
    cases = (('ordinary', bench.singles(ORDINARY), holds), ('hard', bench.hard(), holds),
             ('noise', bench.singles(by_name('noise')), None),
             ('blur', bench.singles(by_name('blur')), None))
    for name, study, target in cases:
        yield _row('inside 95 % ellipsoid, pose / place', name, {OURS: study[OURS]},
                   scoring.inside_ellipsoid, target, (1,))


def gamma(bench: Bench) -> Iterator[Row]:
    """Yield how far edges are off in a picture with gamma 2.2, before and after learning."""
    condition = by_name('gamma')
    methods: list[Method] = [Ours(learn=False), PlainOpenCv(SUBPIX)]
    methods += [method for method in bench.make_methods() if method.name == APRILTAG]
    for name, target in (('before learning', None),
                         ('after learning', Target('in', (-0.02, 0.02)))):
        if target:
            methods = [Ours()]
            # Another view of the same camera, for it to learn from.
            observe(methods, _singles(bench.view(), 'learning', condition, 15))
        study = observe(methods, _singles(bench.view(), f'gamma {_SIZES[0]}', condition,
                                          bench.plan.pictures // 2))
        yield _row('edge shift at gamma 2.2, px', name, study,
                   lambda samples: (scoring.edge_bias(samples),), target)


def board(bench: Bench) -> Iterator[Row]:
    """Yield the errors of a board of four markers, in mm and degrees, and its ellipsoids."""
    layout = four_marker_board()
    camera = bench.view().camera
    for distance, target in ((1.0, Target('<=', (0.05, 0.01))), (0.6, None)):
        methods = bench.make_methods()
        solved: dict[str, list[tuple[FloatArray, Estimate]]] = {
            method.name: [] for method in methods}
        for index in range(bench.plan.boards):
            seed = _seed(f'board {distance}', index)
            made = random_board(bench.view(), np.random.default_rng(seed), layout, distance)
            for method in methods:
                image = made.scene.picture(ORDINARY, seed, method.dictionary)
                estimate = method.solve_board(camera, method.detect(image, camera), layout)
                if estimate is not None:
                    solved[method.name].append((made.camera_from_board, estimate))
        case, count = f'ordinary, {distance:g} m', len(solved[OURS])
        yield Row('board of 4, mm / deg, median', case,
                  {name: _median_errors(found) for name, found in solved.items() if found},
                  target, count)
        yield Row('inside 95 % ellipsoid, pose / place', f'board, {case}',
                  {OURS: scoring.poses_inside(solved[OURS])}, Target('in', (92.0, 98.0)), count,
                  digits=(1,))


def _median_errors(solved: Sequence[tuple[FloatArray, Estimate]]) -> Values:
    """Return the medians of distance (mm) and angle (degrees) between true poses and found."""
    errors = [difference(true, estimate.pose) for true, estimate in solved]
    off, angle = np.median(np.array(errors), axis=0)
    return 1000 * float(off), float(np.degrees(angle))


def robustness(bench: Bench) -> Iterator[Row]:
    """Yield the error of corners where a method's assumptions are broken."""
    for name, pictures in _broken(bench):
        methods = [method for method in bench.make_methods() if method.name != APRILTAG]
        study = observe(methods, pictures)
        yield _row('corners, px, median / p95', name, study, scoring.corner_error,
                   Target('<=', method=SUBPIX), (3, 2))


def false_ids(bench: Bench) -> Iterator[Row]:
    """Yield how many markers are found in pictures without any."""
    view = bench.view()
    methods = [method for method in bench.make_methods() if method.name != APRILTAG]
    counts = dict.fromkeys((method.name for method in methods), 0)
    for index in range(bench.plan.empty):
        seed = _seed('empty', index)
        wall = background(np.random.default_rng(seed), view.camera.width, view.camera.height)
        image = Scene(view, wall, ()).picture(ORDINARY, seed)
        for method in methods:
            counts[method.name] += len(method.detect(image, view.camera))
    yield Row('false ids', f'{bench.plan.empty} empty pictures',
              {name: (float(count),) for name, count in counts.items()}, Target('<=', (0.0,)),
              bench.plan.empty, digits=(0,))


def motion(bench: Bench) -> Iterator[Row]:
    """Yield how many markers are found while they move, leap, leave and come back."""
    view = bench.view()
    plain = PlainOpenCv('NONE')
    for speed in (0.1, 0.3):
        hits: dict[str, list[bool]] = {OURS: [], 'searched': [], 'NONE': []}
        for index in range(bench.plan.sequences):
            rng = np.random.default_rng(_seed(f'motion {speed}', index))
            followed, searched = (Following(view.camera, LENGTH, track) for track in (True, False))
            for frame, scene in enumerate(moving(view, rng, bench.plan.frames, 4, 60, speed)):
                image = scene.picture(ORDINARY, frame)
                for name, seen in ((OURS, _seen(followed, image)),
                                   ('searched', _seen(searched, image)),
                                   ('NONE', plain.detect(image, view.camera))):
                    hits[name] += [sample_of(view.camera, truth, seen)[1] is not None
                                   for truth in scene.markers]
        values = {name: (float(np.mean(hits[name])),) for name in (OURS, 'NONE')}
        full = float(np.mean(hits['searched']))
        yield Row('recall while tracking', f'{speed:g} sides a picture, leaps, re-entries', values,
                  Target('>=', (full,)), len(hits[OURS]), f'{full:.4f} when all is searched', (4,))


def _seen(following: Following, image: Array) -> list[Detection]:
    return [Detection(marker.marker_id, marker.corners)
            for marker in following.analyse(image).seen]


def times(bench: Bench) -> Iterator[Row]:
    """Yield what a picture costs on one core, in ms; the least of several runs."""
    threads = cv2.getNumThreads()
    cores = os.sched_getaffinity(0)
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {min(cores)})
    try:
        for size, limit in zip(_SIZES, (2.0, 4.0)):
            yield from _times(bench, size, limit)
    finally:
        os.sched_setaffinity(0, cores)
        cv2.setNumThreads(threads)


def _times(bench: Bench, size: tuple[int, int], limit: float) -> Iterator[Row]:
    images = _sequence(bench, size)
    camera, repeats = bench.view(size).camera, bench.plan.repeats

    def least(make: Callable[[], Callable[[Array], object]]) -> list[float]:
        return _least_times(make, images, repeats)

    def plain(name: str) -> Callable[[Array], object]:
        method = PlainOpenCv(name)
        return lambda image: [method.solve_marker(camera, found, LENGTH)
                              for found in method.detect(image, camera)]
    values = {OURS: least(lambda: Following(camera, LENGTH).analyse)}
    values |= {name: least(partial(plain, name)) for name in ('NONE', SUBPIX, 'CONTOUR')}
    # Only the median is limited: the mean has every 15th picture's search in it.
    yield Row('4 markers followed and solved, ms, median / mean', _name(size),
              {name: (float(np.median(spent)), float(np.mean(spent)))
               for name, spent in values.items()},
              Target('<=', (limit,)), len(images), digits=(2,))
    searches = {OURS: least(lambda: PyramidDetector(DICTIONARY).detect),
                'NONE': least(lambda: partial(PlainOpenCv('NONE').detect, camera=camera))}
    medians = {name: (float(np.median(spent)),) for name, spent in searches.items()}
    ratio = medians[OURS][0] / medians['NONE'][0]
    yield Row('search of a full picture, ms, median', _name(size), medians,
              Target('<=', (0.6 * medians['NONE'][0],)), len(images),
              f"{ratio:.0%} of OpenCV's", (2,))


def _sequence(bench: Bench, size: tuple[int, int]) -> list[Array]:
    """Return pictures of four markers that move."""
    rng = np.random.default_rng(_seed(f'sequence {size}', 0))
    scenes = moving(bench.view(size), rng, bench.plan.frames, 4, 60 * size[0] / 640, jumps=False)
    return [scene.picture(ORDINARY, index) for index, scene in enumerate(scenes)]


def _least_times(make: Callable[[], Callable[[Array], object]], images: Sequence[Array],
                 repeats: int) -> list[float]:
    """Return the least time (ms) each picture took in several runs through all of them."""
    runs = []
    for _ in range(repeats):
        do, spent = make(), []
        for image in images:
            begun = time.perf_counter()
            do(image)
            spent.append(1000 * (time.perf_counter() - begun))
        runs.append(spent)
    return [min(spent) for spent in zip(*runs)]


def _broken(bench: Bench) -> Iterator[tuple[str, Iterator[Taken]]]:
    view, count = bench.view(), bench.plan.pictures // 2
    camera = view.camera
    wrong = replace(camera, k=camera.k * [[1.01, 1, 1.01], [1, 1.01, 1.01], [1, 1, 1]])
    yield 'focal length and centre 1 % wrong', _handed(_singles(
        view, 'wrong', ORDINARY, count), wrong)
    yield 'lens distortion not known', _handed(_singles(
        view, 'distortion', ORDINARY, count), replace(camera, d=np.zeros(0)))
    wide = replace(camera, d=np.array([-0.35, 0.12, 0.0, 0.0, 0.0]))
    yield 'strong distortion not known', _handed(_singles(
        View(wide), 'strong distortion', ORDINARY, count), replace(camera, d=np.zeros(0)))
    yield 'Bayer pattern, JPEG 40', _singles(view, 'cheap', CHEAP, count)
    yield 'sharpened, gamma 2.2, JPEG 90 (a phone)', _singles(view, 'phone', PHONE, count)
    yield 'rolling shutter, 2 % skew', _singles(
        View(camera, 0.02), 'rolling', ORDINARY, count)
    yield 'white border half a module', _singles(
        view, 'half border', ORDINARY, count, quiet_zone=0.5)
    yield 'on a dark wall, gray paper', _dark(_singles(
        view, 'dark wall', ORDINARY, count, paper=0.5))


def _handed(pictures: Iterator[Taken], camera: CameraModel) -> Iterator[Taken]:
    for taken in pictures:
        yield replace(taken, camera=camera)


def _dark(pictures: Iterator[Taken]) -> Iterator[Taken]:
    for taken in pictures:
        yield replace(taken, scene=replace(
            taken.scene, background=0.15 * taken.scene.background))


def _singles(view: View, name: str, condition: Condition, count: int,
             sizes: tuple[float, float] = (20.0, 200.0), tilts: tuple[float, float] = (0.0, 75.0),
             markers: int = 8, quiet_zone: float = 1.0, paper: float | None = None
             ) -> Iterator[Taken]:
    for index in range(count):
        seed = _seed(name, index)
        scene = random_markers(view, np.random.default_rng(seed), markers, sizes, tilts,
                               quiet_zone)
        if paper is not None:
            scene = replace(scene, paper=paper)
        yield Taken(scene, condition, seed, view.camera)


def _row(measure: str, case: str, study: Study, score: Callable[[Sequence[Sample]], Values],
         target: Target | None = None, digits: Sequence[int] = (3,)) -> Row:
    values = {name: score(samples) for name, samples in study.items()}
    return Row(measure, case, values, target, len(study[OURS]), digits=digits)


def _seed(name: str, index: int) -> int:
    return zlib.crc32(f'{name} {index}'.encode())


def _name(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'


MEASURES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    'corners': corners, 'same_tags': same_tags, 'recall': recall, 'poses': poses, 'gamma': gamma,
    'board': board, 'robustness': robustness, 'false_ids': false_ids,
    'motion': motion, 'times': times,
}
