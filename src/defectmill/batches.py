"""Batches: which of n things each one holds."""


def split_batches(n: int, size: int) -> list[range]:
    """Cut 0..n-1 into batches of `size`; the last is smaller, but never one thing alone.

    A last one alone joins the batch before: it would weigh as much in a step as a whole batch, and
    oneDNN (TensorFlow 2.21) has no fast kernel for some convolutions of one picture: one layer of
    a FlexUNet takes 130 s instead of 0.2 s.
    """
    ends = list(range(size, n, size))
    if ends and n - ends[-1] == 1 < size:
        ends.pop()
    return [range(first, end) for first, end in zip([0, *ends], [*ends, n], strict=True)]
