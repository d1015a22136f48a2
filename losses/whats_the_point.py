"""The losses of Bearman et al., "What's the Point: Semantic Segmentation with Point Supervision", ECCV 2016."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from losses.errors import ArgumentError
from losses.first_call import FirstCall
from losses.global_batch import global_mean, sum_over_processes


class WhatsThePointLoss(nn.Module):
    """Image-level, point-level and objectness terms, each a mean over the images of all processes.

    The image-level term asks each class of the image to be certain somewhere, and each other class to be nowhere
    (Eq. 1). The point-level term is cross-entropy at the clicks (Eq. 2). The objectness term compares the probability
    of all objects together with an objectness map (Eq. 3). Without clicks, this is supervision by image tags.

    The tags are those of the whole image, as published for training on whole images. A crop may miss an object.

    Args:
        image_weight: Weight of the image-level term.
        point_weight: Weight of the point-level term.
        objectness_weight: Weight of the objectness term.
        objects: Classes of objects. ``None`` is all classes but 0, the background.
        rank_decay: Weight of a click relative to the click before it, of the same class and image. The published one is
            not known; 1 weighs all clicks equally, and 0.5 prefers objects that were clicked first.

    Raises:
        ArgumentError: A weight is negative, or ``rank_decay`` is not in (0, 1].
    """

    sample_inputs: ClassVar[tuple[str, ...]] = ("valid", "tags", "objectness", "ranks")
    """Fields of the batch that training passes after the target."""

    def __init__(
        self,
        image_weight: float = 1.0,
        point_weight: float = 1.0,
        objectness_weight: float = 1.0,
        objects: Sequence[int] | None = None,
        rank_decay: float = 1.0,
    ) -> None:
        super().__init__()
        if min(image_weight, point_weight, objectness_weight) < 0:
            weights = f"{image_weight}, {point_weight} and {objectness_weight}"
            raise ArgumentError(f"The weights are {weights}; they must not be negative.")
        if not 0 < rank_decay <= 1:
            raise ArgumentError(f"rank_decay is {rank_decay}; it must be in (0, 1].")
        self.weights = image_weight, point_weight, objectness_weight
        self.objects = objects
        self.rank_decay = rank_decay
        self.first_call = FirstCall()

    def count(self, logits: Tensor, *_: Tensor) -> Tensor:
        """Return the number of images, int64 (1,), the denominator of the mean."""
        return torch.full((1,), len(logits), device=logits.device)

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor,
        tags: Tensor,
        objectness: Tensor,
        ranks: Tensor,
        count: Tensor | None = None,
    ) -> Tensor:
        """Return the scalar loss, computed in float32 or wider.

        Args:
            logits: float (N, C, H, W).
            target: uint8 (N, H, W), class index or 255 = unlabeled.
            valid: bool (N, H, W), false in padding, which only the point-level term reads.
            tags: bool (N, C), classes of the image.
            objectness: P, float (N, H, W), in [0, 1].
            ranks: uint8 (N, H, W), order of the clicks from 0 on. Read at labeled pixels only.
            count: The sum of :meth:`count` over all processes. ``None`` computes it here.
        """
        self.first_call.check_logits(logits)
        log_probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1).flatten(2)
        valid = valid.flatten(1)
        terms = (
            image_level(log_probs, valid, tags),
            point_level(log_probs, target.flatten(1), ranks.flatten(1), self.rank_decay),
            objectness_level(log_probs, valid, objectness.flatten(1).to(log_probs.dtype), self._object_mask(logits)),
        )
        if count is None:
            count = sum_over_processes(self.count(logits))
        total = sum(weight * term.sum() for weight, term in zip(self.weights, terms, strict=True) if weight)
        return global_mean(torch.as_tensor(total, device=logits.device), count.sum())

    def _object_mask(self, logits: Tensor) -> Tensor:
        mask = torch.zeros(logits.shape[1], dtype=torch.bool)
        mask[list(range(1, len(mask)) if self.objects is None else self.objects)] = True
        return mask.to(logits.device)


def image_level(log_probs: Tensor, valid: Tensor, tags: Tensor) -> Tensor:
    """Return Eq. 1 per image, (N,): classes with and without a tag are averaged separately.

    An image without any tag is unlabeled: its term is 0, and no class counts as absent.

    Args:
        log_probs: float (N, C, P).
        valid: bool (N, P).
        tags: bool (N, C).
    """
    place = log_probs.detach().masked_fill(~valid.unsqueeze(1), -torch.inf).argmax(2)
    classes = torch.eye(log_probs.shape[1], dtype=torch.bool, device=log_probs.device)
    there = log_probs.gather(2, place.unsqueeze(1).expand(-1, len(classes), -1))  # (N, C, C), the last C for the place
    highest = there.diagonal(dim1=1, dim2=2)
    others = there.masked_fill(classes, -torch.inf).logsumexp(1)  # log(1 - p), exact where p rounds to 1
    present_term = torch.where(tags, highest, 0).sum(1) / tags.sum(1).clamp(min=1)
    absent_term = torch.where(tags, 0, others).sum(1) / (~tags).sum(1).clamp(min=1)
    return -torch.where(valid.any(1) & tags.any(1), present_term + absent_term, 0)


def point_level(log_probs: Tensor, target: Tensor, ranks: Tensor, decay: float) -> Tensor:
    """Return Eq. 2 without the image-level term, per image, (N,): weighted cross-entropy at the labels.

    Args:
        log_probs: float (N, C, P).
        target: uint8 (N, P), 255 = unlabeled.
        ranks: uint8 (N, P), order of the clicks, read at labels only.
        decay: alpha of a click relative to the click before it. The sum of alpha over the labels is 1.
    """
    labeled = target != 255
    first = torch.where(labeled, ranks, 255).amin(1, keepdim=True)  # the weight of late clicks alone would be 0
    alpha = torch.where(labeled, decay ** (ranks - first).to(log_probs.dtype), 0)
    alpha = alpha / torch.where(labeled.any(1), alpha.sum(1), 1).unsqueeze(1)
    index = torch.where(labeled, target, 0).long().unsqueeze(1)
    return -(alpha * log_probs.gather(1, index).squeeze(1)).sum(1)


def objectness_level(log_probs: Tensor, valid: Tensor, objectness: Tensor, objects: Tensor) -> Tensor:
    """Return Eq. 3 per image, (N,): binary cross-entropy of the probability of all objects, a mean over the pixels.

    Args:
        log_probs: float (N, C, P).
        valid: bool (N, P).
        objectness: float (N, P), in [0, 1].
        objects: bool (C,).
    """
    lowest = torch.finfo(log_probs.dtype).min
    inside = log_probs.masked_fill(~objects[None, :, None], lowest).logsumexp(1)
    outside = log_probs.masked_fill(objects[None, :, None], lowest).logsumexp(1)
    entropy = objectness * inside.clamp(min=-100) + (1 - objectness) * outside.clamp(min=-100)
    return -torch.where(valid, entropy, 0).sum(1) / valid.sum(1).clamp(min=1)
