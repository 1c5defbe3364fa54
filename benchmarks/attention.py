"""Attention on short CPU rows, forward and backward: torch's fused kernel against two matrix products.

python benchmarks/attention.py
"""

from open_exaone.base.machine import prepare_process

prepare_process()

import torch
import torch.nn.functional as F

from open_exaone.model.attention import _attend_short
from side_by_side import compare

HEADS, KV_HEADS, HEAD_WIDTH = 3, 1, 64


def main() -> None:
    for rows, length in ((128, 48), (48, 128), (24, 256), (12, 512)):
        shapes = [(rows, length, heads, HEAD_WIDTH) for heads in (HEADS, KV_HEADS, KV_HEADS)]
        q, k, v = (torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for shape in shapes)

        def fused(q=q, k=k, v=v) -> float:
            heads_first = (tensor.transpose(1, 2) for tensor in (q, k, v))
            F.scaled_dot_product_attention(*heads_first, is_causal=True, enable_gqa=True).sum().backward()
            return q.shape[0] * q.shape[1]

        def products(q=q, k=k, v=v) -> float:
            _attend_short(q, k.transpose(1, 2), v.transpose(1, 2), None).sum().backward()
            return q.shape[0] * q.shape[1]

        compare(f"{rows} rows x {length} tokens, bfloat16, tokens", {"fused": fused, "two products": products}, 9)


if __name__ == "__main__":
    main()
