"""Code of a convolution: rows of an image -> L1 -> windows of it to L0A, kernels -> L1 -> L0B -> cube -> L0C -> fixpipe.

It is the matrix product of pixels by filters over the elements of a kernel. What stands outside the images is read as 0 by the
windows of the loads. An image stays in L1 for all filters of its tile, the kernels for all tiles that need the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from npuvm.compiler.conv.plan import ConvTile
from npuvm.compiler.conv.spec import ConvSpec
from npuvm.compiler.cube.base import Step
from npuvm.compiler.cube.emit import MatmulEmitter
from npuvm.compiler.cube.extent import Extent, axis_strides, loop_extent
from npuvm.compiler.cube.levels import ring_slots
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.cube.spec import MatmulSpec
from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.emit.handles import Buffer, Desc, Loop, Size, Window, changed, changes
from npuvm.compiler.emit.symint import several
from npuvm.hw.config import CoreType
from npuvm.isa import Pred

__all__ = ["GROUP", "IMAGE", "ROW", "ConvEmitter"]

IMAGE, ROW, GROUP = "b0", "b1", "b2"
"""Batch dimensions of the product: images, rows of the result where a tile is a part of one, groups."""

_EDGE = {"a": "m", "b": "n"}
"""The dimension that each side of the product has for itself."""


class ConvEmitter(MatmulEmitter):
    """Writes a convolution as the product `spec` with tiles `tile`; the rest is as for a matrix product.

    `kernels` and `images` are the sides of the product that they stand on.
    """

    kernels, images = "b", "a"

    def __init__(
        self,
        conv: ConvSpec,
        tile: ConvTile,
        spec: MatmulSpec,
        problem: TileProblem,
        core_type: CoreType,
        n_args: int,
    ) -> None:
        self._conv, self._shape = conv, tile
        self._item = problem.item
        self._rows, self._cols, self._pixel = tile.image(conv, problem.item)
        super().__init__(spec, problem, tile.cube(conv), core_type, n_args)

    def _make_rings(self) -> dict[str, Buffer]:
        slots = self._slots()
        plan = [("l0c", "cube", "fixpipe")]
        if self.spec.k != 0:
            plan += [("l1.a", "load", "move"), ("l1.b", "load", "move")]
        if self.bias is not None:
            plan.append(("l1.bias", "load", "move"))
        if self.spec.k != 0 or not self.bias_moves:
            plan += [("l0a", "move", "cube"), ("l0b", "move", "cube")]
        if self.problem.via_ub:
            plan.append(("ub.c", "fixpipe", "store"))
        depth = {name: self.problem.depth(name) for name, *_ in plan} | {"l0c": self.tile.l0c_depth}
        return {
            name: self.b.ring(name, name.split(".")[0], slots[name], depth[name], producer, consumer)
            for name, producer, consumer in plan
        }

    def _slots(self) -> dict[str, int]:
        """Bytes of a slot of each ring."""
        return ring_slots(self.problem, self.tile) | {"l1.a": self._rows * self._cols * self._pixel}

    def used_bytes(self) -> dict[str, int]:
        """Bytes of the elements of one tile in a slot of each ring."""
        m, n = self.m1, self.n1
        sizes = {
            "l0c": m * n * self.problem.acc_item,
            "l1.a": self._rows * self._cols * self._shape.block * self._item,
            "l1.b": n * self.k1 * self._item,
            "l1.bias": n * self.problem.bias_item,
            "l0a": m * self.k0 * self._item,
            "l0b": n * self.k0 * self._item,
            "ub.c": m * n * self.problem.out_item,
        }
        return {name: sizes[name] for name in self.rings}

    # One tile of the result.

    def _tile(self, step: Step, ones: Desc | None) -> None:
        l0c = self.rings["l0c"]
        if self.bias is not None:
            self._start_with_bias(step, self.bias, ones)
        else:
            self._sync("cube", "cube.acquire", wait=[l0c.free])
        if self.spec.k != 0:
            self._windows(step)
        self._sync("cube", "cube.release", set=[l0c.ready])
        self._result(step)

    def _windows(self, step: Step) -> None:
        """All blocks of channels: load their image, then multiply the windows by the kernels."""
        image = self.rings[f"l1.{self.images}"]
        moved = step.moved_by([_EDGE[self.images], IMAGE, ROW, *([GROUP] if several(self._conv.groups) else [])])
        with self._repeat(-(-self._conv.channels // self._shape.block)) as block:
            arrives, leaves = self._stays(moved) if block is None else (None, None)
            self._load_image(step, block, arrives)
            self._sync("move", "move.acquire", wait=[image.ready], pred=arrives)
            if block is None:
                self._chunks(step)
            else:
                self._taps(step, block)
            self._sync("move", "move.release", set=[image.free], pred=leaves)

    def _stays(self, loops: Sequence[Loop]) -> tuple[Pred | None, Pred | None]:
        """When what these loops change comes to L1, and when it is used for the last time; None for every time."""
        return changed(*loops), changes(*loops)

    def _chunks(self, step: Step) -> None:
        """The elements of the kernels in a row, `chunk` of them in L1 at a time."""
        chunk = self._shape.chunk
        with self._repeat(-(-self.spec.k // chunk)) as loop:
            k = loop_extent(self.spec.k, chunk, loop)
            far = {} if loop is None else {loop: chunk}
            self._multiply(step, k, far, far, [] if loop is None else [loop])

    def _taps(self, step: Step, block: Loop) -> None:
        """A block of channels for each pixel of the kernel; the last block may be smaller."""
        width = self._shape.block
        with self._repeat(self._conv.kernel[0] * self._conv.kernel[1]) as tap:
            k = loop_extent(self._conv.channels, width, block)
            taps = [] if tap is None else [tap]
            memory = {block: width} | dict.fromkeys(taps, self._conv.channels)
            self._multiply(step, k, memory, dict.fromkeys(taps, width), [block, *taps])

    def _multiply(
        self, step: Step, k: Extent, memory: Mapping[Loop, int], image: Mapping[Loop, int], loops: list[Loop]
    ) -> None:
        """Load a chunk of the kernels and multiply it, step by step.

        `memory` says how far each loop moves in the kernels in global memory, `image` in those of the image in L1, in elements.
        """
        kernels = self.rings[f"l1.{self.kernels}"]
        moved = step.moved_by([_EDGE[self.kernels], *([GROUP] if several(self._conv.groups) else [])])
        arrives, leaves = (None, None) if loops else self._stays(moved)
        self._load_kernels(step, k, memory, arrives)
        self._sync("move", None, wait=[kernels.ready], pred=arrives)
        m_size, n_size = step.m.whole(self.b), step.n.whole(self.b)
        with self._part_loop(k, self.k0) as inner:
            k_size = k.inner(self.b, self.k0, inner)
            within = {} if inner is None else {inner: self.k0}
            self._move_both(m_size, n_size, k_size, {**image, **within}, within)
            self._mma((m_size, n_size, k_size), None, None, [*loops, *within])
        self._sync("move", None, set=[kernels.free], pred=leaves)

    def _repeat(self, times: int) -> Any:
        return self.b.loop(times) if several(times) else nullcontext()

    # Loads.

    def _load_image(self, step: Step, block: Loop | None, pred: Pred | None) -> None:
        """Whole rows of pixels in one load; or each row that the kernel meets in one, with the padding beside it."""
        conv, view, item, shape = self._conv, self._conv.x, self._item, self._shape
        (step_h, step_w), (top, left) = conv.strides, conv.pads
        # Where tiles are whole rows, rows of x follow each other.
        row_apart = conv.size[1] * view.pixel if shape.whole else view.row
        elements = {IMAGE: view.image, GROUP: conv.channels if several(conv.groups) else 0}
        if shape.whole:
            elements["m"] = shape.rows * step_h * row_apart
        else:
            elements |= {ROW: step_h * row_apart, "m": shape.cols * step_w * view.pixel}
        strides = axis_strides(step.walk.axes, step.loops, {dim: count * item for dim, count in elements.items()})
        if block is not None:
            strides[block] = shape.block * item
        channels = loop_extent(conv.channels, shape.block, block).whole(self.b)
        count, beside = (1, 0) if shape.whole else (self._rows, left)
        pixels = self.b.size(self._rows * self._cols if shape.whole else self._cols)
        for at in range(count):
            row = at * conv.dilations[0] - top
            self._emit_piece(
                "load.a",
                at == 0,
                at == count - 1,
                self.rings["l1.a"],
                dst=self.b.desc(self.rings["l1.a"], self._pixel, role="producer", offset=at * self._cols * self._pixel),
                src=self._image_desc(
                    step,
                    block,
                    view.pixel * item,
                    strides,
                    (view.offset + row * row_apart - beside * view.pixel) * item,
                    self._window(step, row),
                ),
                rows=pixels,
                cols=channels,
                cache=self.problem.pins.cache.get("a", view.cache),
                pred=pred,
            )

    def _image_desc(
        self, step: Step, block: Loop | None, pitch: int, strides: Mapping[Loop, int], offset: int, window: Window
    ) -> Desc:
        """Where a load of an image begins: `offset` bytes from the first image, lines of it `pitch` bytes apart."""
        return self.b.desc(self.b.arg(self._conv.x.arg), pitch, strides=strides, offset=offset, window=window)

    def _window(self, step: Step, row: int) -> Window:
        """Pixels of x from `row` on; of a single row its columns say whether it is one of x."""
        conv, shape, unit, (height, width) = self._conv, self._shape, self._shape.block, self._conv.size
        loops = self._moving(step)
        if shape.whole:
            apart = shape.rows * conv.strides[0] * width
            return Window(height * width, unit, row * width, 0, loops.get("m"), apart if "m" in loops else 0)
        right, down = loops.get("m"), loops.get(ROW)
        return Window(
            width,
            height * unit,
            -conv.pads[1],
            row * unit,
            right,
            shape.cols * conv.strides[1] if right else 0,
            down,
            conv.strides[0] * unit if down else 0,
        )

    @staticmethod
    def _moving(step: Step) -> dict[str, Loop]:
        """The loops of a grid that move, by the dim they walk."""
        return {axis.dim: loop for loop, axis in zip(step.loops, step.walk.axes, strict=True) if axis.moves}

    def _load_kernels(self, step: Step, k: Extent, memory: Mapping[Loop, int], pred: Pred | None) -> None:
        """Rows of kernels: those of a tile, a chunk of the elements of each."""
        conv, name, item, view = self._conv, self.kernels, self._item, self._conv.w
        ring, edge = self.rings[f"l1.{name}"], _EDGE[name]
        filters = {"a": step.m, "b": step.n}[name].whole(self.b)
        elements = {
            edge: self._shape.filters * conv.depth,
            GROUP: conv.filters * conv.depth if several(conv.groups) else 0,
        }
        strides = axis_strides(step.walk.axes, step.loops, {dim: count * item for dim, count in elements.items()})
        strides |= {loop: count * item for loop, count in memory.items()}
        self._emit_piece(
            f"load.{name}",
            True,
            True,
            ring,
            dst=self.b.desc(ring, self._l1_pitch(name), role="producer"),
            src=self.b.desc(self.b.arg(view.arg), conv.depth * item, strides=strides, offset=view.offset * item),
            rows=filters,
            cols=k.whole(self.b),
            cache=self.problem.pins.cache.get("b", view.cache),
            pred=pred,
        )

    # Moves.

    def _move_both(self, m: Size, n: Size, k: Size, far: Mapping[Loop, int], within: Mapping[Loop, int]) -> None:
        """Windows of the image and a step of the kernels to L0.

        `far` says how far loops move in those elements of a kernel that the image serves, `within` in those of the chunk.
        """
        conv, shape, l0a = self._conv, self._shape, self.rings["l0a"]
        self._emit(
            "move.a",
            "mvim2col",
            self.spec.b.dtype,
            dst=self.b.desc(l0a, align_up(self.k0 * self.item), role="producer"),
            src=self.b.desc(self.rings["l1.a"], self._cols * self._pixel, role="consumer"),
            rows=m,
            cols=k,
            start=self._start(far, conv.kernel[0] * conv.kernel[1] * shape.block),
            height=self._rows,
            span=self._cols * (self._pixel // self._item),
            apart=self._pixel // self._item,
            channels=shape.block,
            **self._steps(),
            wait=[l0a.free],
            set=[l0a.ready],
        )
        self._move_b(k, n, None, within)

    def _steps(self) -> dict[str, int]:
        """How windows lie in the image, but for the steps along dims of a single pixel."""
        conv, shape = self._conv, self._shape
        return {
            "width": shape.cols,
            "kernel_h": conv.kernel[0],
            "kernel_w": conv.kernel[1],
            "stride_h": conv.strides[0] if several(shape.rows) else 0,
            "stride_w": conv.strides[1] if several(shape.cols) else 0,
            "dilation_h": conv.dilations[0] if shape.whole and several(conv.kernel[0]) else 1,
            "dilation_w": conv.dilations[1] if several(conv.kernel[1]) else 1,
            "left": conv.pads[1] if shape.whole else 0,
        }

    def _start(self, far: Mapping[Loop, int], most: int) -> Size:
        """Which of the `most` elements of a kernel is the first, counted from 1."""
        return self.b.size_affine(most, 1, list(far.items())) if far else self.b.size(1)
