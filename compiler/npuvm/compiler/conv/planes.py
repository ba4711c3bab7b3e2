"""Code of a convolution of planes, with channels before rows and columns: filters by pixels, where those of `conv.emit` are
pixels by filters.

The windows of an image go to L0B, the kernels to L0A. Where tiles are whole rows, a load takes a row of elements from each
channel, from the first row of the image to the last; columns of padding are made by the windows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npuvm.compiler.conv.emit import GROUP, IMAGE, ROW, ConvEmitter
from npuvm.compiler.cube.base import Step
from npuvm.compiler.cube.extent import axis_strides, loop_extent
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.emit.handles import Desc, Loop, Size, Window
from npuvm.compiler.emit.symint import several
from npuvm.isa import Pred

__all__ = ["PlanesEmitter"]


class PlanesEmitter(ConvEmitter):
    """Writes a convolution as the product of kernels by windows."""

    kernels, images = "a", "b"

    def _set_product(self, spec: MatmulSpec, problem: TileProblem) -> None:
        super()._set_product(spec, problem)
        if self._conv.bias is not None:
            self.bias = self._conv.bias

    def _slots(self) -> dict[str, int]:
        slots = super()._slots() | {"l1.a": self.m1 * self._l1_pitch("a"), "l1.b": self._shape.block * self._pixel}
        if self._conv.bias is not None:
            slots["l1.bias"] = align_up(self.m1 * self.problem.bias_item)
        return slots

    def used_bytes(self) -> dict[str, int]:
        sizes = super().used_bytes()
        plane = self._rows * self._cols * self._item
        own = {"l1.a": self.m1 * self.k1 * self._item, "l1.b": self._shape.block * plane}
        if self._conv.bias is not None:
            own["l1.bias"] = self.m1 * self.problem.bias_item
        return {name: own.get(name, size) for name, size in sizes.items()}

    # The bias: a column of it times a row of ones.

    def _load_ones(self) -> Desc | None:
        if self._conv.bias is None:
            return super()._load_ones()
        pitch = align_up(self.n1 * self._item)
        one = int(np.ones(1, dtype=np.float32).view(np.uint32)[0])
        ready = self.b.semaphore("ones.ready")
        nowhere = self.b.desc(self.b.arg(self.spec.c.arg), 0, window=Window(0, 0))
        ones = self.b.desc(self.b.temp("ones", "l1", pitch), pitch)
        rows, cols = self.b.size(1), self.b.size(self.n1)
        self.b.emit("ld", self._conv.bias.dtype, dst=ones, src=nowhere, rows=rows, cols=cols, pad=one, set=[ready])
        self.b.sync("move", wait=[ready])
        return ones

    def _start_with_bias(self, step: Step, bias: MatView, ones: Desc | None) -> None:
        if self._conv.bias is None:
            super()._start_with_bias(step, bias, ones)
            return
        assert ones is not None
        arrives, leaves = self._load_column(step, bias)
        ring, l0a, l0b, l0c = (self.rings[name] for name in ("l1.bias", "l0a", "l0b", "l0c"))
        m, n, one = step.m.whole(self.b), step.n.whole(self.b), self.b.size(1)
        self._sync("move", None, wait=[ring.ready], pred=arrives)
        self._sync("cube", "cube.acquire", wait=[l0c.free])
        row = self.b.desc(ring, ring.slot_bytes, role="consumer")
        pitches = {"a": align_up(self._item), "b": align_up(self.n1 * self._item)}
        column = self.b.desc(l0a, pitches["a"], role="producer")
        target = self.b.desc(l0b, pitches["b"], role="producer")
        for site, op, dst, src, sizes, side in (
            ("move.bias", "mvl0at", column, row, (m, one), l0a),
            ("move.b", "mvl0b", target, ones, (one, n), l0b),
        ):
            self._emit(
                site, op, bias.dtype, dst=dst, src=src, rows=sizes[0], cols=sizes[1], wait=[side.free], set=[side.ready]
            )
        self._emit(
            "mma",
            "mma",
            bias.dtype,
            dst=self.b.desc(l0c, self._l0c_pitch, role="producer"),
            a=self.b.desc(l0a, pitches["a"], role="consumer"),
            b=self.b.desc(l0b, pitches["b"], role="consumer"),
            m=m,
            n=n,
            k=one,
            wait=[l0a.ready, l0b.ready],
            set=[l0a.free, l0b.free],
        )
        self._sync("move", None, set=[ring.free], pred=leaves)

    def _load_column(self, step: Step, bias: MatView) -> tuple[Pred | None, Pred | None]:
        """Load the bias of a tile's filters where it changes; returns when it does, and when it is used for the last time."""
        ring, item = self.rings["l1.bias"], self._item
        group = self._conv.filters if several(self._conv.groups) else 0
        arrives, leaves = self._bias_preds(step.moved_by(["m", *([GROUP] if several(self._conv.groups) else [])]))
        strides = axis_strides(step.walk.axes, step.loops, {"m": self.m1 * item, GROUP: group * item})
        self._emit(
            "load.bias",
            "ld",
            bias.dtype,
            dst=self.b.desc(ring, ring.slot_bytes, role="producer"),
            src=self.b.desc(self.b.arg(bias.arg), 0, strides=strides, offset=bias.offset * item),
            rows=self.b.size(1),
            cols=step.m.whole(self.b),
            cache=self._cache("bias", bias),
            wait=[ring.free],
            set=[ring.ready],
            pred=arrives,
        )
        return arrives, leaves

    # Blocks of channels, loads and moves.

    def _taps(self, step: Step, block: Loop) -> None:
        """With channels first a block of them is a range of the kernels' elements."""
        k = loop_extent(self.spec.k, self._shape.chunk, block)
        self._multiply(step, k, {block: self._shape.chunk}, {}, [block])

    def _load_image(self, step: Step, block: Loop | None, pred: Pred | None) -> None:
        """A row of each channel: the rows of the image in one run, or one of them at a time."""
        conv, shape, view, ring, item = self._conv, self._shape, self._conv.x, self.rings["l1.b"], self._item
        (step_h, step_w), (top, left) = conv.strides, conv.pads
        unit, (height, width) = shape.block, conv.size
        channels = loop_extent(conv.channels, unit, block).whole(self.b)
        loops = self._moving(step)
        # Where tiles are whole rows, rows of x follow each other.
        row_apart = width if shape.whole else view.row
        elements = {IMAGE: view.image, GROUP: conv.channels * view.channel if several(conv.groups) else 0}
        elements |= (
            {"n": shape.rows * step_h * row_apart}
            if shape.whole
            else {ROW: step_h * row_apart, "n": shape.cols * step_w}
        )
        strides = axis_strides(step.walk.axes, step.loops, {dim: count * item for dim, count in elements.items()})
        if block is not None:
            strides[block] = unit * view.channel * item
        count = 1 if shape.whole else self._rows
        for at in range(count):
            row = at * conv.dilations[0] - top
            if shape.whole:
                down = loops.get("n")
                window = Window(
                    unit, height * width, 0, row * width, None, 0, down, shape.rows * step_h * width if down else 0
                )
                offset, cols = row * row_apart, self._rows * self._cols
            else:
                down, right = loops.get(ROW), loops.get("n")
                rows = (down, step_h * unit) if down else (None, 0)
                columns = (right, shape.cols * step_w) if right else (None, 0)
                window = Window(height * unit, width, row * unit, -left, *rows, *columns)
                offset, cols = row * row_apart - left, self._cols
            self._emit_piece(
                "load.b",
                at == 0,
                at == count - 1,
                ring,
                dst=self.b.desc(ring, self._pixel, role="producer", offset=at * self._cols * item),
                src=self._image_desc(step, block, view.channel * item, strides, (view.offset + offset) * item, window),
                rows=channels,
                cols=self.b.size(cols),
                cache=self.problem.pins.cache.get("a", view.cache),
                pred=pred,
            )

    def _move_both(self, m: Size, n: Size, k: Size, far: Mapping[Loop, int], within: Mapping[Loop, int]) -> None:
        conv, shape, l0b = self._conv, self._shape, self.rings["l0b"]
        self._move_a(m, k, None, within)
        self._emit(
            "move.b",
            "mvim2colt",
            self.spec.a.dtype,
            dst=self.b.desc(l0b, align_up(self.n1 * self._item), role="producer"),
            src=self.b.desc(self.rings["l1.b"], self._pixel, role="consumer"),
            layout="planes",
            rows=k,
            cols=n,
            start=self._start(far, conv.kernel[0] * conv.kernel[1] * shape.block),
            height=shape.block,
            span=self._rows * self._cols,
            apart=self._cols,
            channels=1,
            **self._steps(),
            wait=[l0b.free],
            set=[l0b.ready],
        )
