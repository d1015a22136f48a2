"""Properties of the built-in dataset."""

from hashlib import sha256

import numpy as np
import pytest

from datamodules.annotations import Annotation, rasterize
from datamodules.proposals import BoxLabels
from datamodules.sample import IGNORE_INDEX
from datamodules.shapes.datamodule import ShapesDataModule, ShapesDataset
from datamodules.shapes.scenes import CLASSES, draw_scene


def test_scene_is_a_function_of_seed_and_index() -> None:
    first, again, other = (ShapesDataset(3, 64, "clicks", seed) for seed in (4, 4, 5))
    longer = ShapesDataset(5, 64, "full", 4)
    for index in range(3):
        np.testing.assert_array_equal(first.image(index), again.image(index))
        np.testing.assert_array_equal(first.image(index), longer.image(index))
        np.testing.assert_array_equal(first.dense_mask(index), longer.dense_mask(index))
        assert not np.array_equal(first.image(index), other.image(index))
    assert not np.array_equal(first.image(0), first.image(1))
    assert len({first.name(0), first.name(1), other.name(0)}) == len(first) == 3


def test_maps_hold_the_six_classes_and_one_class_per_instance() -> None:
    seen = set()
    for seed in range(12):
        image, labels, instances = draw_scene(64, np.random.default_rng(seed))
        assert (image.dtype, image.shape) == (np.uint8, (64, 64, 3))
        assert (labels.dtype, labels.shape) == (np.uint8, (64, 64))
        for instance in np.unique(instances):
            (label,) = np.unique(labels[instances == instance])
            assert (label == 0) == (instance == 0)
            seen.add(int(label))
    assert seen == set(range(6))


@pytest.mark.parametrize("supervision", ["clicks", "scribbles"])
def test_weak_labels_lie_on_their_own_class(supervision: str) -> None:
    dataset = ShapesDataset(12, 96, supervision, seed=0)
    for index in range(len(dataset)):
        labels, mask = dataset.weak_labels(index), dataset.dense_mask(index)
        assert isinstance(labels, list)
        assert all(isinstance(a, Annotation) and a.is_click == (supervision == "clicks") for a in labels)
        assert 0 in {a.label for a in labels}
        for annotation in labels:
            drawn = rasterize([annotation], (96, 96)) != IGNORE_INDEX
            assert drawn.any()
            assert (mask[drawn] == annotation.label).all()


def test_every_large_part_of_an_instance_is_clicked() -> None:
    """A large visible instance has at least one click, even if others cut it into parts."""
    for index in range(8):
        _, _, instances = draw_scene(96, np.random.default_rng([0, index]))
        clicks = ShapesDataset(index + 1, 96, "clicks", seed=0).weak_labels(index)
        assert isinstance(clicks, list)
        clicked = {int(instances[int(y), int(x)]) for x, y in (a.points[0] for a in clicks)}
        values, areas = np.unique(instances, return_counts=True)
        assert set(values[areas >= 200].tolist()) <= clicked


def test_full_labels_are_the_mask() -> None:
    dataset = ShapesDataset(2, 48, "full", seed=0)
    labels = dataset.weak_labels(1)
    assert isinstance(labels, np.ndarray)
    np.testing.assert_array_equal(labels, dataset.dense_mask(1))


def test_unknown_supervision_is_refused() -> None:
    with pytest.raises(ValueError, match="'polygons'; this dataset has tags, clicks, boxes, scribbles, full"):
        ShapesDataModule("polygons")


def test_training_and_validation_differ() -> None:
    data = ShapesDataModule(num_train=4, num_val=4, size=48)
    assert data.class_names == ["background", *CLASSES]
    train, val = data.train_split(), data.val_split()
    pictures = {split.image(index).tobytes() for split in (train, val) for index in range(4)}
    assert len(pictures) == 8
    assert not {train.name(index) for index in range(4)} & {val.name(index) for index in range(4)}


def test_color_says_nothing_about_the_class() -> None:
    """The mean color of each class is that of all objects, within four standard errors."""
    colors: dict[int, list[np.ndarray]] = {label: [] for label in range(6)}
    for seed in range(150):
        image, labels, instances = draw_scene(64, np.random.default_rng([7, seed]))
        for instance in np.unique(instances):
            inside = instances == instance
            colors[int(labels[inside][0])].append(image[inside].mean(0))
    everything = np.concatenate([np.array(found) for found in colors.values()])
    for found in colors.values():
        error = everything.std(0) / np.sqrt(len(found))
        assert (abs(np.mean(found, axis=0) - everything.mean(0)) < 4 * error).all()


def test_object_borders_are_color_edges() -> None:
    """Mean colors of any two objects of a scene differ by more than 20 gray levels."""
    for seed in range(20):
        image, _, instances = draw_scene(64, np.random.default_rng([8, seed]))
        values, areas = np.unique(instances, return_counts=True)
        means = np.array([image[instances == value].mean(0) for value in values[areas >= 30]])
        apart = np.linalg.norm(means[:, None] - means[None], axis=2)[np.triu_indices(len(means), 1)]
        assert apart.min() > 20


def test_images_are_the_same_on_every_machine() -> None:
    """Published results refer to these images: changing a pixel changes the benchmark."""
    dataset = ShapesDataset(2, 160, "clicks", seed=0)
    digest = sha256(
        b"".join(dataset.image(i).tobytes() + dataset.dense_mask(i).tobytes() for i in range(2))
    ).hexdigest()
    assert digest[:16] == "101cd146aa73e367"


def test_boxes_enclose_the_objects_and_tags_name_their_classes() -> None:
    for index in range(3):
        splits = [ShapesDataModule(kind, num_train=3).train_split() for kind in ("full", "boxes", "tags", "clicks")]
        mask, boxes, tags, clicks = (split.weak_labels(index) for split in splits)
        assert isinstance(mask, np.ndarray)
        assert not isinstance(boxes, np.ndarray)
        covered = BoxLabels()(splits[0].image(index), boxes, None, np.random.default_rng(0)) > 0
        assert (mask[~covered] == 0).all()
        assert not isinstance(tags, np.ndarray)
        assert not isinstance(clicks, np.ndarray)
        assert {tag.label for tag in tags} == {click.label for click in clicks}


def test_the_smallest_visible_object_has_a_box() -> None:
    """Without a box, the pixels of an object are labeled as background."""
    smallest = 160 * 160
    dataset = ShapesDataset(40, 160, "boxes", seed=0)
    for index in range(len(dataset)):
        image, _, instances = draw_scene(160, np.random.default_rng([0, index]))
        labels = dataset.weak_labels(index)
        assert isinstance(labels, list)
        covered = BoxLabels()(image, labels, None, np.random.default_rng(0)) > 0
        values, areas = np.unique(instances, return_counts=True)
        assert covered[instances > 0].all()
        assert len(labels) == len(values) - 1
        smallest = min(smallest, areas.min())
    assert smallest < 40
