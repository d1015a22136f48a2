import pytest

from experiments.train.parser import brief


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("radius is 0; it needs 1.", "radius is 0; it needs 1."),
        (
            "Does not validate\n  Errors:\n    - no root\n    - Expected a <class 'NoneType'>\n  Given value: {}",
            "no root",
        ),
        (
            "unrecognized arguments: --model.wieght=3",
            "unrecognized arguments: --model.wieght=3\n  Did you mean model.weight?",
        ),
        ("the following arguments are required: images, masks", "--images, --masks must be given."),
        (
            'Parser key "data":\n  Errors:\n    - --images, --masks must be given.',
            "--data.images, --data.masks must be given.",
        ),
        (
            "the following arguments are required: fit.data",
            "No dataset is given; pass -c datasets/NAME.yaml, or --data=CLASS.",
        ),
    ],
)
def test_messages_keep_the_reason_only(message: str, expected: str) -> None:
    assert brief(message, known=["model.weight", "trainer.max_steps"]) == expected
