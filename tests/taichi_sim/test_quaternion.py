import mujoco
import numpy as np
import torch

from taichi_sim import quaternion


def test_rotations_are_mujocos_and_broadcast():
    generator = torch.Generator().manual_seed(0)
    axis, x = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    angle = 6 * torch.rand(5, generator=generator, dtype=torch.float64) - 3
    quat = quaternion.from_axis_angle(axis, angle)
    expected, turned = np.empty((5, 4)), np.empty((5, 5, 3))
    for i in range(5):
        mujoco.mju_axisAngle2Quat(expected[i], (axis[i] / axis[i].norm()).numpy(), angle[i].item())
        for j in range(5):
            mujoco.mju_rotVecQuat(turned[i, j], x[j].numpy(), expected[i])
    np.testing.assert_allclose(quat, expected, atol=1e-15)
    np.testing.assert_allclose(quaternion.rotate(quat[:, None], x), turned, atol=1e-14)
    np.testing.assert_allclose(quaternion.rotate(quat, x[0]), turned[:, 0], atol=1e-14)


def test_products_are_rotations_one_after_the_other():
    generator = torch.Generator().manual_seed(1)
    axis, x = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    a = quaternion.from_axis_angle(axis, torch.arange(4.0, dtype=torch.float64))
    product = quaternion.multiply(a[:, None], a)
    expected = quaternion.rotate(a[:, None], quaternion.rotate(a, x))
    np.testing.assert_allclose(quaternion.rotate(product, x), expected, atol=1e-14)
    np.testing.assert_allclose(quaternion.rotate(quaternion.conjugate(a), quaternion.rotate(a, x)), x, atol=1e-14)
