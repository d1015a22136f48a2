"""Expansion moves against enumeration of all labelings."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.proposals.alpha_expansion import _best_expansion, expand_labels, potts_energy

Problem = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]


def draw(seed: int, nodes: int, classes: int, tree: bool = False) -> Problem:
    """Return random costs, some of them infinite, edges and weights."""
    rng = np.random.default_rng(seed)
    unary = rng.uniform(0, 3, (nodes, classes))
    unary[rng.random((nodes, classes)) < 0.2] = np.inf
    unary[np.arange(nodes), rng.integers(classes, size=nodes)] = 1.5
    pairs = [(i, j) for j in range(nodes) for i in range(j) if tree or rng.random() < 0.5]
    edges = [(int(rng.integers(j)), j) for j in range(1, nodes)] if tree else pairs
    return unary, np.array(edges, dtype=np.int64).reshape(-1, 2), rng.uniform(0, 2, len(edges))


def energy(labels: tuple[int, ...], unary: NDArray[np.float64], edges: NDArray[np.int64], weights: object) -> float:
    """Return the energy by its definition."""
    total = sum(unary[node, label] for node, label in enumerate(labels))
    for (i, j), weight in zip(edges, np.asarray(weights), strict=True):
        total += weight if labels[i] != labels[j] else 0
    return float(total)


def lowest(problem: Problem) -> float:
    nodes, classes = problem[0].shape
    return min(energy(labels, *problem) for labels in product(range(classes), repeat=nodes))


def found(problem: Problem) -> tuple[int, ...]:
    return tuple(expand_labels(*problem).tolist())


@pytest.mark.parametrize("seed", range(20))
def test_energy_of_two_classes_is_the_minimum(seed: int) -> None:
    problem = draw(seed, nodes=7, classes=2)
    assert energy(found(problem), *problem) == pytest.approx(lowest(problem))


@pytest.mark.parametrize("seed", range(20))
def test_no_expansion_lowers_the_energy_of_several_classes(seed: int) -> None:
    problem = draw(seed, nodes=6, classes=4)
    labels = found(problem)
    least = energy(labels, *problem)
    for label, moved in product(range(4), product((False, True), repeat=6)):
        expanded = tuple(label if move else old for move, old in zip(moved, labels, strict=True))
        assert energy(expanded, *problem) >= least - 1e-9
    assert least <= 2 * lowest(problem) + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_expansion_of_any_labels_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    _, edges, weights = draw(seed, nodes=6, classes=4)
    unary, labels = rng.uniform(0, 1, (6, 4)), rng.integers(0, 4, 6)
    for label in range(4):
        expanded = np.where(_best_expansion(label, labels, unary, edges, weights), label, labels)
        energies = [
            energy(tuple(np.where(moved, label, labels).tolist()), unary, edges, weights)
            for moved in product((False, True), repeat=6)
        ]
        assert energy(tuple(expanded.tolist()), unary, edges, weights) == pytest.approx(min(energies))


def test_minimum_is_reached_on_nearly_all_trees() -> None:
    """Expansions may stop above the minimum of three classes, by up to a factor of 2, but seldom do."""
    problems = [draw(seed, nodes=6, classes=3, tree=True) for seed in range(40)]
    excess = [energy(found(problem), *problem) / lowest(problem) - 1 for problem in problems]
    assert np.mean(np.array(excess) < 1e-9) >= 0.9
    assert max(excess) < 0.1


@pytest.mark.parametrize("seed", range(5))
def test_forbidden_classes_are_not_chosen_however_strong_the_edges(seed: int) -> None:
    unary, edges, weights = draw(seed, nodes=8, classes=3)
    labels = expand_labels(unary, edges, 1e6 * weights)
    assert np.isfinite(unary[np.arange(8), labels]).all()


def test_energy_is_the_sum_of_its_terms() -> None:
    problem = draw(3, nodes=6, classes=3)
    labels = (0, 2, 1, 1, 0, 2)
    assert potts_energy(np.array(labels), *problem) == pytest.approx(energy(labels, *problem))


def test_nodes_without_edges_get_their_cheapest_class() -> None:
    unary = np.array([[2.0, 1.0, np.inf], [0.5, np.inf, 0.2]])
    assert found((unary, np.empty((0, 2), dtype=np.int64), np.empty(0))) == (1, 2)
