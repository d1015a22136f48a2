"""Boxes and tags from dense annotation."""

import numpy as np

from datamodules.annotations import Box
from datamodules.simulate_boxes import BoxSimulator, TagSimulator

# two parts of object 1, which object 2 separates; 0 is the background
INSTANCES = np.array(
    [
        [1, 1, 2, 2, 1],
        [1, 1, 2, 2, 1],
        [0, 0, 0, 0, 0],
        [0, 3, 0, 0, 0],
    ]
)
CLASSES = {0: 0, 1: 5, 2: 6, 3: 6}


def found(simulator: BoxSimulator) -> list[tuple[int, list[list[float]]]]:
    boxes = simulator(INSTANCES, CLASSES)
    assert all(isinstance(box, Box) for box in boxes)
    return [(box.label, box.points.tolist()) for box in boxes]


def test_an_instance_has_one_box_around_all_its_parts() -> None:
    assert found(BoxSimulator(2, instances=True)) == [(5, [[0, 0], [5, 2]]), (6, [[2, 0], [4, 2]])]


def test_components_of_a_label_map_have_a_box_each_if_they_are_large_enough() -> None:
    boxes = [(5, [[0, 0], [2, 2]]), (5, [[4, 0], [5, 2]]), (6, [[2, 0], [4, 2]])]
    assert found(BoxSimulator(2)) == boxes
    assert found(BoxSimulator()) == [*boxes, (6, [[1, 3], [2, 4]])]


def test_tags_are_all_classes_with_the_background() -> None:
    tags = TagSimulator()(INSTANCES, CLASSES)
    assert [(tag.label, tag.points.shape) for tag in tags] == [(0, (0, 2)), (5, (0, 2)), (6, (0, 2))]
