"""Matrix products: MatMul, Gemm, products of quantized integers, and Einsum."""

from __future__ import annotations

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.activations import floating
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.frontends.onnx.integers import RANGES, carried
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.graph.sums import Sum
from npuvm.compiler.graph.symbols import product as product_of
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.value import Value

__all__ = ["product"]


def product(op: Operator, a: Value, b: Value, dtype: str | None = None) -> Value:
    """`a @ b` as numpy has it, vectors and batches too; dims that must be equal are deduced to be."""
    k = op.k
    left = k.reshape(a, (1, *a.shape)) if len(a.shape) == 1 else a
    right = k.reshape(b, (*b.shape, 1)) if len(b.shape) == 1 else b
    op.equal(left.shape[-1], right.shape[-2])
    op.lowering.fit([left.shape[:-2], right.shape[:-2]], op.source)
    if dtype is None and left.dtype != "int8":
        dtype = left.dtype
    found = k.matmul(left, right, dtype=dtype)
    shape = list(found.shape)
    if len(a.shape) == 1:
        del shape[-2]
    if len(b.shape) == 1:
        del shape[-1]
    return found if len(shape) == len(found.shape) else k.reshape(found, shape)


@rule("MatMul")
def _matmul(op: Operator) -> Value:
    return product(op, floating(op, 0), floating(op, 1))


@rule("Gemm")
def _gemm(op: Operator) -> Value:
    a, b, k = floating(op, 0), floating(op, 1), op.k
    turn_a, turn_b = bool(op.attribute("transA", 0)), bool(op.attribute("transB", 0))
    op.equal(a.shape[0 if turn_a else 1], b.shape[1 if turn_b else 0])
    alpha, beta = float(op.attribute("alpha", 1.0)), float(op.attribute("beta", 1.0))
    added = op.has(2) and beta != 0.0
    plain = alpha == 1.0 and not (added and beta != 1.0)
    columns = b.shape[0 if turn_b else 1]
    if plain and added and op.input(2).dims == (columns,):
        return k.matmul(a, b, transpose_a=turn_a, transpose_b=turn_b, bias=floating(op, 2))
    dtype = a.dtype if plain and not added else "fp32"
    found = k.matmul(a, b, transpose_a=turn_a, transpose_b=turn_b, dtype=dtype)
    if alpha != 1.0:
        found = found * alpha
    if added:
        whole = op.lowering.fit([found.shape, op.input(2).dims], op.source)
        if len(whole) != 2:
            raise CompileError(f"Gemm: input 2 has {len(whole)} dims; allowed: up to 2", op.source)
        for dim, fitted in zip(found.shape, whole, strict=True):
            op.equal(dim, fitted)
        other = k.cast(floating(op, 2), "fp32")
        found = found + (other * beta if beta != 1.0 else other)
    return k.cast(found, a.dtype)


def _shifted(op: Operator, index: int, zero: int | None) -> tuple[Value, Value | None]:
    """A quantized matrix in int8 and its zero point in int32: of uint8 both are less by 128."""
    entry = op.input(index)
    if entry.dtype not in ("int8", "uint8"):
        raise Unsupported(f"products of {entry.dtype} are not computed on the device")
    k, value = op.k, op.value(index)
    offset = 128 if entry.dtype == "uint8" else 0
    point = None
    if zero is not None and op.has(zero):
        point = k.sub(k.cast(op.value(zero), "int32"), offset)
    elif offset:
        point = k.const(-offset, "int32")
    return (k.cast(k.sub(value, offset), "int8") if offset else value), point


def integer_product(op: Operator, a: int, b: int, zero_a: int | None, zero_b: int | None) -> Value:
    """The product in int32 of quantized matrices less their zero points (inputs of these numbers), exact modulo 2^32.

    (A - p)(B - q) is A B - p (sums of B's columns) - (sums of A's rows) q + K p q.
    """
    k = op.k
    left, p = _shifted(op, a, zero_a)
    right, q = _shifted(op, b, zero_b)
    if len(left.shape) < 2 or len(right.shape) < 2:
        raise Unsupported("products of quantized vectors are not computed on the device")
    found = product(op, left, right)
    if p is not None and len(p.shape) == 1:
        p = k.reshape(p, (*p.shape, 1))  # one for each row
    if p is not None:
        found = found - p * k.sum(k.cast(right, "int32"), -2, keepdims=True)
    if q is not None:
        found = found - k.sum(k.cast(left, "int32"), -1, keepdims=True) * q
    if p is not None and q is not None:
        found = found + p * q * k.size((left.shape[-1],), "int32")
    return found


@rule("MatMulInteger")
def _matmul_integer(op: Operator) -> Entry:
    return op.entry(integer_product(op, 0, 1, 2, 3), "int32")


@rule("QLinearMatMul")
def _qlinear_matmul(op: Operator) -> Entry:
    """The product times the scales in fp32, rounded to the nearest even number, moved by the zero point and clipped."""
    k, dtype = op.k, op.input(7).dtype
    if dtype not in ("int8", "uint8"):
        raise Unsupported(f"quantizing to {dtype} is not done on the device")
    sums = k.cast(integer_product(op, 0, 3, 2, 5), "fp32")
    scales = {at: k.cast(floating(op, at), "fp32") for at in (1, 4, 6)}
    for at in (1, 6):  # one for each row
        if len(scales[at].shape) == 1 and scales[at].shape != (1,):
            scales[at] = k.reshape(scales[at], (*scales[at].shape, 1))
    whole = k.rint(sums * (scales[1] * scales[4] / scales[6]))
    point = k.cast(k.cast(op.value(7), "int32"), "fp32")
    least, largest = RANGES[dtype]
    inside = k.maximum(k.minimum(whole + point, float(largest)), float(least))
    return op.entry(carried(k, k.cast(inside, "int32"), dtype), dtype, (least, largest))


@rule("Einsum")
def _einsum(op: Operator) -> Value:
    terms, output = _letters(op)
    values = [floating(op, at) for at in range(len(op.inputs))]
    sizes: dict[str, Dim] = {}
    for term, value in zip(terms, values, strict=True):
        for letter, dim in zip(term, value.shape, strict=True):
            known = sizes.setdefault(letter, dim)
            if not letter.isdigit():
                op.equal(known, dim)
            elif dim != known and 1 in (dim, known):
                raise Unsupported("dims of an ellipsis are stretched")
            else:
                op.lowering.fit([[known], [dim]], op.source)
    term, value = terms[0], op.k.cast(values[0], "fp32")
    for at in range(1, len(values)):
        wanted = set(output).union(*terms[at + 1 :])
        term, value = _contracted(op, (term, value), (terms[at], op.k.cast(values[at], "fp32")), wanted)
    term, value = _summed(op, term, value, set(output))
    return op.k.cast(op.k.permute(value, [term.index(letter) for letter in output]), values[0].dtype)


def _letters(op: Operator) -> tuple[list[str], str]:
    """The labels of each input and of the output; dims of an ellipsis have the labels 0, 1, ..., from the last one."""
    equation = str(op.attribute("equation")).replace(" ", "")
    given, arrow, output = equation.partition("->")
    terms = given.split(",")
    if len(terms) != len(op.inputs):
        raise CompileError(f"the equation '{equation}' is not of {len(op.inputs)} inputs", op.source)
    most = 0
    for at, term in enumerate(terms):
        if "..." in term:
            count = op.input(at).rank - len(term) + 3
            most = max(most, count)
            terms[at] = term.replace("...", "".join(str(each) for each in range(count))[::-1])
    ellipsis = "".join(str(each) for each in range(most))[::-1]
    if not arrow:
        letters = sorted({each for term in terms for each in term if each.isalpha()})
        output = ellipsis + "".join(each for each in letters if given.count(each) == 1)
    for at, term in enumerate(terms):
        if len(term) != op.input(at).rank:
            raise CompileError(
                f"'{equation}' has {len(term)} labels for input {at} of rank {op.input(at).rank}", op.source
            )
    if any(len(set(term)) < len(term) for term in terms) or most > 9:
        raise Unsupported(f"'{equation}' takes a diagonal")
    return terms, output.replace("...", ellipsis)


def _summed(op: Operator, term: str, value: Value, wanted: set[str]) -> tuple[str, Value]:
    """The sum over the labels that are not wanted."""
    axes = [at for at, letter in enumerate(term) if letter not in wanted]
    return "".join(each for each in term if each in wanted), op.k.sum(value, axes) if axes else value


def _contracted(op: Operator, a: tuple[str, Value], b: tuple[str, Value], wanted: set[str]) -> tuple[str, Value]:
    """Two operands as a batch of matrix products over the labels that both have and nobody wants later."""
    k = op.k
    left, x = _summed(op, *a, wanted | set(b[0]))
    right, y = _summed(op, *b, wanted | set(a[0]))
    batch = [each for each in left if each in right and each in wanted]
    inner = [each for each in left if each in right and each not in wanted]
    rows = [each for each in left if each not in right]
    columns = [each for each in right if each not in left]
    sizes = {**dict(zip(left, x.shape, strict=True)), **dict(zip(right, y.shape, strict=True))}
    order = [*batch, *rows, *inner], [*batch, *inner, *columns]
    x = k.permute(x, [left.index(each) for each in order[0]])
    y = k.permute(y, [right.index(each) for each in order[1]])
    if not inner:
        x = k.reshape(x, [sizes[each] for each in (*batch, *rows)] + [1] * len(columns))
        y = k.reshape(y, [sizes[each] for each in batch] + [1] * len(rows) + [sizes[each] for each in columns])
        return "".join([*batch, *rows, *columns]), x * y
    lead = [sizes[each] for each in batch]
    merged = [_merged(op, [sizes[each] for each in part]) for part in (rows, inner, columns)]
    found = k.matmul(k.reshape(x, (*lead, *merged[:2])), k.reshape(y, (*lead, *merged[1:])))
    return "".join([*batch, *rows, *columns]), k.reshape(found, [sizes[each] for each in (*batch, *rows, *columns)])


def _merged(op: Operator, dims: list[Dim]) -> Dim:
    """The dim that the product of dims is."""
    return 0 if 0 in dims else op.dim(Sum((product_of(dims),)))
