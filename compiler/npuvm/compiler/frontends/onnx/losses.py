"""Losses of classes, which models carry along from their training."""

from __future__ import annotations

from npuvm.compiler.frontends.onnx.activations import floating
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.reductions import log_softmax
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.language.value import Value

__all__: list[str] = []


@rule("NegativeLogLikelihoodLoss")
def _negative_log_likelihood(op: Operator) -> Value:
    value = floating(op, 0)
    return op.k.cast(_picked_loss(op, op.k.cast(value, "fp32")), value.dtype)


@rule("SoftmaxCrossEntropyLoss")
def _cross_entropy(op: Operator) -> list[Value | Entry]:
    value, k = floating(op, 0), op.k
    logarithms = log_softmax(k, k.cast(value, "fp32"), 1)
    return [k.cast(each, value.dtype) for each in (_picked_loss(op, logarithms), logarithms)]


def _picked_loss(op: Operator, logarithms: Value) -> Value:
    """The loss of fp32 logarithms [batch, classes, ...] for the classes of input 1 [batch, ...] and weights of input 2.

    A class is picked by comparing all numbers of classes with it, so that none is outside.
    """
    k, dims = op.k, logarithms.shape
    if op.input(1).dtype not in ("int32", "int64"):
        raise Unsupported(f"classes of {op.input(1).dtype} are not picked on the device")
    target = op.value(1)
    for dim, other in zip((dims[0], *dims[2:]), target.shape, strict=True):
        op.equal(dim, other)
    column = k.reshape(target, (dims[0], 1, *dims[2:]))
    places = k.reshape(k.iota((dims[1],)), (dims[1], *(1,) * (len(dims) - 2)))
    picked = k.eq(places, column)
    ignored = op.attribute("ignore_index")
    if ignored is not None:
        picked = k.logical_and(picked, k.ne(column, int(ignored)))
    loss = k.neg(k.sum(k.select(picked, logarithms, 0.0), 1))
    weights = None
    if op.has(2):
        op.equal(dims[1], op.input(2).dims[0])
        of_class = k.reshape(k.cast(floating(op, 2), "fp32"), places.shape)
        weights = k.sum(k.select(picked, of_class, 0.0), 1)
        loss = loss * weights
    elif ignored is not None:
        weights = k.cast(k.ne(target, int(ignored)), "fp32")
    reduction = op.attribute("reduction", "mean")
    if reduction == "none":
        return loss
    if reduction == "mean" and weights is None:
        return k.mean(loss)
    return k.sum(loss) / k.sum(weights) if reduction == "mean" and weights is not None else k.sum(loss)
