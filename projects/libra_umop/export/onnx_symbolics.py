"""ONNX forms of what a balanced feature pyramid does to a map whose size is not known in advance.

PyTorch's exporter writes adaptive max pooling for constant sizes only, and nearest interpolation
with a formula that picks another pixel at one in thirty pairs of sizes. Here both are written as
gathers by indices that are computed from the sizes inside the graph, so that one file serves every
image size and picks the very pixels that PyTorch picks.

A value of the graph being built is called ``v_*``; ``g`` is the graph.
"""

import contextlib

import torch
from torch.onnx import register_custom_op_symbolic, symbolic_helper, unregister_custom_op_symbolic


@contextlib.contextmanager
def dynamic_resizing(opset: int):
    """Within this context ``torch.onnx.export`` writes pooling and interpolation as gathers."""
    symbolics = {
        "aten::adaptive_max_pool2d": _adaptive_max_pool2d,
        "aten::upsample_nearest2d": _upsample_nearest2d,
    }
    for name, function in symbolics.items():
        register_custom_op_symbolic(name, function, opset)
    try:
        yield
    finally:
        for name in symbolics:
            unregister_custom_op_symbolic(name, opset)


def _adaptive_max_pool2d(g, v_input, v_output_size):
    """Max over rows, then over columns, of windows [floor(i n / m), ceil((i + 1) n / m))."""
    v_sizes = _as_vector(g, v_output_size)
    v_output = v_input
    for position, axis in enumerate((2, 3)):
        v_output = _pool_axis(g, v_output, axis, _element(g, v_sizes, position))
    return v_output, None  # the indices of the maxima are not for inference


def _pool_axis(g, v_input, axis, v_out):
    v_in = _length(g, v_input, axis)
    v_i = _range(g, v_out)  # (m,)
    v_start = g.op("Div", g.op("Mul", v_i, v_in), v_out)
    v_next = g.op("Mul", g.op("Add", v_i, _constant(g, 1)), v_in)
    v_end = g.op("Div", g.op("Sub", g.op("Add", v_next, v_out), _constant(g, 1)), v_out)
    v_widest = g.op("ReduceMax", g.op("Sub", v_end, v_start), keepdims_i=0)
    v_offsets = _range(g, v_widest)  # (k,)
    v_index = g.op("Add", _unsqueeze(g, v_start, 1), _unsqueeze(g, v_offsets, 0))  # (m, k)
    # Narrower windows repeat their last element, which does not change a maximum.
    v_last = _unsqueeze(g, g.op("Sub", v_end, _constant(g, 1)), 1)
    v_windows = g.op("Gather", v_input, g.op("Min", v_index, v_last), axis_i=axis)
    return g.op("ReduceMax", v_windows, axes_i=[axis + 1], keepdims_i=0)


def _upsample_nearest2d(g, v_input, v_output_size, *v_scales):
    """Source index floor(i * (n / m)) in float32, as PyTorch computes it."""
    v_factors = v_scales[0] if len(v_scales) == 1 else None  # the "vec" overload of F.interpolate
    if symbolic_helper._is_none(v_output_size):
        factors = symbolic_helper._maybe_get_const(v_factors, "fs")
        if any(factor != int(factor) for factor in factors):
            raise NotImplementedError(f"scale factors {factors} are not whole numbers")
        v_sizes = None
    else:
        v_sizes = _as_vector(g, v_output_size)
    v_output = v_input
    for position, axis in enumerate((2, 3)):
        v_in = _length(g, v_output, axis)
        if v_sizes is None:
            v_out = g.op("Mul", v_in, _constant(g, int(factors[position])))
        else:
            v_out = _element(g, v_sizes, position)
        v_output = g.op("Gather", v_output, _nearest(g, v_in, v_out), axis_i=axis)
    return v_output


def _nearest(g, v_in, v_out):
    v_scale = g.op("Div", _to_float(g, v_in), _to_float(g, v_out))
    v_source = g.op("Floor", g.op("Mul", _to_float(g, _range(g, v_out)), v_scale))
    v_source = g.op("Cast", v_source, to_i=torch.onnx.TensorProtoDataType.INT64)
    return g.op("Min", v_source, g.op("Sub", v_in, _constant(g, 1)))


def _constant(g, value):
    return g.op("Constant", value_t=torch.tensor(value, dtype=torch.int64))


def _to_float(g, v_value):
    return g.op("Cast", v_value, to_i=torch.onnx.TensorProtoDataType.FLOAT)


def _range(g, v_stop):
    return g.op("Range", _constant(g, 0), v_stop, _constant(g, 1))


def _unsqueeze(g, v_value, axis):
    return g.op("Unsqueeze", v_value, g.op("Constant", value_t=torch.tensor([axis])))


def _length(g, v_input, axis):
    return g.op("Gather", g.op("Shape", v_input), _constant(g, axis), axis_i=0)


def _element(g, v_sizes, position):
    return g.op("Gather", v_sizes, _constant(g, position), axis_i=0)


def _as_vector(g, v_sizes):
    """An output size as one int64 vector: it is a list of graph values, or of constants."""
    if symbolic_helper._is_packed_list(v_sizes):
        shape = g.op("Constant", value_t=torch.tensor([1]))
        elements = symbolic_helper._unpack_list(v_sizes)
        return g.op("Concat", *[g.op("Reshape", v, shape) for v in elements], axis_i=0)
    return v_sizes
