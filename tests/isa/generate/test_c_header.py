"""The C header: it compiles without a warning, and a C program that uses it writes the words of the Python encoder."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.isa.generate.sets import BASE, ROOT, SETS
from tests.isa.off import isa_without

from npuvm.isa import Insn, Instruction, Isa, IsaError, OperandSpec, Pred, assemble_insns, encode, encode_program
from npuvm.isa.generate import c_header

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
STRICT = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]

PROGRAM = """
#include "set.h"
#include <inttypes.h>
#include <stdio.h>

static void show(unsigned count, const uint64_t *words)
{{
  printf("%u", count);
  for (unsigned i = 0; i < count; i++)
    printf(" %016" PRIx64, words[i]);
  printf("\\n");
}}

int main(void)
{{
  uint64_t words[8];
{calls}
  return 0;
}}
"""


def operand_values(operand: OperandSpec, rng: random.Random) -> list[int]:
    """The operand's bounds, one past each that a C parameter can hold, and one at random."""
    signed = operand.kind.repr == "sint"
    lowest, highest = (-(1 << 63), (1 << 63) - 1) if signed else (0, (1 << 64) - 1)
    if operand.values:
        inside = sorted(operand.values.values())
        outside = [max(inside) + 1, *(v for v in range(max(inside)) if v not in inside)]
        return [*inside, *outside]
    values = [operand.low - 1, operand.low, rng.randint(operand.low, operand.high), operand.high, operand.high + 1]
    return [value for value in values if lowest <= value <= highest]


def legal_insn(instruction: Instruction, isa: Isa, rng: random.Random) -> Insn:
    dtype, dtype2 = rng.choice(instruction.dtypes) if instruction.dtypes else (None, None)
    args = {}
    for operand in instruction.operands:
        allowed = [v for v in operand.values.values() if operand.low <= v <= operand.high]
        args[operand.name] = rng.choice(allowed) if allowed else rng.randint(operand.low, operand.high)
    semaphores = [tuple(rng.sample(range(isa.limits["semaphores"]), rng.randint(0, 2))) for _ in "ws"]
    kind = rng.choice(list(isa.predicates))
    pred = None if kind == "always" else Pred(kind, rng.randrange(1 << isa.limits["loops"]))
    return Insn(instruction.name, dtype, dtype2, args, semaphores[0], semaphores[1], pred, rng.random() < 0.5)


def cases(isa: Isa) -> Iterator[Insn]:
    """Legal instructions at random, each operand at its bounds and past them, each pair of types."""
    rng = random.Random(11)
    for instruction in isa.instructions.values():
        if not isa.features[instruction.feature]:
            continue
        for _ in range(3):
            yield legal_insn(instruction, isa, rng)
        start = legal_insn(instruction, isa, rng)
        for operand in instruction.operands:
            for value in operand_values(operand, rng):
                yield Insn(start.op, start.dtype, start.dtype2, {**start.args, operand.name: value})
        for first in isa.dtypes if instruction.dtypes else ():
            for second in isa.dtypes if instruction.dtype2_bits else (None,):
                yield Insn(start.op, first, second, start.args)
    nop = next(name for name, i in isa.instructions.items() if not i.operands and not i.dtypes)
    past = isa.limits["semaphores"]
    for wait, mask in (((past,), 0), ((0, past - 1), 0), ((), (1 << isa.limits["loops"]) - 1)):
        yield Insn(nop, wait=wait, set=wait, pred=Pred("first", mask))


def c_number(value: int, signed: bool) -> str:
    if not signed:
        return f"UINT64_C({value})"
    return "INT64_MIN" if value == -(1 << 63) else f"INT64_C({value})"


def c_call(isa: Isa, insn: Insn) -> str:
    """A statement that encodes and prints it."""
    prefix = isa.name.lower()
    wait, signals = ([*(n + 1 for n in numbers), 0, 0][:2] for numbers in (insn.wait, insn.set))
    code, mask = (isa.predicates[insn.pred.kind], insn.pred.mask) if insn.pred else (0, 0)
    sync = f"{{{{{wait[0]}, {wait[1]}}}, {{{signals[0]}, {signals[1]}}}, {code}, {mask}, {int(insn.order)}}}"
    instruction = isa.instructions[insn.op]
    given = [f"{prefix}_dtype".upper() + f"_{name.upper()}" for name in (insn.dtype, insn.dtype2) if name is not None]
    if instruction.operands:
        members = ", ".join(
            f".{name}{'_' if name == 'register' else ''} = {c_number(value, instruction.operand(name).kind.repr == 'sint')}"
            for name, value in insn.args.items()
        )
        given.append(f"(struct {prefix}_{instruction.format}_operands){{{members}}}")
    parameters = ", ".join(["words", "&sync", *given])
    return f"  {{ const struct {prefix}_sync sync = {sync}; show({prefix}_encode_{insn.op}({parameters}), words); }}"


def expected(isa: Isa, insn: Insn) -> str:
    try:
        words = encode(isa, insn)
    except IsaError:
        return "0"
    return " ".join([str(len(words)), *(f"{word:016x}" for word in words)])


@needs_gcc
@pytest.mark.parametrize("name", ["base", "tiny", "odd head", "all"])
def test_compiled_encoders_write_the_words_of_the_python_encoder(name: str, tmp_path: Path) -> None:
    isa = SETS[name]
    chosen = list(cases(isa))
    (tmp_path / "set.h").write_text(c_header(isa), encoding="ascii")
    calls = "\n".join(c_call(isa, insn) for insn in chosen)
    (tmp_path / "main.c").write_text(PROGRAM.format(calls=calls), encoding="ascii")
    subprocess.run([*STRICT, "-O0", "-o", "main", "main.c"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout.splitlines()
    wanted = [expected(isa, insn) for insn in chosen]
    assert len(printed) == len(wanted)
    different = [(i, got, want) for i, got, want in zip(chosen, printed, wanted, strict=True) if got != want]
    assert different == []
    assert {line.split()[0] for line in printed} >= {"0", "1", "2", "3"}


@needs_gcc
def test_synchronisation_that_no_insn_can_express_is_refused(tmp_path: Path) -> None:
    legal = "{{0, 0}, {0, 0}, 0, 0, 1}"
    illegal = [
        "{{0, 1}, {0, 0}, 0, 0, 0}",  # a second semaphore without a first
        "{{0, 0}, {0, 1}, 0, 0, 0}",
        "{{64, 0}, {0, 0}, 0, 0, 0}",  # semaphores end at 62
        "{{1, 0}, {1, 64}, 0, 0, 0}",
        "{{0, 0}, {0, 0}, 7, 0, 0}",  # no such predicate
        "{{0, 0}, {0, 0}, 0, 1, 0}",  # a mask without a predicate
        "{{0, 0}, {0, 0}, 0, 0, 2}",
    ]
    calls = "".join(
        f"  {{ const struct npu_sync sync = {sync}; show(npu_encode_nop(words, &sync), words); }}\n"
        for sync in [legal, *illegal]
    )
    (tmp_path / "set.h").write_text(c_header(BASE), encoding="ascii")
    (tmp_path / "main.c").write_text(PROGRAM.format(calls=calls), encoding="ascii")
    subprocess.run([*STRICT, "-o", "main", "main.c"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout.splitlines()
    assert printed == ["1 0004000000000001", *["0"] * len(illegal)]


@needs_gcc
def test_header_alone_compiles_as_c_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "set.h").write_text(c_header(BASE), encoding="ascii")
    (tmp_path / "twice.c").write_text('#include "set.h"\n#include "set.h"\n', encoding="ascii")
    subprocess.run([*STRICT, "-fsyntax-only", "twice.c"], cwd=tmp_path, check=True)


@needs_gcc
def test_example_of_the_documents_encodes_what_its_comment_says(tmp_path: Path) -> None:
    page = (ROOT / "docs/reference/generated.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```c\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "npu_v1.h").write_text(c_header(BASE), encoding="ascii")
    (tmp_path / "example.c").write_text(example, encoding="ascii")
    main = PROGRAM.replace('"set.h"', '"example.c"').format(calls="  show(softmax_step(words), words);")
    (tmp_path / "main.c").write_text(main, encoding="ascii")
    subprocess.run([*STRICT, "-o", "main", "main.c"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout.split()
    text = """
        vsub.fp16 dst=d10 a=d11 b=d12 rows=s0 cols=s1 | if not_first(l1) wait m2 set m5
        vexp.fp16 dst=d10 a=d10 rows=s0 cols=s1
    """
    assert printed == ["4", *(f"{int(word):016x}" for word in encode_program(BASE, assemble_insns(BASE, text)))]


def test_masks_cover_every_field_of_every_format() -> None:
    text = c_header(BASE)
    macros = dict(re.findall(r"^#define (NPU_\w+_(?:WORD|SHIFT|MASK)) (?:UINT64_C\()?(\w+)\)?$", text, re.MULTILINE))
    for instruction in BASE.instructions.values():
        for operand in instruction.operands:
            stem = f"NPU_{instruction.format}_{operand.name}".upper()
            bits = operand.bits
            assert int(macros[f"{stem}_WORD"]) == bits.word
            assert int(macros[f"{stem}_SHIFT"]) == bits.low
            assert int(macros[f"{stem}_MASK"], 16) == ((1 << bits.width) - 1) << bits.low
    assert macros["NPU_HEAD_WAIT1_MASK"] == "0x7e00000"


def test_codes_are_those_of_the_set() -> None:
    text = c_header(BASE)
    codes = {name: int(value, 16) for name, value in re.findall(r"^  (NPU_\w+) = (0x\w+),?$", text, re.MULTILINE)}
    assert {name: codes[f"NPU_OP_{name.upper()}"] for name in BASE.instructions} == {
        name: instruction.opcode for name, instruction in BASE.instructions.items()
    }
    assert codes["NPU_DTYPE_FP8_E5M2"] == 7
    assert codes["NPU_UNIT_STORE"] == 6
    assert codes["NPU_CLASS_FEATURE_OFF"] == 4
    assert f'#define NPU_ISA_HASH "{BASE.hash}"' in text
    assert "npu_encode_ldx" in text
    assert "npu_encode_ldx" not in c_header(isa_without("indexed"))
