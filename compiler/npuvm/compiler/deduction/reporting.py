"""The sizes of a model as text: its symbols, what follows from them, what is known, required and assumed."""

from __future__ import annotations

from collections.abc import Iterator

from npuvm.compiler.graph.model import Guard, Model

__all__ = ["report"]


def report(model: Model) -> str:
    """One line for each input, symbol, derived symbol, requirement, assumption, and operator that stays on the host."""
    return "\n".join(_lines(model)) + "\n"


def _lines(model: Model) -> Iterator[str]:
    yield f"model {model.name}"
    for name in model.inputs:
        yield f"  input {name}: {model.values[name]}"
    for name, value in model.outputs.items():
        yield f"  output {name}: {model.values[value]}"
    derived = {each.name for each in model.derived}
    for symbol in _symbols(model):
        if symbol not in derived:
            yield f"  symbol {symbol}: {_range(symbol, model)}"
    for rule in model.derived:
        yield f"  derived {rule}"
    for fact in model.facts:
        yield f"  fact {fact.text}  # {fact.origin}"
    for claim in model.claims:
        yield f"  claim {claim.text}  # {claim.origin}"
    for guard in model.required:
        yield f"  required {guard}  # {guard.origin}"
    for guard in model.guards:
        yield f"  guard {guard}  # {guard.origin}"
    for step in model.host_steps():
        yield f"  host {step.op} '{step.source}': {step.reason}"


def _symbols(model: Model) -> list[str]:
    """Symbols of the values, in order of appearance."""
    found: dict[str, None] = {}
    for value in (*model.inputs, *model.values):
        found.update((dim, None) for dim in model.values[value].shape or () if isinstance(dim, str))
    return list(found)


def _range(symbol: str, model: Model) -> str:
    """What guards and requirements say of a symbol alone: its range, and what it is a multiple of."""
    least, most, by = 0, "", ""
    for each in (*model.required, *model.guards):
        if not _is(each, symbol):
            continue
        number = each.right.constant()
        if each.relation == "<=" and number is not None:
            most = str(number)
        elif each.relation == "%" and number is not None:
            by = f", a multiple of {number}"
        elif each.relation == "==" and number is not None:
            return f"= {number}"
    return (f"{least} .. {most}" if most else f">= {least}") + by


def _is(guard: Guard, symbol: str) -> bool:
    terms = guard.left.terms
    return len(terms) == 1 and terms[0].factor == 1 and terms[0].symbols == (symbol,)
