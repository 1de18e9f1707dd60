"""A small network for the tests."""


def small_stages() -> tuple[object, ...]:
    from shoe_classifier.ml.architecture import Stage

    return (Stage(3, 1, 1, 8, 1), Stage(3, 2, 4, 12, 1), Stage(3, 2, 4, 24, 2))
