import pytest
import torch

from bitleak.quantizers.network.rounding_relaxation import (
    RoundingRelaxation,
    RoundingSchedule,
    empty_like,
    in_rows,
)

SCHEDULE = RoundingSchedule(
    iterations=20, batch=1, learning_rate=0.3, decay=(0.5, 0.9), regularization=0.02
)


@pytest.mark.parametrize("length", [1, 7, 15, 16, 31, 33, 63, 64, 65, 97, 1000])
def test_a_row_is_learnt_as_a_vector_of_its_own_bit_for_bit(length):
    generator = torch.Generator().manual_seed(length)
    starts = [torch.rand(length, generator=generator) for _ in range(3)]
    slopes = torch.randn(20, 3, length, generator=generator)
    joint = RoundingRelaxation(in_rows(starts), SCHEDULE)
    alone = [RoundingRelaxation(start, SCHEDULE) for start in starts]
    for step in range(20):
        joint.step(empty_like(joint.up).copy_(slopes[step]), step)
        for number, relaxation in enumerate(alone):
            relaxation.step(slopes[step, number].clone(), step)
            assert torch.equal(joint.variable[number], relaxation.variable)
            assert torch.equal(joint.up[number], relaxation.up)


def test_buffers_keep_the_distance_of_rows():
    rows = in_rows([torch.ones(70), torch.zeros(70)])
    assert rows.stride() == empty_like(rows).stride() == (128, 1)
    relaxation = RoundingRelaxation(rows, SCHEDULE)
    for buffer in (relaxation.variable, relaxation.up, relaxation.slope, relaxation.spare):
        assert buffer.stride() == (128, 1)
    assert in_rows([torch.ones(70)]).is_contiguous()
