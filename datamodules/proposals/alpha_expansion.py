"""Minimization of a Potts energy with several classes: Boykov, Veksler and Zabih, PAMI 2001."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from datamodules.io.errors import InputError

Costs = NDArray[np.float64]
Indices = NDArray[np.int64]


@contextmanager
def importing_rivals() -> Iterator[None]:
    """Convert an :class:`ImportError` to an :class:`InputError`: the extra ``rivals`` is not installed."""
    try:
        yield
    except ImportError as error:
        message = f"Graph cuts on superpixels need scikit-image and PyMaxflow ({error}); install them"
        raise InputError(f"{message}: pip install gated-crf[rivals]") from error


def potts_energy(labels: Indices, unary: Costs, edges: Indices, weights: Costs) -> float:
    """Return the sum of the costs of the labels and the weights of the edges whose ends differ.

    Args:
        labels: (S,), class of each node.
        unary: (S, K), cost of each class.
        edges: (E, 2), nodes.
        weights: (E,), not negative.
    """
    differ = labels[edges[:, 0]] != labels[edges[:, 1]]
    return float(unary[np.arange(len(unary)), labels].sum() + weights[differ].sum())


def expand_labels(unary: Costs, edges: Indices, weights: Costs) -> Indices:
    """Return labels, (S,), whose energy no expansion of a single class lowers.

    An expansion changes any set of nodes to one class. The energy is within a factor of 2 of the minimum, and is the
    minimum if there are two classes.

    Args:
        unary: (S, K), cost of each class. An infinite cost forbids the class. Each node has a finite cost.
        edges: (E, 2), nodes.
        weights: (E,), not negative.
    """
    unary = _finite(unary, weights)
    labels: Indices = unary.argmin(1)
    energy = potts_energy(labels, unary, edges, weights)
    improved = True
    while improved:
        improved = False
        for label in range(unary.shape[1]):
            proposed = np.where(_best_expansion(label, labels, unary, edges, weights), label, labels)
            proposed_energy = potts_energy(proposed, unary, edges, weights)
            if proposed_energy < energy:
                labels, energy, improved = proposed, proposed_energy, True
    return labels


def _finite(unary: Costs, weights: Costs) -> Costs:
    """Return costs relative to the cheapest class of each node, with a finite cost for what is forbidden.

    The energy of the cheapest classes is then at most the sum of the weights, and expansions only lower it.
    """
    relative = unary - unary.min(1, keepdims=True)
    return np.asarray(np.minimum(relative, 1 + weights.sum()))


def _best_expansion(label: int, labels: Indices, unary: Costs, edges: Indices, weights: Costs) -> NDArray[np.bool_]:
    """Return which nodes change to ``label``, (S,), in the expansion with the lowest energy.

    It is a minimum cut. A node on the side of the sink changes. With x = 1 for the nodes that change, an edge costs
    a (1 - x_i) (1 - x_j) + b (1 - x_i) x_j + c x_i (1 - x_j) = a + (c - a) x_i - c x_j + (b + c - a) (1 - x_i) x_j.
    """
    with importing_rivals():
        import maxflow
    first, second = edges.T
    a = weights * (labels[first] != labels[second])
    b = weights * (labels[first] != label)
    c = weights * (labels[second] != label)
    nodes = np.arange(len(labels))
    change = unary[:, label] - unary[nodes, labels]
    change += np.bincount(first, c - a, len(labels)) - np.bincount(second, c, len(labels))
    graph = maxflow.GraphFloat(len(labels), len(edges))
    graph.add_grid_nodes(len(labels))
    graph.add_grid_tedges(nodes, np.maximum(change, 0), np.maximum(-change, 0))
    graph.add_edges(first, second, b + c - a, np.zeros(len(edges)))
    graph.maxflow()
    return np.asarray(graph.get_grid_segments(nodes), dtype=np.bool_)
