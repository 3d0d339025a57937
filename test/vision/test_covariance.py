from builders import poses
from hypothesis import given
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from camws_bridge.vision.covariance import (
    difference, of_inverse, of_product, position_ellipsoid)
from camws_bridge.vision.geometry import invert


def spread(seed):
    root = np.random.default_rng(seed).standard_normal((6, 6)) * 1e-4
    return root @ root.T


def moved(pose, step):
    """Return exp(w) R, t + v: what a covariance is of, written out."""
    result = pose.copy()
    result[:3, :3] = Rotation.from_rotvec(step[3:]).as_matrix() @ pose[:3, :3]
    result[:3, 3] += step[:3]
    return result


def numeric(function, *given):
    """Return the covariance of a function of poses by moving each of them a little."""
    middle, total, eps = function(*(pose for pose, _ in given)), np.zeros((6, 6)), 1e-6
    for index, (_, covariance) in enumerate(given):
        columns = []
        for axis in np.eye(6):
            changed = [moved(pose, eps * axis) if index == other else pose
                       for other, (pose, _) in enumerate(given)]
            columns.append(difference(middle, function(*changed)) / eps)
        jacobian = np.array(columns).T
        total += jacobian @ covariance @ jacobian.T
    return total


@given(poses())
def test_the_inverse(pose):
    covariance = spread(0)
    np.testing.assert_allclose(of_inverse(pose, covariance),
                               numeric(invert, (pose, covariance)), rtol=1e-3, atol=1e-12)
    back = of_inverse(invert(pose), of_inverse(pose, covariance))
    np.testing.assert_allclose(back, covariance, rtol=1e-6, atol=1e-16)


@given(poses(), poses())
def test_the_product(a, b):
    first, second = spread(1), spread(2)
    np.testing.assert_allclose(
        of_product(a, first, b, second),
        numeric(lambda x, y: x @ y, (a, first), (b, second)), rtol=1e-3, atol=1e-12)
    np.testing.assert_allclose(of_product(a, first, b, None) + of_product(a, None, b, second),
                               of_product(a, first, b, second), atol=1e-16)


@given(poses(), poses())
def test_the_difference_is_the_step(a, b):
    np.testing.assert_allclose(moved(a, difference(a, b)), b, atol=1e-9)


def test_the_ellipsoid_holds_95_percent():
    covariance = spread(3)
    axes, half = position_ellipsoid(covariance)
    assert np.linalg.det(axes) == pytest.approx(1.0)
    points = np.random.default_rng(0).multivariate_normal(np.zeros(6), covariance, 20000)[:, :3]
    inside = np.sum((points @ axes / half) ** 2, axis=1) < 1
    assert inside.mean() == pytest.approx(0.95, abs=0.01)
