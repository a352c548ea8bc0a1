import pytest
import torch

from shiftkit.segmentation.training.losses import dice_bce, head_weights, supervised_loss


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(2, 2, 32, 32, 32, generator=generator) > 0.5).float()
    return torch.rand(2, 4, 32, 32, 32, generator=generator), target, torch.tensor([[True, True], [False, True]])


def test_the_loss_is_the_weighted_sum_over_heads() -> None:
    """Weights are 4/7, 2/7 and 1/7; equal heads cost what one costs; and one output costs what it always did."""
    torch.manual_seed(0)
    _, target, known = batch()
    heads = torch.randn(2, 3, 2, 32, 32, 32)
    expected = sum(weight * dice_bce(heads[:, k], target, known) for k, weight in enumerate((4 / 7, 2 / 7, 1 / 7)))
    torch.testing.assert_close(supervised_loss(heads, target, known), expected)
    single = dice_bce(heads[:, 0], target, known)
    assert torch.equal(supervised_loss(heads[:, 0], target, known), single)
    torch.testing.assert_close(supervised_loss(heads[:, :1].expand_as(heads), target, known), single)
    assert all(sum(head_weights(count)) == pytest.approx(1) for count in range(1, 6))


def test_missing_bundles_are_left_out_of_the_loss() -> None:
    """Whatever stands in the channel of a bundle that is not annotated, loss and gradient are the same."""
    torch.manual_seed(0)
    target = (torch.rand(1, 2, 6, 6, 6) > 0.5).float()
    known = torch.tensor([[True, False]])
    losses, gradients = [], []
    for value in (-5.0, 5.0):
        logits = torch.linspace(-1, 1, 432).reshape(1, 2, 6, 6, 6).clone()
        logits[:, 1] = value
        logits.requires_grad_(True)
        loss = dice_bce(logits, target, known)
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(logits.grad.clone())
    assert losses[0] == losses[1]
    assert torch.equal(gradients[0][:, 0], gradients[1][:, 0])
    assert not gradients[0][:, 1].any()


def test_loss_of_a_perfect_answer_is_zero() -> None:
    """Confident right logits cost nothing; confident wrong ones cost a lot."""
    target = torch.zeros(1, 1, 8, 8, 8)
    target[..., 2:6, 2:6, 2:6] = 1
    known = torch.tensor([[True]])
    assert dice_bce((target * 2 - 1) * 40, target, known) < 1e-3
    assert dice_bce((1 - target * 2) * 40, target, known) > 1


def test_the_loss_of_probabilities_is_that_of_their_logits_and_has_a_gradient_where_these_saturate() -> None:
    """Both give the same loss, without a second sigmoid; sure and wrong probabilities are still pulled."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, 6, generator=generator) * 3
    target = (torch.rand(2, 3, 4, 5, 6, generator=generator) > 0.7).float()
    known = torch.tensor([[True, True, False], [True, False, False]])
    wanted = dice_bce(logits, target, known)
    torch.testing.assert_close(dice_bce(logits.sigmoid(), target, known, probabilities=True), wanted)
    assert abs(dice_bce(logits.sigmoid(), target, known) - wanted) > 0.1, "two sigmoids are another loss"
    sure = torch.full((1, 1, 2, 2, 2), 1e-7, requires_grad=True)
    dice_bce(sure, torch.ones(1, 1, 2, 2, 2), torch.tensor([[True]]), probabilities=True).backward()
    assert (sure.grad < -1e4).all()
