"""The verifier of a device: it keeps what it has proven about forms of programs, for other shapes of them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

from npuvm.isa.image import Image
from npuvm.isa.image_tables import EntryColumns, RelocTable
from npuvm.isa.model import Isa
from npuvm.isa.verifier.launch import MAX_STEPS, Verification, verify
from npuvm.isa.verifier.report import CapacityLimits, Findings
from npuvm.isa.verifier.sites import NoTemplateError
from npuvm.isa.verifier.template import Template
from npuvm.isa.verifier.values import Forms

__all__ = ["Verifier"]

_MOST_TEMPLATES = 512
_MOST_IMAGES = 65536

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class _Form:
    """What images of a form have in common, as `key`; of one of them all that the verifier sees, and its tables."""

    key: tuple[object, ...]
    digest: bytes
    relocs: RelocTable
    cores: EntryColumns


class Verifier:
    """Verifies images for one chip: `check` raises where `npuvm.isa.verify` with its defaults would, and nowhere else.

    What depends on a program's form alone is proven for the first image of each form, what depends on its values is checked for
    each. Images that this does not show to be legal are verified one by one. Of the `images` that were not known already,
    `forms` were the first of their form, and `by_form` were shown to be legal by the checks of one that was known.
    """

    def __init__(self, isa: Isa, limits: CapacityLimits) -> None:
        self._isa = isa
        self._limits = limits
        self._forms = Forms(isa)
        self._templates: dict[tuple[object, ...], Template | None] = {}
        self._passed: dict[bytes, None] = {}
        self.images = 0
        self.forms = 0
        self.by_form = 0

    def check(self, image: Image) -> None:
        """Raise VerifyError when an image breaks a rule."""
        form = self._form(image)
        if form is None:
            self.images += 1
            verify(self._isa, image, self._limits)
            return
        if form.digest in self._passed:
            return
        self.images += 1
        if form.key not in self._templates:
            self.forms += 1
            self._first(image, form)
        else:
            template = self._templates[form.key]
            if template is not None and template.accepts(image, form.relocs, form.cores):
                self.by_form += 1
            else:
                verify(self._isa, image, self._limits)
        _keep(self._passed, form.digest, None, _MOST_IMAGES)

    def _first(self, image: Image, form: _Form) -> None:
        """Verify the first image of a form, and make its template."""
        check = Verification(self._isa, image, self._limits, Findings(self._isa, image.name, collect=False), MAX_STEPS)
        check.statics(None, absolute=False)
        template = None
        with contextlib.suppress(NoTemplateError):
            template = Template(self._isa, self._limits, image, check, MAX_STEPS)
        if template is None or not template.accepts(image, form.relocs, form.cores):
            check.synchronisation()
        _keep(self._templates, form.key, template, _MOST_TEMPLATES)

    def _form(self, image: Image) -> _Form | None:
        """What an image has in common with others of its form; None when it has nothing that is understood."""
        bits = self._forms.of(image.words)
        if bits is None or image.isa_hash != self._isa.hash or not len(image.entries):
            return None
        try:
            relocs, cores = RelocTable.of(image.relocs), EntryColumns.of(image.entries)
        except OverflowError:
            return None
        programs = tuple(dict.fromkeys(zip(cores.types, cores.pcs, strict=True)))
        key = bits, relocs.words.tobytes(), relocs.args.tobytes(), image.n_args, programs
        digest = blake2b(image.words.tobytes(), digest_size=16)
        for part in (relocs.words, relocs.args, relocs.addends, cores.ranges):
            digest.update(part.tobytes())
        digest.update(
            repr((image.n_args, cores.types, cores.pcs, cores.phases, len(image.words), len(relocs))).encode()
        )
        return _Form(key, digest.digest(), relocs, cores)


def _keep(known: dict[_K, _V], key: _K, value: _V, most: int) -> None:
    """Keep what was found, and no more than `most` of it."""
    if len(known) >= most:
        del known[next(iter(known))]
    known[key] = value
