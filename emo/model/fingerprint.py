"""Which weights a model has, as one hash that neither the dtype nor the device it was loaded in changes.

At most 1,024 values of every parameter are read, so it takes no longer on a large model than its number of parameters.
"""

from __future__ import annotations

import hashlib
import json
import math

import torch

from emo.model.lm import LM

SAMPLED = 1024  # values of a parameter


def fingerprint(lm: LM) -> str:
    """Return the sha256 (64 hex digits) over names, shapes and strided values of all parameters, tied ones once.

    Values are rounded to bfloat16, so that a checkpoint loaded in float32 or bfloat16 has one fingerprint (float16
    rounds differently and may have another). The stride shares no divisor with the width of a matrix: else it would
    read the same few columns of every row. It is of the weights alone: what a configuration says beside them (a
    sliding window, a rotary base) is not in it.
    """
    known = hashlib.sha256()
    for name, weight in sorted(lm.model.named_parameters()):
        known.update(json.dumps([name, list(weight.shape)]).encode())
        stride, columns = max(1, -(-weight.numel() // SAMPLED)), weight.shape[-1] if weight.ndim else 1
        while math.gcd(stride, columns) > 1:
            stride += 1
        values = weight.detach().reshape(-1)[::stride].to(torch.bfloat16).cpu()
        known.update(values.contiguous().view(torch.int16).numpy().astype("<i2").tobytes())
    return known.hexdigest()
