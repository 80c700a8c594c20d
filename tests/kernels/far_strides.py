"""Run by `test_interpret`: kernels that take strides read views whose elements lie more than 2^31 elements apart.

A stride fits 32 bits and twice the stride does not, which is where an index of 32 bits would wrap around. The views lie
in memory that is reserved but, apart from their own elements, never touched.
"""

import numpy
import torch

from embodied_mem.kernels import bank_read, reset_scan, use_backend

GAP = 2**30 + 40


def far(x, axis):
    """The same numbers with entries of ``axis`` GAP elements apart."""
    base = torch.from_numpy(numpy.empty(GAP * (x.shape[axis] - 1) + x.numel(), x.numpy().dtype))
    strides = list(x.stride())
    strides[axis] = GAP
    view = base.as_strided(x.shape, strides)
    return view.copy_(x)


def compare(call, inputs, name, axis):
    with use_backend("reference"):
        wanted = call(**inputs)
    with use_backend("interpret"):
        found = call(**{**inputs, name: far(inputs[name], axis)})
    torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-3, msg=lambda text: f"{name} along {axis}: {text}")


def main():
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 3, 3, 4, generator=g).half() for _ in range(3))
    pe, ts = torch.randn(3, 3, 4, generator=g).half(), torch.randint(0, 3, (3, 3), generator=g, dtype=torch.int32)
    bank = {"q": q, "k_bank": k, "v_bank": v, "length": torch.tensor([3, 2, 3], dtype=torch.int32), "ts": ts, "pe": pe}
    bank["valid"] = torch.rand(3, 3, 3, generator=g) < 0.7
    bank["valid"][..., 0] = True
    for name in ("q", "k_bank", "v_bank"):
        for axis in range(3):
            compare(lambda **given: bank_read(**given).out, bank, name, axis)
    for name, axis in (("pe", 0), ("pe", 1), ("ts", 0), ("valid", 0), ("valid", 1)):
        compare(lambda **given: bank_read(**given).out, bank, name, axis)
    a, x, h0 = (torch.rand(*shape, generator=g).half() for shape in ((3, 3, 5), (3, 3, 5), (3, 5)))
    for axis in range(2):
        compare(reset_scan, {"a": a, "x": x, "reset": None, "h0": h0}, "a", axis)


if __name__ == "__main__":
    main()
