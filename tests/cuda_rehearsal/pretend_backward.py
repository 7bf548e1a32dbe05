"""The backward pass without autograd's engine, which wants streams that only a driver has.

The nodes of the graph, which know the formulas, are autograd's own.
"""

import collections
from unittest import mock

import torch
from torch.autograd.function import BackwardCFunction

_HOOKS = collections.defaultdict(list)  # (node, index of its output) -> what listens


def register_hook(tensor, hook):
    """Stands in for :meth:`torch.Tensor.register_hook`."""
    hooks = _HOOKS[tensor.grad_fn, tensor.output_nr]
    hooks.append(hook)
    return mock.Mock(remove=lambda: hooks.remove(hook))


def backward(tensor):
    """Stands in for :meth:`torch.Tensor.backward`.

    Raises:
        RuntimeError: a node gives a gradient on another device than its input is on.
    """
    ready = {(tensor.grad_fn, tensor.output_nr): torch.ones_like(tensor)}
    with torch.no_grad():
        for node in _in_order(tensor.grad_fn):
            outputs = [(node, i) for i in range(len(node._input_metadata))]
            gradients = [_listen(key, ready.pop(key, None)) for key in outputs]
            if any(x is not None for x in gradients):
                _pass_on(node, gradients, ready)
    _HOOKS.clear()


def _listen(key, gradient):
    for hook in _HOOKS[key] if gradient is not None else ():
        result = hook(gradient)
        gradient = gradient if result is None else result
    return gradient


def _pass_on(node, gradients, ready):
    is_python = isinstance(node, BackwardCFunction)
    results = (node.apply if is_python else node)(*gradients)
    results = results if isinstance(results, (tuple, list)) else (results,)
    targets = node.next_functions
    if is_python:  # it gives one for each argument, but has targets for the tensors alone
        results = [x for x, needed in zip(results, node.needs_input_grad, strict=True) if needed]
        targets = [target for target in targets if target[0] is not None]
    for (target, i), gradient in zip(targets, results, strict=True):
        if target is None or gradient is None:
            continue
        expected = target._input_metadata[i]
        if gradient.device != expected.device:
            raise RuntimeError(
                f"{node.name()} gives a gradient on {gradient.device} for {expected.device}"
            )
        gradient = gradient.sum_to_size(expected.shape).to(expected.dtype)
        before = ready.get((target, i))
        ready[target, i] = gradient if before is None else before + gradient


def _in_order(root):
    """The nodes of a graph, each before those that it feeds."""
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(target, False) for target, _ in node.next_functions if target is not None]
    return reversed(order)
