import numpy as np
import pytest

from cellpheno.errors import InputError
from cellpheno.profiles.sphere import apply_sphering, fit_sphering


def drawn(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (5, 9)])
@pytest.mark.parametrize("regularization", [0.05, 0.5, 1.0])
def test_zca_equals_the_inverse_square_root_of_the_drawn_covariance(n, d, regularization):
    x, new = drawn(n, d), drawn(7, d, seed=1)
    covariance = np.cov(x.T)
    drawn_in = (1 - regularization) * covariance + regularization * np.trace(covariance) / d * np.eye(d)
    values, vectors = np.linalg.eigh(drawn_in)
    expected = (new - x.mean(axis=0)) @ (vectors / np.sqrt(values)) @ vectors.T
    found = apply_sphering(new, fit_sphering(x, regularization=regularization))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("rotate_back", [True, False])
def test_without_regularization_training_wells_become_uncorrelated_with_variance_1(rotate_back):
    x = drawn(50, 5)
    sphering = fit_sphering(x, regularization=0, rotate_back=rotate_back)
    np.testing.assert_allclose(np.cov(apply_sphering(x, sphering).T), np.eye(5), atol=1e-9)


def test_components_are_those_of_scikit_learn_up_to_sign():
    from sklearn.decomposition import PCA

    x, new = drawn(30, 4), drawn(6, 4, seed=2)
    expected = PCA(whiten=True, svd_solver="full").fit(x).transform(new)
    found = apply_sphering(new, fit_sphering(x, regularization=0, rotate_back=False))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-8)


def test_refusals():
    with pytest.raises(InputError, match="vary in 4 of 9 directions"):
        fit_sphering(drawn(5, 9), regularization=0)
    with pytest.raises(InputError, match="wanted 0 to 1"):
        fit_sphering(drawn(5, 3), regularization=2)
    flat = fit_sphering(np.ones((4, 3)))
    assert np.isfinite(apply_sphering(np.zeros((2, 3)), flat)).all()
