"""Options of proposals."""

from dataclasses import dataclass

from datamodules.io.errors import InputError
from datamodules.proposals.boxes import BoxLabels
from datamodules.proposals.generator import LabelGenerator, check_supervision


@dataclass(frozen=True)
class Proposals:
    """Dense maps that are computed from images and weak labels.

    Args:
        generator: Makes the label maps for training. ``None`` trains on the weak labels themselves, and on
            :class:`BoxLabels` of boxes.
        rounds: Number of rounds, each on new label maps. From the second round on, the generator gets the predictions
            of the network. The rounds share the steps of the run evenly, and the weights are kept between them.
        cache_dir: Folder of the label maps of the first round, shared by runs. Those of later rounds are in the folder
            of the run.
        objectness: Folder of objectness maps NAME.png, 0 to 255, for losses that read them. ``None`` computes them as
            frequency-tuned saliency.

    Raises:
        InputError: ``rounds`` is below 1, or above 1 without a generator.
    """

    generator: LabelGenerator | None = None
    rounds: int = 1
    cache_dir: str = "runs/proposals"
    objectness: str | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"proposals.rounds is {self.rounds}; use at least 1.")
        if self.rounds > 1 and self.generator is None:
            raise InputError(f"proposals.rounds is {self.rounds} without a generator; set data.proposals.generator.")

    def generator_for(self, supervision: str, stroke_width: int) -> LabelGenerator | None:
        """Return what makes label maps from the labels of a supervision, if anything does. Boxes need it.

        Args:
            supervision: That of the datamodule.
            stroke_width: Width of clicks and scribbles of the datamodule, pixels.

        Raises:
            InputError: The generator reads other labels.
        """
        generator = BoxLabels() if self.generator is None and supervision == "boxes" else self.generator
        if generator is None:
            return None
        check_supervision(generator, supervision)
        return generator.with_stroke_width(stroke_width)
