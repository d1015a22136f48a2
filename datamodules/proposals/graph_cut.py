"""Minimization of Potts energies with several labels by alpha expansion, Boykov, Veksler and Zabih, PAMI 2001."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

LARGEST = 2**30  # sum of all capacities


def alpha_expansion(
    unary: NDArray[np.float64], edges: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return labels, (V,), of low energy sum_i unary[i, y_i] + sum_ij weights_ij [y_i != y_j].

    With two labels, it is the minimum. With more, it is at most twice the minimum if the unary terms are 0, and no
    label can be expanded to decrease it.

    Args:
        unary: (V, L).
        edges: (E, 2), pairs of nodes.
        weights: (E,), not negative.
    """
    labels = np.asarray(unary.argmin(1))
    best, improved = energy(labels, unary, edges, weights), True
    while improved:
        improved = False
        for alpha in range(unary.shape[1]):
            proposed = _expand(alpha, labels, unary, edges, weights)
            if (value := energy(proposed, unary, edges, weights)) < best - 1e-9 * abs(best):
                labels, best, improved = proposed, value, True
    return labels


def energy(
    labels: NDArray[np.int64], unary: NDArray[np.float64], edges: NDArray[np.int64], weights: NDArray[np.float64]
) -> float:
    """Return the energy of labels, (V,); see :func:`alpha_expansion`."""
    cut = labels[edges[:, 0]] != labels[edges[:, 1]]
    return float(unary[np.arange(len(labels)), labels].sum() + weights[cut].sum())


def _expand(
    alpha: int,
    labels: NDArray[np.int64],
    unary: NDArray[np.float64],
    edges: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return the labels of lowest energy in which any node may change to ``alpha``, by one minimum cut.

    x_i = 1 is the change. An edge costs A if neither changes, B if j does, C if i does, and 0 if both do: that is
    A + (C - A) x_i - C x_j + (B + C - A) (1 - x_i) x_j, where the last factor is not negative.
    """
    i, j = edges.T
    a, b, c = (weights * differs for differs in (labels[i] != labels[j], labels[i] != alpha, labels[j] != alpha))
    change = unary[:, alpha] - unary[np.arange(len(labels)), labels]
    np.add.at(change, i, c - a)
    np.add.at(change, j, -c)
    count = len(labels)
    source, sink = np.full(count, count), np.full(count, count + 1)
    nodes = np.arange(count)
    starts, ends = np.concatenate([source, nodes, i]), np.concatenate([nodes, sink, j])
    capacities = np.concatenate([np.maximum(change, 0), np.maximum(-change, 0), b + c - a])
    return np.where(_sink_side(starts, ends, capacities, count), alpha, labels)


def _sink_side(
    starts: NDArray[np.int64], ends: NDArray[np.int64], capacities: NDArray[np.float64], count: int
) -> NDArray[np.bool_]:
    """Return the nodes on the sink side of the minimum cut. The source is node ``count``, the sink the next one."""
    scale = LARGEST / max(float(capacities.sum()), 1e-9)  # SciPy's capacities are 32-bit integers
    units = np.floor(scale * capacities).astype(np.int32)
    graph = coo_matrix((units, (starts, ends)), shape=(count + 2, count + 2)).tocsr()
    residual = graph - maximum_flow(graph, count, count + 1).flow
    residual.eliminate_zeros()
    reached = breadth_first_order(residual, count, return_predecessors=False)
    side = np.ones(count + 2, dtype=bool)
    side[reached] = False
    return side[:count]
