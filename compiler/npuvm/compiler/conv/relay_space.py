"""What a convolution and the vector segment before it share: images, channels and pixels, and where an image is handed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from npuvm.compiler.conv.spec import ConvSpec
from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.emit.symint import ceil_div
from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.vector.space import Space, make_space

__all__ = ["ImageCuts", "ImageSlot", "ImageSpace", "image_space", "in_slot"]


@dataclass(frozen=True, slots=True)
class ImageCuts:
    """How the vector cores of a group make the image of a tile, `bands` bands of `channels` channels each.

    Of `planes` they share the channels, else the `pixels`, so that what is moved stays in one piece. An image begins `step`
    pixels behind that of the tile before, and the first one `ahead` pixels before there are any.
    """

    channels: int
    bands: int
    cores: int
    pixels: int
    planes: bool
    step: int = 0
    ahead: int = 0

    @property
    def own(self) -> int:
        """Channels of a vector core."""
        return self.channels * self.bands

    @property
    def share(self) -> int:
        """Pixels of a vector core, the most that one has."""
        return self.pixels if self.planes else ceil_div(self.pixels, self.cores)

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of a band."""
        return (self.channels, self.share) if self.planes else (self.share, self.channels)


@dataclass(frozen=True, slots=True)
class ImageSlot:
    """Where a group's image lies in a slot: elements of `item` bytes from one channel and one pixel to the next, and in all."""

    channel: int
    pixel: int
    elements: int
    item: int

    @staticmethod
    def of(cuts: ImageCuts, item: int) -> ImageSlot:
        """That of images cut so. Its rows begin at blocks of memory, with room for channels that the last band lacks."""
        line = align_up((cuts.pixels if cuts.planes else cuts.own) * item) // item
        if cuts.planes:
            return ImageSlot(line, 1, cuts.cores * cuts.own * line, item)
        return ImageSlot(1, line, cuts.pixels * line, item)


@dataclass(frozen=True, slots=True)
class ImageSpace:
    """The dims of the vector segment: images, where there may be several, then channels and pixels (`planes`), or pixels and
    channels. `taken` is the tensor that it writes for the convolution, `tensors` those whose addresses both take.
    """

    space: Space
    planes: bool
    taken: str
    tensors: tuple[str, ...]

    @property
    def image(self) -> int | None:
        """The dim of images."""
        return 0 if len(self.space.sizes) == 3 else None

    @property
    def channel(self) -> int:
        """The dim of channels."""
        return len(self.space.sizes) - (2 if self.planes else 1)

    @property
    def pixel(self) -> int:
        """The dim of pixels."""
        return len(self.space.sizes) - (1 if self.planes else 2)


def image_space(
    conv: ConvSpec, own: Sequence[str], vector: VectorSegment, taken: str, binding: Mapping[str, int]
) -> ImageSpace:
    """The common dims; `own` are the tensors of the convolution. CompileError where the segment does not work on them."""
    domain = evaluate(vector.domain, binding)
    planes, rank = conv.planes, len(domain)
    if rank not in (3, 4) or 0 in domain:
        raise CompileError("the vector part does not work on images", vector.name)
    # Strides by which rows and columns of an image are one dim, and no others.
    wide = domain[-1 if planes else -2]
    apart = (0, 1, 0) if rank == 3 else (0, 1, wide, 1) if planes else (0, wide, 1, 0)
    space = make_space(vector, binding, lambda sizes, dims: dims[-1] if dims else None, (apart,))
    last, pixels = len(space.sizes) - 1, conv.size[0] * conv.size[1]
    sizes = (conv.channels, pixels) if planes else (pixels, conv.channels)
    batch = 1 if domain[0] != 1 else 0
    if last != batch + 1 or space.sizes[-2:] != sizes:
        raise CompileError("the vector part does not work on whole rows of the images", vector.name)
    # Operands of single channels are no reason for another tile.
    space = replace(space, row=last - 1, col=last)
    for each in space.reads:
        if each.picks is not None or (all(space.present[each.node.id][-2:]) and each.strides[-1] != 1):
            raise CompileError("what the vector part reads does not lie as the images do", vector.name)
    tensors = dict.fromkeys((*own, *(each.access.tensor.name for each in (*space.reads, *space.writes))))
    return ImageSpace(space, planes, taken, tuple(tensors))


def in_slot(common: ImageSpace, slot: ImageSlot) -> ImageSpace:
    """The same, with what is handed over where it lies in a slot."""
    lines = (slot.channel, slot.pixel) if common.planes else (slot.pixel, slot.channel)
    writes = tuple(
        replace(each, strides=(*(0 for _ in each.strides[:-2]), *lines), offset=0) for each in common.space.writes
    )
    return replace(common, space=replace(common.space, writes=writes))
