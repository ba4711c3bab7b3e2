"""Operators by the reference of the onnx package."""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.runtime.host.provider import HostError, HostValue, host_value

__all__ = ["ReferenceProvider"]


class ReferenceProvider:
    """ONNX's own evaluator, in Python: every operator of the standard, slowly."""

    name = "onnx.reference"

    def __init__(self) -> None:
        # The onnx package is an extra; nothing else here needs it.
        from onnx.reference import ReferenceEvaluator

        self._evaluator = ReferenceEvaluator
        self._kept: dict[bytes, ReferenceEvaluator] = {}

    def run(self, node: bytes, inputs: Sequence[HostValue | None]) -> list[HostValue]:
        """See `HostProvider.run`."""
        import onnx

        try:
            found = self._kept.get(node)
            if found is None:
                found = self._kept[node] = self._evaluator(onnx.load_from_string(node))
            made = found.run(None, {f"i{at}": each for at, each in enumerate(inputs) if each is not None})
        except NotImplementedError as error:
            reason = " ".join(str(error).split()).split(". ")[0]
            allowed = "a provider that does, given to the session"
            raise HostError(f"no provider knows it ({self.name}: {reason}); allowed: {allowed}") from error
        except Exception as error:  # what the reference raises is not told by ONNX
            raise HostError(f"{self.name} cannot run it: {type(error).__name__}: {error}") from error
        return [host_value(each) for each in made]
