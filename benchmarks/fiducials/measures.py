"""The measures of the proof: each makes its pictures, asks every method and yields rows."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
import os
import time

import cv2
import numpy as np

from benchmarks.fiducials import scoring
from benchmarks.fiducials.conditions import by_name, CLEAN, CONDITIONS, ORDINARY
from benchmarks.fiducials.methods import (
    APRILTAG, APRILTAG_DICTIONARY, Estimate, Following, Method, Ours, OURS, PlainOpenCv, SUBPIX)
from benchmarks.fiducials.report import Row, Target, Values
from benchmarks.fiducials.scenes import (
    background, DICTIONARY, four_marker_board, LENGTH, moving, random_board, Scene)
from benchmarks.fiducials.scoring import Sample, sample_of
from benchmarks.fiducials.studies import (
    Bench, broken_assumptions, followed_pictures, observe, seed_of, single_markers, SIZES, Study)
from camws_bridge.models import Array, Detection, FloatArray
from camws_bridge.vision.detection import PyramidDetector
from camws_bridge.vision.geometry import difference


def corners(bench: Bench) -> Iterator[Row]:
    """Yield the error of corners in every condition."""
    targets = {'clean': Target('<=', (0.03, 0.08)), 'ordinary': Target('<=', (0.05, 0.15))}
    for condition in CONDITIONS:
        sizes = SIZES if condition.name in targets else SIZES[:1]
        for size in sizes:
            study = bench.singles(condition, size)
            yield _row('corners, px, median / p95', f'{condition.name}, {_name(size)}', study,
                       scoring.corner_error, targets.get(condition.name), (3, 2))


def same_tags(bench: Bench) -> Iterator[Row]:
    """Yield the error of corners of tag36h11, which AprilTag and ours see in one picture."""
    methods: list[Method] = [Ours(APRILTAG_DICTIONARY), PlainOpenCv(SUBPIX, APRILTAG_DICTIONARY)]
    methods += [method for method in bench.make_methods() if method.name == APRILTAG]
    pictures = single_markers(bench.view(), f'ordinary {SIZES[0]}', ORDINARY, bench.plan.pictures)
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
            observe(methods, single_markers(bench.view(), 'learning', condition, 15))
        study = observe(methods, single_markers(bench.view(), f'gamma {SIZES[0]}', condition,
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
            seed = seed_of(f'board {distance}', index)
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
    for name, pictures in broken_assumptions(bench):
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
        seed = seed_of('empty', index)
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
            rng = np.random.default_rng(seed_of(f'motion {speed}', index))
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
        for size, limit in zip(SIZES, (2.0, 4.0)):
            yield from _times(bench, size, limit)
    finally:
        os.sched_setaffinity(0, cores)
        cv2.setNumThreads(threads)


def _times(bench: Bench, size: tuple[int, int], limit: float) -> Iterator[Row]:
    images = followed_pictures(bench, size)
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
              Target('<=', (round(0.6 * medians['NONE'][0], 2),)), len(images),
              f"{ratio:.0%} of OpenCV's", (2,))


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


def _row(measure: str, case: str, study: Study, score: Callable[[Sequence[Sample]], Values],
         target: Target | None = None, digits: Sequence[int] = (3,)) -> Row:
    values = {name: score(samples) for name, samples in study.items()}
    return Row(measure, case, values, target, len(study[OURS]), digits=digits)


def _name(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'


MEASURES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    'corners': corners, 'same_tags': same_tags, 'recall': recall, 'poses': poses, 'gamma': gamma,
    'board': board, 'robustness': robustness, 'false_ids': false_ids,
    'motion': motion, 'times': times,
}
