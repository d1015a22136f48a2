"""Classes of labels that cannot be meant, and classes that are doubtful, from counts of a whole split."""

from collections.abc import Iterator, Sequence

from datamodules.io.errors import InputError
from datamodules.label_counts import LabelCounts
from datamodules.sample import IGNORE_INDEX

SHOWN = 3  # names per sentence


def mask_problems(counts: LabelCounts, masks: str, class_names: Sequence[str]) -> Iterator[InputError]:
    """Yield an error if dense masks label nothing, or one class only and the rest as unlabeled.

    Args:
        counts: Counts of the masks.
        masks: What they are, for the message.
        class_names: C names.
    """
    if not counts.values:
        return
    if not counts.images:
        message = (
            f"All pixels of the {masks} are {IGNORE_INDEX}, unlabeled; draw the classes 0 to {len(class_names) - 1}."
        )
        yield InputError(message, "classes of masks", masks)
    elif len(counts.images) == 1 and any(IGNORE_INDEX in values for values in counts.values.values()):
        (label,) = counts.images
        others = [index for index in range(len(class_names)) if index != label]
        message = f"The {masks} have only class {label}, {class_names[label]!r}, and {IGNORE_INDEX}, which is unlabeled"
        remedy = f"if {IGNORE_INDEX} stands for {class_names[others[0]]!r}, write {others[0]} instead"
        yield InputError(f"{message}; {remedy}.", "classes of masks", masks)


def doubtful_masks(counts: LabelCounts, masks: str, class_names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence if all masks have one class, or if some masks seem to write 255 for a class.

    The arguments are those of :func:`mask_problems`.
    """
    if len(counts.images) == 1:
        (label,) = counts.images
        yield f"All labeled pixels of the {masks} are of class {label}, {class_names[label]!r}. Are the others missing?"
    partly = {name: values - {IGNORE_INDEX} for name, values in counts.values.items() if IGNORE_INDEX in values}
    suspects = [name for name, classes in partly.items() if classes == {0}]
    if suspects and len(counts.images) > 1 and all(classes <= {0} for classes in partly.values()):
        yield (
            f"{len(suspects)} of {len(counts.values)} {masks} have class 0 and {IGNORE_INDEX} only: {_first(suspects)}."
            f" {IGNORE_INDEX} is unlabeled; if it stands for a class there, write its index."
        )


def label_problems(counts: LabelCounts, supervision: str) -> Iterator[InputError]:
    """Yield an error if no training image has a label, or if no pixel of scribbles is unlabeled."""
    if not counts.images:
        message = f"No training image has {supervision}; label some, or choose another supervision."
        yield InputError(message, "no labels", supervision)
    elif supervision == "scribbles" and counts.values and not any(IGNORE_INDEX in v for v in counts.values.values()):
        remedy = f"write {IGNORE_INDEX} for pixels without a scribble, or choose the supervision full"
        yield InputError(f"Every pixel of all scribbles is labeled; {remedy}.", "classes of scribbles", supervision)


def doubtful_labels(counts: LabelCounts, supervision: str, class_names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence on classes without labels in any training image."""
    first = 1 if supervision == "boxes" else 0  # the background is outside the boxes
    unseen = [name for index, name in enumerate(class_names) if index >= first and not counts.images[index]]
    if len(unseen) == len(class_names) - 1 and supervision != "boxes":
        (label,) = counts.images
        yield (
            f"All {supervision} are of class {label}, {class_names[label]!r}; the network will predict it everywhere. "
            f"Label {', '.join(unseen)} too."
        )
    elif unseen:
        yield f"Classes without labels in any training image: {', '.join(unseen)}. They cannot be learned."


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
